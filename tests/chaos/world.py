"""Where storms happen: a Ray cluster of several nodes, S3 behind a proxy, a small disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from ray._common.utils import get_ray_address_file
from ray._private.utils import read_ray_address
from ray.cluster_utils import Cluster

from sfray.config import StorageSpec
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from tests.chaos.far_network import FarNetwork, far_network
from tests.integration.faulty_proxy import FaultyProxy, faulty_proxy
from tests.integration.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3_server

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_VIDEOS = 50
NUM_QUESTIONS = 2
NUM_NODES = 2
CPUS_PER_NODE = 2
_NUM_DISTINCT_VIDEOS = 5
_DISK_BYTES = 32 * 2**20
_STARTS = 5
# A node that doesn't answer is given up after some 20 seconds.
_HEALTH = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}


@dataclass
class World:
    """The nodes that work are `nodes`; the head has no CPU, as KubeRay's.

    One of the nodes is in the far network, where there is one.
    """

    folder: Path
    cluster: Cluster
    server: S3Server
    proxy: FaultyProxy
    disk: Path | None
    far: FarNetwork | None
    nodes: list[Any] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def storage(self) -> StorageSpec:
        """S3 as drivers reach it: through the proxy."""
        return self.server.storage.model_copy(update={"endpoint_url": self.proxy.endpoint_url})

    def heal(self) -> None:
        """Brings the number of working nodes up to what it was."""
        while len(self.nodes) < NUM_NODES:
            if self.far is None or self.far_nodes:
                node = _add_node(self.cluster, num_cpus=CPUS_PER_NODE)
            else:
                with self.far.entered():
                    address = self.far.address
                    node = _add_node(self.cluster, num_cpus=CPUS_PER_NODE, node_ip_address=address)
            self.nodes.append(node)

    @property
    def far_nodes(self) -> list[Any]:
        """The nodes in the far network."""
        return [n for n in self.nodes if self.far and n.node_ip_address == self.far.address]

    def kill(self, node: Any) -> None:
        """Ends a node's processes without a word."""
        self.nodes.remove(node)
        workers = node_processes(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for worker in workers:
            if worker.is_running():
                worker.kill()

    def is_alive(self, node: Any) -> bool:
        """Whether the cluster still counts on it."""
        table = {n["NodeID"]: n["Alive"] for n in self.cluster.global_state.node_table()}
        return table.get(node.node_id, False)

    def start_driver(self, told: Path, log: Path, variables: dict[str, str]) -> psutil.Popen:
        """A driver process; what it says goes to the end of `log`."""
        with log.open("ab") as stream:
            return psutil.Popen(
                [sys.executable, "-m", "tests.chaos.driver", str(told)],
                cwd=REPOSITORY,
                env=os.environ | variables,
                stdout=stream,
                stderr=stream,
            )


def node_processes(node: Any) -> list[psutil.Process]:
    """A node's raylet and all that it started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]


def _add_node(cluster: Cluster, **arguments: Any) -> Any:
    """A started node; on a machine that is busy with other work, Ray's half a minute may pass."""
    before = set(psutil.Process().children())
    for _ in range(_STARTS):
        try:
            return cluster.add_node(**arguments)
        except Exception as error:  # Ray raises no other class
            if "timed out during startup" not in str(error):
                raise
            for process in set(psutil.Process().children()) - before:
                process.kill()
    raise RuntimeError(f"a Ray node did not start, {_STARTS} times")


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything started, and stopped at the end."""
    _write_manifest(folder)
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(REPOSITORY),  # of the workers, which nodes start
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",  # else whatever else this machine does starves the workers
    }
    before = dict(os.environ)
    os.environ.update(variables)
    cluster = Cluster()
    try:
        _add_node(cluster, num_cpus=0, include_dashboard=False, _system_config=_HEALTH)
        # Whoever starts another job on this machine is not to find this cluster by itself.
        if read_ray_address() == cluster.address:
            Path(get_ray_address_file(None)).unlink()
        with ExitStack() as stack:
            server = stack.enter_context(running_s3_server(folder / "s3"))
            proxy = stack.enter_context(faulty_proxy(server.endpoint_url))
            disk = stack.enter_context(_small_disk(folder / "disk"))
            far = stack.enter_context(far_network())
            running = World(folder, cluster, server, proxy, disk, far)
            running.heal()
            yield running
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def _write_manifest(folder: Path) -> None:
    """Videos by several names, so that few have to be made."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    rows = []
    for number in range(NUM_VIDEOS):
        path = videos / f"v{number:03d}.mp4"
        if number < _NUM_DISTINCT_VIDEOS:
            write_video(path, render(make_scene(number)))
        else:
            path.hardlink_to(videos / f"v{number % _NUM_DISTINCT_VIDEOS:03d}.mp4")
        rows += [
            {
                "video_uri": str(path),
                "video_id": path.stem,
                "question_id": f"q{q}",
                "question": f"what {q}",
            }
            for q in range(NUM_QUESTIONS)
        ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system that is soon full; None where this process may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:  # noqa: S603
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607


def wait_until(condition: Any, seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
