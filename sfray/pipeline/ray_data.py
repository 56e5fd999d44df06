"""The two stages on Ray Data. With cluster code, this is the only place that knows Ray."""

from __future__ import annotations

import copy
import logging
import math
import queue
import threading
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from sfray.config import ResourcesSpec
from sfray.errors import RunError
from sfray.records import (
    DecodedItem,
    Outcome,
    RunIdentity,
    WorkItem,
    decoded_item_from_table,
    decoded_item_row,
    decoded_items_schema,
    outcome_row,
    outcomes_schema,
    work_item_from_row,
)
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad, StageState

# Work items in flight in one model replica: enough that decode steps of many videos share
# batches, few enough that their frames (17 MB for 50 frames of 336 x 336) stay small.
_MODEL_ITEMS_IN_FLIGHT = 16
# An actor that dies is started again this often, and a task that was on it is tried once more;
# beyond that its rows are lost to Ray Data, and the run accounts for them by id.
_MAX_ACTOR_RESTARTS = 3
_MAX_TASK_RETRIES = 1
# Small blocks, so that a decoded video moves on at once instead of waiting for its neighbours.
_TARGET_BLOCK_BYTES = 2**20
_STREAM_KEY = "sfray_stream"
_streams: weakref.WeakValueDictionary[str, StageStream] = weakref.WeakValueDictionary()


class DecodeStage(Protocol):
    def __call__(self, item: WorkItem) -> DecodedItem: ...


class AnswerStage(Protocol):
    def __call__(self, decoded: DecodedItem) -> Awaitable[list[Outcome]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How the actors make their stages. The callables travel to the actors."""

    make_decode: Callable[[], DecodeStage]
    make_answer: Callable[[], AnswerStage]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShare:
    """What one actor of each stage takes, and how many there may be."""

    decode_cpus: float
    decode_actors: tuple[int, int]
    model_cpus: float
    model_gpus: float
    model_actors: tuple[int, int]
    model_threads: int | None


class _DecodeActor:
    def __init__(self, make_stage: Callable[[], DecodeStage], schema: pa.Schema) -> None:
        self._stage = make_stage()
        self._schema = schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        item = work_item_from_row(batch.to_pylist()[0])
        return pa.Table.from_pylist([decoded_item_row(self._stage(item))], schema=self._schema)


class _AnswerActor:
    def __init__(
        self, make_stage: Callable[[], AnswerStage], run: RunIdentity, schema: pa.Schema
    ) -> None:
        self._stage = make_stage()
        self._run = run
        self._schema = schema

    async def __call__(self, batch: pa.Table) -> pa.Table:
        outcomes = await self._stage(decoded_item_from_table(batch, 0))
        rows = [outcome_row(outcome, self._run) for outcome in outcomes]
        return pa.Table.from_pylist(rows, schema=self._schema)


def connect(address: str | None) -> bool:
    """Joins the Ray cluster at `address`, or the one at hand, or starts a local one.

    Returns:
        whether this call connected, so that the caller disconnects in the end.
    """
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise RunError(f"no Ray cluster at {address!r}: {error}") from error
    return True


def disconnect() -> None:
    """Leaves the cluster; a local one that `connect` started ends."""
    ray.shutdown()


def cluster_share(resources: ResourcesSpec, gpus_per_replica: float | None = None) -> ClusterShare:
    """Fits the job to the cluster.

    Without a GPU there is one model replica a node, with the node's cores as its threads. On one
    or two CPUs both stages take half a CPU each, since a pool that can't get its one actor would
    starve the other.
    """
    totals = ray.cluster_resources()
    num_cpus, num_gpus = totals.get("CPU", 1.0), totals.get("GPU", 0.0)
    small = num_cpus <= 2
    decode_cpus = num_cpus / 4 if small else 1.0
    decode_max = max(1, int(num_cpus)) if small else int(num_cpus) - 1
    decode_actors = _bounded(resources.decode_workers.min, resources.decode_workers.max, decode_max)
    wanted = resources.model_replicas
    if num_gpus == 0:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        cores = int(min(node["Resources"]["CPU"] for node in nodes))
        return ClusterShare(
            decode_cpus=decode_cpus,
            decode_actors=decode_actors,
            model_cpus=num_cpus / 4 if small else 1.0,
            model_gpus=0.0,
            model_actors=_bounded(wanted.min, wanted.max, len(nodes)),
            model_threads=cores,
        )
    share = gpus_per_replica or 1.0
    if share > num_gpus:
        raise RunError(
            f"resources.num_gpus_per_replica is {share:g}, but the cluster has {num_gpus:g} GPUs"
        )
    fitting = int(num_gpus) * math.floor(1 / share) if share <= 1 else int(num_gpus // share)
    return ClusterShare(
        decode_cpus=decode_cpus,
        decode_actors=decode_actors,
        model_cpus=0.0 if small else 1.0,
        model_gpus=share,
        model_actors=_bounded(wanted.min, wanted.max, fitting),
        model_threads=None,
    )


def _bounded(low: int, high: int, fitting: int) -> tuple[int, int]:
    top = max(1, min(high, fitting))
    return min(low, top), top


class StageStream:
    """The outcomes of work items as they come, read in a thread of its own.

    `poll` gives the next table, so that the caller can flush, report and stop while it waits.
    """

    def __init__(
        self,
        blocks: Iterator[pa.Table],
        stages: Stages,
        share: ClusterShare,
        run: RunIdentity,
        passthrough: pa.Schema,
        load: StageLoad,
    ) -> None:
        self._tables: queue.Queue[pa.Table | BaseException | None] = queue.Queue(maxsize=64)
        self._stopped = threading.Event()
        self._executor: StreamingExecutor | None = None
        self._load = load
        self._key = uuid.uuid4().hex
        _streams[self._key] = self
        context = self._context()
        # Options of a DataContext are read when a dataset is created.
        with DataContext.current(context):
            self._dataset = _dataset(list(blocks), stages, share, run, passthrough)
        self._thread = threading.Thread(target=self._read, args=(context,), daemon=True)
        self._thread.start()

    def poll(self, timeout_seconds: float) -> pa.Table | None:
        """The next table; None when the time is up. Raises StopIteration at the end."""
        try:
            got = self._tables.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if got is None:
            raise StopIteration
        if isinstance(got, BaseException):
            raise got
        return got

    def stop(self) -> None:
        """Ends the stream early; what is in flight is given up."""
        self._stopped.set()
        if self._executor is not None:
            self._executor.shutdown(force=True)

    def _read(self, context: DataContext) -> None:
        end: BaseException | None = None
        try:
            with DataContext.current(context):
                batches = self._dataset.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                )
                for table in batches:
                    self._tables.put(table)
        except BaseException as error:  # handed to the thread that polls
            end = None if self._stopped.is_set() else error
        self._tables.put(end)

    def _context(self) -> DataContext:
        context = copy.deepcopy(DataContext.get_current())
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = _TARGET_BLOCK_BYTES
        context.target_min_block_size = 1
        context.max_errored_blocks = -1
        context.execution_options.preserve_order = False
        context.custom_execution_callback_classes = [_Watch]
        context.set_config(_STREAM_KEY, self._key)
        return context


class _Watch(ExecutionCallback):
    """Finds the stream that an executor belongs to; Ray Data copies this class to workers, so
    that it can hold nothing itself."""

    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        if (stream := _streams.get(executor._data_context.get_config(_STREAM_KEY))) is not None:
            stream._executor = executor

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        if (stream := _streams.get(executor._data_context.get_config(_STREAM_KEY))) is not None:
            _observe(executor, stream._load)


def _observe(executor: StreamingExecutor, load: StageLoad) -> None:
    """Tells `load` what each stage does now (internal paths of Ray Data, kept here)."""
    for op in executor._topology:
        stage = next((s for s in (DECODE_STAGE, ANSWER_STAGE) if s in op.name), None)
        if stage is None:
            continue
        metrics = op.metrics
        queued = metrics.num_external_inqueue_blocks + metrics.obj_store_mem_internal_inqueue_blocks
        load.observe(stage, StageState(metrics.num_alive_actors, metrics.num_active_actors, queued))


def _dataset(
    blocks: list[pa.Table],
    stages: Stages,
    share: ClusterShare,
    run: RunIdentity,
    passthrough: pa.Schema,
) -> ray.data.Dataset:
    limits = {"max_restarts": _MAX_ACTOR_RESTARTS, "max_task_retries": _MAX_TASK_RETRIES}
    model_env = {"OMP_NUM_THREADS": str(share.model_threads)} if share.model_threads else {}
    decode = type(DECODE_STAGE, (_DecodeActor,), {})
    answer = type(ANSWER_STAGE, (_AnswerActor,), {})
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            decode,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=share.decode_actors[0], max_size=share.decode_actors[1]
            ),
            fn_constructor_args=(stages.make_decode, decoded_items_schema(passthrough)),
            num_cpus=share.decode_cpus,
            **limits,
        )
        .map_batches(
            answer,
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                min_size=share.model_actors[0],
                max_size=share.model_actors[1],
                max_concurrent_calls_per_actor=_MODEL_ITEMS_IN_FLIGHT,
                max_tasks_in_flight_per_actor=_MODEL_ITEMS_IN_FLIGHT,
            ),
            fn_constructor_args=(stages.make_answer, run, outcomes_schema(passthrough)),
            num_cpus=share.model_cpus,
            num_gpus=share.model_gpus,
            runtime_env={"env_vars": model_env} if model_env else None,
            **limits,
        )
    )
