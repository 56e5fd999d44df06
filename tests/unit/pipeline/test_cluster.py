import socket

import pytest

from sfray.config import ResourcesSpec
from sfray.errors import ClusterError
from sfray.pipeline import cluster
from sfray.pipeline.cluster import NodeSize, share_now, share_of


def resources(**changes: object) -> ResourcesSpec:
    return ResourcesSpec.model_validate(changes)


@pytest.mark.parametrize("num_cpus", [1.0, 2.0])
def test_both_stages_fit_on_a_small_machine(num_cpus: float) -> None:
    share = share_of(resources(), [NodeSize(cpus=num_cpus)])
    assert share.decode_cpus * share.decode_actors[0] + share.model_cpus <= num_cpus
    assert share.model_threads == num_cpus


def test_without_a_gpu_there_is_a_replica_a_node() -> None:
    share = share_of(resources(), [NodeSize(cpus=8), NodeSize(cpus=4)])
    assert share.model_actors == (1, 2)
    assert share.decode_actors == (1, 11)
    assert share.model_threads == 4


@pytest.mark.parametrize(
    ("asked", "fitting"), [("auto", 2), (1.0, 2), (0.5, 4), (0.34, 4), (0.25, 8)]
)
def test_replicas_share_gpus_by_the_fraction_asked_for(asked: float | str, fitting: int) -> None:
    share = share_of(resources(num_gpus_per_replica=asked), [NodeSize(cpus=16, gpus=2)])
    assert share.model_actors == (1, fitting)
    assert share.model_gpus == (1.0 if asked == "auto" else asked)


def test_the_job_bounds_the_pools() -> None:
    asked = resources(
        decode_workers={"min": 2, "max": 3},
        model_replicas={"min": 2, "max": 2},
        num_gpus_per_replica=0.5,
    )
    share = share_of(asked, [NodeSize(cpus=16, gpus=4)])
    assert share.decode_actors == (2, 3) and share.model_actors == (2, 2)


def test_a_replica_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"0\.5 GPUs"):
        share_of(resources(num_gpus_per_replica=1.0), [NodeSize(cpus=16, gpus=0.5)])


HEAD = NodeSize(cpus=0)
CPU_NODE = NodeSize(cpus=8, group="cpu")
GPU_NODE = NodeSize(cpus=8, gpus=1, group="gpu")


def test_decoding_takes_the_cpus_of_its_group() -> None:
    asked = resources(decode_node_group="cpu", decode_workers={"max": 100})
    share = share_of(asked, [HEAD, CPU_NODE, CPU_NODE, GPU_NODE])
    assert (share.decode_actors, share.decode_node_group) == ((1, 16), "cpu")
    alone = share_of(asked, [HEAD, CPU_NODE])
    assert alone.decode_actors == (1, 7), "the model needs a CPU too"


def test_a_group_that_is_not_there_is_refused() -> None:
    for nodes in ([HEAD, CPU_NODE, GPU_NODE], [NodeSize(cpus=1, group="cpu")]):
        with pytest.raises(ClusterError, match=r"'cpus', but no node .* the cluster: cpu"):
            share_of(resources(decode_node_group="cpus"), nodes)


def test_a_cluster_without_cpus_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"no CPUs; .* resources\.autoscaling"):
        share_of(resources(), [HEAD])


def test_what_is_left_of_a_cluster_is_shared_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    first = share_of(resources(), [CPU_NODE, CPU_NODE])
    left = share_of(resources(), [CPU_NODE])
    assert left != first
    monkeypatch.setattr(cluster, "cluster_share", lambda _: left)
    assert share_now(resources(), first) == left


def test_a_job_waits_for_nodes_rather_than_end_or_do_without_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = share_of(resources(), [CPU_NODE, GPU_NODE])
    for nodes in ([CPU_NODE], [HEAD]):
        monkeypatch.setattr(
            cluster, "cluster_share", lambda asked, left=nodes: share_of(asked, left)
        )
        assert share_now(resources(), first) == first


def test_a_growing_cluster_keeps_the_bounds_and_waits_for_gpus() -> None:
    asked = resources(
        autoscaling=True,
        num_gpus_per_replica=0.5,
        decode_workers={"max": 120},
        model_replicas={"min": 2, "max": 16},
    )
    for nodes in ([HEAD], [HEAD, CPU_NODE], [HEAD, GPU_NODE]):
        share = share_of(asked, nodes)
        assert (share.decode_actors, share.model_actors) == ((1, 120), (2, 16))
        assert (share.model_gpus, share.decode_cpus, share.model_cpus) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize(("nodes", "num_gpus"), [([HEAD], 0.0), ([HEAD, GPU_NODE], 1.0)])
def test_a_growing_cluster_has_gpus_when_it_shows_them(
    nodes: list[NodeSize], num_gpus: float
) -> None:
    assert share_of(resources(autoscaling=True), nodes).model_gpus == num_gpus


def test_a_cluster_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str | None] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster.ray, "init", lambda address, **_: joined.append(address))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(cluster, "last_ray_address", lambda: address)
        join(None)  # it listens: Ray finds it by itself
        join(address)
    join(None)  # nobody listens any more
    for named in (address, f"ray://{address}"):
        with pytest.raises(ClusterError, match="nobody listens there"):
            join(named)
    monkeypatch.setattr(cluster, "last_ray_address", lambda: None)
    join(None)
    assert joined == [None, address, "local", None]


def join(address: str | None) -> None:
    with cluster.connected(address):
        pass
