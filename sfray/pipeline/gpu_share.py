"""The share of a GPU that a replica gets, by what its model needs and what the GPUs have."""

from __future__ import annotations

import logging
import math

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sfray.config import JobSpec
from sfray.errors import ClusterError
from sfray.model.memory import GIB, MemoryNeed, memory_need
from sfray.model.profile import ModelProfile

# Just enough of a GPU for Ray to show it to the task that asks for its size.
_ASKING_GPUS = 0.01
_MOST_SECONDS = 60
logger = logging.getLogger("sfray")


def with_gpu_share(spec: JobSpec, profile: ModelProfile) -> JobSpec:
    """The job with a number in place of `auto`, where the cluster has GPUs that tell their memory.

    Raises:
        RunError: the share that the job names, or a whole GPU, is too small for one request.
    """
    gpu_bytes = _smallest_gpu()
    if gpu_bytes is None:
        return spec
    share = share_for(spec, memory_need(spec, profile), gpu_bytes)
    resources = spec.resources.model_copy(update={"num_gpus_per_replica": share})
    return spec.model_copy(update={"resources": resources})


def share_for(spec: JobSpec, need: MemoryNeed, gpu_bytes: int) -> float:
    """The job's own share if one request fits into it, else as many replicas as do well on a GPU.

    Raises:
        ClusterError: one request doesn't fit.
    """
    asked = spec.resources.num_gpus_per_replica
    share = 1.0 if asked == "auto" else asked
    if need.fitting(share * gpu_bytes) is None:
        least = math.ceil(100 * need.least_bytes / gpu_bytes) / 100
        if least > 1:
            least = math.ceil(least)
        advice = f"{least:g} or more is needed"
        if least > 1:
            advice += ", and model.engine: vllm to use several GPUs"
        raise ClusterError(
            f"resources.num_gpus_per_replica is {asked}, but {spec.model.id} with one request "
            f"takes {need.least_bytes / GIB:.1f} GiB and a GPU of this cluster has "
            f"{gpu_bytes / GIB:.1f} GiB: {advice}"
        )
    if asked != "auto":
        return asked
    # Rounded down to Ray's steps, so that three thirds are no more than one GPU.
    return math.floor(10_000 / need.replicas_on(gpu_bytes)) / 10_000


def _smallest_gpu() -> int | None:
    """Bytes of the smallest GPU, one of each kind asked by a task: torch knows them, Ray doesn't.

    None without GPUs, or if torch doesn't see them, or if others hold all of them.
    """
    kinds = {
        frozenset(name for name in node["Resources"] if name.startswith("accelerator_type:")): node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    }
    asked = [
        _gpu_bytes.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in kinds.values()
    ]
    if not asked:
        return None
    answered, busy = ray.wait(asked, num_returns=len(asked), timeout=_MOST_SECONDS)
    for task in busy:
        ray.cancel(task)
    if busy:
        logger.warning("%d kinds of GPUs are busy: their memory isn't known", len(busy))
    return min((size for size in ray.get(answered) if size is not None), default=None)


@ray.remote(num_cpus=0, num_gpus=_ASKING_GPUS, max_calls=1)
def _gpu_bytes() -> int | None:
    """Of the GPU that this task sees; it ends with its process, and with CUDA's share of memory."""
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory
