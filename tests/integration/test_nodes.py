"""Several nodes on this machine: which node does what, and what happens when one goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import ray
from ray.cluster_utils import Cluster

from sfray.config import JobSpec
from sfray.runs.run import run_job
from tests.integration.fake_stages import Script
from tests.integration.local_ray import leave_ray
from tests.integration.test_run import job
from tests.waiting import wait_until

pytestmark = pytest.mark.own_ray


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A head without work, as KubeRay's."""
    leave_ray()  # the process may be in the Ray of other tests
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """That head; the nodes that the test adds go with it."""
    yield head
    leave_ray()
    for node in list(head.worker_nodes):
        head.remove_node(node)
    wait_until(lambda: sum(node["Alive"] for node in head.global_state.node_table()) == 1, "an end")


def add_node(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, group: str, **resources: float
) -> Any:
    # Where KubeRay and `ray up` tell a node its group.
    monkeypatch.setenv("RAY_NODE_TYPE_NAME", group)
    return cluster.add_node(**resources)


def noted_nodes(folder: Path, stage: str) -> set[str]:
    return {path.name.removeprefix(f"{stage}-on-") for path in folder.glob(f"{stage}-on-*")}


def answered(spec: JobSpec) -> list[str]:
    table = ds.dataset(f"{spec.output.uri}/answers", format="parquet").to_table(["request_id"])
    return table["request_id"].to_pylist()


def test_decoding_is_on_its_group_and_the_model_where_the_gpus_are(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = add_node(cluster, monkeypatch, "cpu", num_cpus=2)
    gpu = add_node(cluster, monkeypatch, "gpu", num_cpus=3, num_gpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    spec = job(
        tmp_path,
        resources={
            "decode_node_group": "cpu",
            "decode_workers": {"min": 2, "max": 8},
            "num_gpus_per_replica": 0.5,
            "model_replicas": {"min": 2, "max": 8},
        },
    )
    summary = run_job(spec, stages=Script(folder=tmp_path, note_nodes=True).stages())
    assert (summary.num_answers, summary.exit_code) == (24, 0)
    assert noted_nodes(tmp_path, "decode") == {cpu.node_id}
    assert noted_nodes(tmp_path, "answer") == {gpu.node_id}


def run_while_a_node_goes(folder: Path, node_id: str, leave: Callable[[], None]) -> set[str]:
    """Runs a job, has a node leave once it works for it, and returns the nodes that answered."""
    spec = job(
        folder,
        num_videos=60,
        resources={"decode_workers": {"max": 2}, "model_replicas": {"max": 2}},
    )
    errors: list[BaseException] = []

    def wait_and_leave() -> None:
        try:
            wait_until(
                lambda: node_id in noted_nodes(folder, "decode") | noted_nodes(folder, "answer"),
                "work on the node that goes",
            )
            leave()
        except BaseException as error:  # told of by the thread that tests
            errors.append(error)

    thread = threading.Thread(target=wait_and_leave, daemon=True)
    thread.start()
    script = Script(folder=folder, note_nodes=True, seconds=0.2)
    summary = run_job(spec, stages=script.stages())
    thread.join(timeout=60)
    assert not thread.is_alive() and not errors, errors
    assert (summary.num_answers, summary.num_failures, summary.exit_code) == (120, 0, 0)
    found = answered(spec)
    assert len(found) == len(set(found)) == 120, "none is lost and none is there twice"
    return noted_nodes(folder, "answer")


def test_a_node_that_drains_and_goes_costs_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stays = add_node(cluster, monkeypatch, "spot", num_cpus=2)
    goes = add_node(cluster, monkeypatch, "spot", num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)

    def drain() -> None:
        seconds = 2
        accepted, _ = goes.get_gcs_client().drain_node(
            goes.node_id,
            ray.core.generated.autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION,
            "spot capacity is gone",
            int((time.time() + seconds) * 1000),
        )
        assert accepted
        time.sleep(seconds)
        cluster.remove_node(goes, allow_graceful=False)

    assert stays.node_id in run_while_a_node_goes(tmp_path, goes.node_id, drain)
