"""The Ray cluster at hand, and the share of it that a job's actors take."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass

import ray

from sfray.config import ResourcesSpec
from sfray.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShare:
    """What one actor of each stage takes, and how many there may be."""

    decode_cpus: float
    decode_actors: tuple[int, int]
    model_cpus: float
    model_gpus: float
    model_actors: tuple[int, int]
    model_threads: int | None


def connect(address: str | None) -> bool:
    """Joins the Ray cluster at `address`, or the one at hand, or starts a local one.

    Returns:
        whether this call connected, so that the caller disconnects in the end.
    """
    if ray.is_initialized():
        return False
    # Ray's native log repeats on the terminal what its files hold.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise RunError(f"no Ray cluster at {address!r}: {error}") from error
    return True


def disconnect() -> None:
    """Leaves the cluster; a local one that `connect` started ends."""
    ray.shutdown()


def cluster_share(resources: ResourcesSpec) -> ClusterShare:
    """Fits the job to the cluster at hand; see `share_of`."""
    totals = ray.cluster_resources()
    nodes = [n["Resources"]["CPU"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
    return share_of(resources, nodes, totals.get("GPU", 0.0))


def share_of(resources: ResourcesSpec, node_cpus: list[float], num_gpus: float) -> ClusterShare:
    """Fits a job to nodes with so many CPUs each and so many GPUs in all.

    Without a GPU there is one model replica a node, with the node's cores as its threads. On one
    or two CPUs both stages take a part of a CPU, since a pool that can't get its one actor would
    starve the other.

    Raises:
        RunError: the cluster has less of a GPU than one replica is to have.
    """
    num_cpus = sum(node_cpus)
    small = num_cpus <= 2
    decode_max = max(1, int(num_cpus)) if small else int(num_cpus) - 1
    decode, wanted = resources.decode_workers, resources.model_replicas
    decode_actors = _bounded(decode.min, decode.max, decode_max)
    cpus = num_cpus / 4 if small else 1.0
    if num_gpus == 0:
        return ClusterShare(
            decode_cpus=cpus,
            decode_actors=decode_actors,
            model_cpus=cpus,
            model_gpus=0.0,
            model_actors=_bounded(wanted.min, wanted.max, len(node_cpus)),
            model_threads=int(min(node_cpus)),
        )
    asked = resources.num_gpus_per_replica
    share = 1.0 if asked == "auto" else asked
    if share > num_gpus:
        raise RunError(
            f"resources.num_gpus_per_replica is {share:g}, but the cluster has {num_gpus:g} GPUs"
        )
    # A replica lies on one GPU: what is left of each is lost.
    fitting = int(num_gpus * math.floor(1 / share)) if share <= 1 else int(num_gpus // share)
    return ClusterShare(
        decode_cpus=cpus,
        decode_actors=decode_actors,
        model_cpus=0.0 if small else 1.0,
        model_gpus=share,
        model_actors=_bounded(wanted.min, wanted.max, fitting),
        model_threads=None,
    )


def _bounded(low: int, high: int, fitting: int) -> tuple[int, int]:
    top = max(1, min(high, fitting))
    return min(low, top), top
