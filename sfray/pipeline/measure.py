"""Measures some clips of a job on the cluster at hand; nothing is written.

Workers first, then the model: where both share the cores, each is measured alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import numpy as np
import pyarrow as pa
import ray

from sfray.config import ResourcesSpec
from sfray.errors import SpecError
from sfray.model.memory import ITEMS_IN_FLIGHT
from sfray.pipeline.actors import AnswerStage, DecodeStage, Stages
from sfray.pipeline.cluster import ClusterShare, NodeSize, connected, share_of
from sfray.pipeline.placement import place_job
from sfray.planning.plan import JobPlan, pinned
from sfray.planning.prediction import Capacity, ClipTimes, Measured, shares_of_time
from sfray.planning.work_items import clip_starts, work_item_blocks
from sfray.records import DecodedItem, WorkItem, work_item_from_row


def sample_clips(requests: pa.Table, num_clips: int, seed: int) -> pa.Table:
    """All requests of a random sample of clips, in the order of work.

    Args:
        requests: sorted so that the requests of one clip are adjacent.
    """
    starts = clip_starts(requests)
    ends = np.append(starts[1:], requests.num_rows)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(starts), size=min(num_clips, len(starts)), replace=False))
    return requests.take(np.concatenate([np.arange(starts[i], ends[i]) for i in chosen]))


def measure(
    plan: JobPlan,
    requests: pa.Table,
    capacity: tuple[int | None, int | None] = (None, None),
    address: str | None = None,
    stages: Stages | None = None,
) -> tuple[Measured, Capacity]:
    """Decodes and answers requests and says what each clip took.

    Args:
        requests: the sample, as of `sample_clips`; at least one.
        capacity: CPUs and GPUs that the job would have; None for as many as the cluster has.
        stages: other stages than the plan's.

    Raises:
        RunError: what would stop the job, too.
    """
    if not requests.num_rows:
        raise SpecError("nothing is left to do, so there is nothing to measure")
    plan = pinned(plan)
    if stages is None:
        plan.checkpoint.check()
    blocks = work_item_blocks(requests, plan.requests.passthrough, 1, attempt=1)
    items = [work_item_from_row(block.to_pylist()[0]) for block in blocks]
    began = time.monotonic()
    with connected(address):
        placed = place_job(plan, stages)
        share = placed.first
        wanted = _capacity(placed.resources, capacity)
        if (wanted.num_gpus > 0) != (share.model_gpus > 0):
            where = "a GPU" if share.model_gpus else "CPUs"
            raise SpecError(
                f"--gpus {wanted.num_gpus}: this cluster runs the model on {where}, and what is "
                "measured there says nothing of the other"
            )
        return _measure(items, placed.stages, share, began), wanted


def _capacity(resources: ResourcesSpec, wanted: tuple[int | None, int | None]) -> Capacity:
    """What the job would have of so many CPUs and GPUs, on one node if they are given."""
    totals = ray.cluster_resources()
    num_cpus = wanted[0] or int(totals["CPU"])
    num_gpus = int(totals.get("GPU", 0)) if wanted[1] is None else wanted[1]
    node = NodeSize(cpus=num_cpus, gpus=num_gpus, group=resources.decode_node_group)
    share = share_of(resources.model_copy(update={"autoscaling": False}), [node])
    return Capacity(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        num_workers=share.decode_actors[1],
        num_replicas=share.model_actors[1],
    )


def _measure(items: list[WorkItem], stages: Stages, share: ClusterShare, began: float) -> Measured:
    workers = [
        _Worker.options(num_cpus=share.decode_cpus).remote(stages.make_decode)  # type: ignore[attr-defined]
        for _ in range(min(share.decode_actors[1], len(items)))
    ]
    replica = _Replica.options(  # type: ignore[attr-defined]
        num_cpus=share.model_cpus,
        num_gpus=share.model_gpus,
        max_concurrency=ITEMS_IN_FLIGHT,
        runtime_env={"env_vars": share.model_env},
    ).remote(stages.make_answer)
    try:
        ray.get([actor.ready.remote() for actor in (*workers, replica)])
        ready = time.monotonic()
        decoded, times = zip(
            *[
                worker.decode.remote(item)
                for worker, item in zip(cycle(workers), items, strict=False)
            ],
            strict=True,
        )
        times_of_items = ray.get(list(times))
        warming = time.monotonic()
        answerable = [
            one for one, (_, _, code) in zip(decoded, times_of_items, strict=True) if code is None
        ]
        ray.get([replica.answer.remote(one) for one in answerable[:1]])
        startup_seconds = ready - began + time.monotonic() - warming
        spans = ray.get([replica.answer.remote(one) for one in decoded])
    finally:
        for actor in (*workers, replica):
            ray.kill(actor)
    return Measured(
        clips=tuple(
            ClipTimes(
                video_id=item.video_id,
                fetch_seconds=fetch,
                decode_seconds=decode,
                replica_seconds=seconds,
            )
            for item, (fetch, decode, _), seconds in zip(
                items, times_of_items, shares_of_time(spans), strict=True
            )
        ),
        replica_cores=0 if share.model_gpus else int(share.model_threads or share.model_cpus),
        startup_seconds=startup_seconds,
        failures_by_code=dict(Counter(code for _, _, code in times_of_items if code is not None)),
    )


@ray.remote
class _Worker:
    """A decode stage that says what each clip took."""

    def __init__(self, make_stage: Callable[[], DecodeStage]) -> None:
        self._stage = make_stage()

    def ready(self) -> None:
        """Returns once the stage is made."""

    @ray.method(num_returns=2)
    def decode(self, item: WorkItem) -> tuple[DecodedItem, tuple[float, float, str | None]]:
        """The item, and its seconds of fetching and decoding with its failure's code."""
        decoded = self._stage(item)
        code = decoded.failure.code if decoded.failure else None
        return decoded, (decoded.fetch_seconds, decoded.decode_seconds, code)


@ray.remote
class _Replica:
    """A model stage that says when it worked on each clip."""

    def __init__(self, make_stage: Callable[[], AnswerStage]) -> None:
        self._stage = make_stage()

    async def ready(self) -> None:
        """Returns once the model is loaded."""

    async def answer(self, decoded: DecodedItem) -> tuple[float, float]:
        """When work on the clip began and ended, by this process's clock."""
        began = time.monotonic()
        await self._stage(decoded)
        return began, time.monotonic()
