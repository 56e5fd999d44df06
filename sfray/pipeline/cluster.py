"""The Ray cluster at hand, and the share of it that a job's actors take."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import ray
from ray.exceptions import AuthenticationError

from sfray.config import ResourcesSpec
from sfray.errors import ClusterError
from sfray.pipeline.ray_internals import draining_nodes, last_ray_address
from sfray.process import environment

# Set by Ray on every node that KubeRay or `ray up` makes.
NODE_GROUP_LABEL = "ray.io/node-group"

logger = logging.getLogger("sfray")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSize:
    """What a node has, and the node group it belongs to."""

    cpus: float
    gpus: float = 0.0
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShare:
    """What one actor of each stage takes, and how many there may be."""

    decode_cpus: float
    decode_actors: tuple[int, int]
    decode_node_group: str | None
    model_cpus: float
    model_gpus: float
    model_actors: tuple[int, int]
    model_threads: int | None

    @property
    def model_env(self) -> dict[str, str]:
        """Variables of a replica's process."""
        return {"OMP_NUM_THREADS": str(self.model_threads)} if self.model_threads else {}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Joins the Ray cluster at `address`, or the one at hand, or starts a local one.

    It is left in the end, and a local one ends; one that this process was in before is not left.

    Raises:
        ClusterError: there is none, or it refuses.
    """
    if ray.is_initialized():
        yield
        return
    # Ray tells of workers that died on standard output, where a command's JSON goes.
    with redirect_stdout(sys.stderr):
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None and (last := last_ray_address()) and not _listens(last):
        # The file that holds it outlives a killed cluster.
        logger.info("the Ray cluster at %s is gone: a local one is started", last)
        address = "local"
    elif address is not None and not _listens(address):
        raise ClusterError(f"no Ray cluster at {address!r}: nobody listens there")
    # Ray's native log repeats on the terminal what its files hold.
    level = os.environ.get("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with own_sigterm(), environment(RAY_BACKEND_LOG_LEVEL=level):
            # Of a Ray that is started here: the dashboard takes 0.9 GB and opens a port, and its
            # address is told to nobody.
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except AuthenticationError as error:
        raise ClusterError(
            "the Ray cluster wants a token: set RAY_AUTH_MODE=token, and the cluster's token in "
            "RAY_AUTH_TOKEN or its file in RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address!r}: {error}") from error
    except Exception as error:  # Ray has no type for it
        if "timed out during startup" not in str(error):
            raise
        raise ClusterError(
            "a local Ray did not start in time: this machine is too busy, or has too little memory"
        ) from error


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keeps this program's answer to SIGTERM: inside, Ray sets one with an exit code of its own."""
    answer = signal.getsignal(signal.SIGTERM)
    if not callable(answer) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as error:  # Ray's answer
        raise SystemExit(128 + signal.SIGTERM) from error
    finally:
        signal.signal(signal.SIGTERM, answer)


def _listens(address: str) -> bool:
    """Whether somebody listens at HOST:PORT, where Ray itself would wait for minutes; True of
    addresses of another form, which are Ray's to judge."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdecimal():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError):
        return False
    return True


def cluster_share(resources: ResourcesSpec) -> ClusterShare:
    """Fits the job to the cluster at hand, without nodes that are told to go; see `share_of`."""
    going = draining_nodes()
    nodes = [
        NodeSize(
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            group=node["Labels"].get(NODE_GROUP_LABEL),
        )
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in going
    ]
    return share_of(resources, nodes)


def share_now(resources: ResourcesSpec, first: ClusterShare) -> ClusterShare:
    """The share of what is left of a cluster that a job began on with its `first` one.

    Actors for nodes that are gone would wait for them, with what the others need. Where nothing
    is left that could do the work, the first share stays, and the job waits for nodes.
    """
    try:
        share = cluster_share(resources)
    except ClusterError as error:
        logger.warning("the job waits for nodes: %s", error)
        return first
    return share if (share.model_gpus > 0) == (first.model_gpus > 0) else first


def share_of(resources: ResourcesSpec, nodes: list[NodeSize]) -> ClusterShare:
    """Fits a job to these nodes, or to those that an autoscaling cluster will have.

    Without a GPU there is one model replica a node, with the node's cores as its threads. On one
    or two CPUs both stages take a part of a CPU, since a pool that can't get its one actor would
    starve the other.

    Raises:
        ClusterError: the cluster has no CPU, no node of the group that is to decode, or less of a
            GPU than one replica is to have.
    """
    if resources.autoscaling:
        return _share_of_growing(resources, nodes)
    node_cpus = [node.cpus for node in nodes if node.cpus]
    num_cpus, num_gpus = sum(node_cpus), sum(node.gpus for node in nodes)
    if not num_cpus:
        raise ClusterError(
            "the cluster has no CPUs; one that adds nodes needs resources.autoscaling"
        )
    small = num_cpus <= 2
    decode_max = _decode_cpus(resources.decode_node_group, nodes, spare=0 if small else 1)
    decode, wanted = resources.decode_workers, resources.model_replicas
    decode_actors = _bounded(decode.min, decode.max, decode_max)
    cpus = num_cpus / 4 if small else 1.0
    if num_gpus == 0:
        return ClusterShare(
            decode_cpus=cpus,
            decode_actors=decode_actors,
            decode_node_group=resources.decode_node_group,
            model_cpus=cpus,
            model_gpus=0.0,
            model_actors=_bounded(wanted.min, wanted.max, len(node_cpus)),
            model_threads=int(min(node_cpus)),
        )
    asked = resources.num_gpus_per_replica
    share = 1.0 if asked == "auto" else asked
    if share > num_gpus:
        raise ClusterError(
            f"resources.num_gpus_per_replica is {share:g}, but the cluster has {num_gpus:g} GPUs"
        )
    # A replica lies on one GPU: what is left of each is lost.
    fitting = int(num_gpus * math.floor(1 / share)) if share <= 1 else int(num_gpus // share)
    return ClusterShare(
        decode_cpus=cpus,
        decode_actors=decode_actors,
        decode_node_group=resources.decode_node_group,
        model_cpus=0.0 if small else 1.0,
        model_gpus=share,
        model_actors=_bounded(wanted.min, wanted.max, fitting),
        model_threads=None,
    )


def _share_of_growing(resources: ResourcesSpec, nodes: list[NodeSize]) -> ClusterShare:
    """The job's own bounds: what is there at the start says only whether there are GPUs."""
    asked = resources.num_gpus_per_replica
    if asked == "auto":
        asked = 1.0 if any(node.gpus for node in nodes) else 0.0
    decode, model = resources.decode_workers, resources.model_replicas
    return ClusterShare(
        decode_cpus=1.0,
        decode_actors=(decode.min, decode.max),
        decode_node_group=resources.decode_node_group,
        model_cpus=1.0,
        model_gpus=asked,
        model_actors=(model.min, model.max),
        model_threads=None,
    )


def _decode_cpus(group: str | None, nodes: list[NodeSize], spare: int) -> int:
    """CPUs for decoding: those of the group, less `spare` for the model where no other has them."""
    own = sum(node.cpus for node in nodes if group in (None, node.group))
    if not own:
        groups = ", ".join(sorted({node.group for node in nodes if node.group})) or "none"
        raise ClusterError(
            f"resources.decode_node_group is {group!r}, but no node of that group has a CPU; "
            f"the groups of the cluster: {groups}"
        )
    elsewhere = sum(node.cpus for node in nodes) - own
    return int(own) if elsewhere >= spare else int(own) - spare


def _bounded(low: int, high: int, fitting: int) -> tuple[int, int]:
    top = max(1, min(high, fitting))
    return min(low, top), top
