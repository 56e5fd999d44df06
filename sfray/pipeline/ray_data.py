"""The stages on Ray Data. With cluster code, this is the only place that knows Ray."""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray._private.log import PlainRayHandler
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.util.annotations import RayDeprecationWarning

from sfray import errors
from sfray.columns import outcomes_schema
from sfray.errors import RunError
from sfray.model.memory import ITEMS_IN_FLIGHT
from sfray.pipeline.actors import (
    AnswerActor,
    Board,
    DecodeActor,
    Stages,
    WindowsActor,
    WindowsStage,
)
from sfray.pipeline.block_feed import feed
from sfray.pipeline.cluster import NODE_GROUP_LABEL, ClusterShare
from sfray.records import FOUND_WINDOWS_SCHEMA, RunIdentity, decoded_items_schema
from sfray.redaction import redact_text
from sfray.telemetry.logs import log_format
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad, StageState

# An actor that dies is started again this often, and a task that was on it is tried once more;
# beyond that its rows are lost to Ray Data, and the run accounts for them by id.
_MAX_ACTOR_RESTARTS = 3
_MAX_TASK_RETRIES = 1
# Small blocks, so that a decoded video moves on at once instead of waiting for its neighbours.
_TARGET_BLOCK_BYTES = 2**20
# Of blocks that wait to be decoded: enough for a pool that grows, and few in memory.
_QUEUED_BLOCKS_PER_WORKER = 8
_DEAD = ActorTableData.ActorState.DEAD
_STREAM_KEY = "sfray_stream"
_LOST_BLOCKS_TOLD = 5
_RUN_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RunError)
}
logger = logging.getLogger("sfray")
_streams: weakref.WeakValueDictionary[str, StageStream] = weakref.WeakValueDictionary()


class Chain(Protocol):
    """Leads work items through actors, which report what stops the run to a board."""

    def __call__(
        self, blocks: Iterable[pa.Table], board: ray.actor.ActorHandle
    ) -> ray.data.Dataset: ...


class StageStream:
    """What becomes of work items as it comes, read in a thread of its own.

    `poll` gives the next table, so that the caller can flush, report and stop while it waits.
    """

    def __init__(self, blocks: Iterable[pa.Table], chain: Chain, load: StageLoad) -> None:
        self._tables: queue.Queue[pa.Table | BaseException | None] = queue.Queue(maxsize=64)
        self._stopped = threading.Event()
        self._executor: StreamingExecutor | None = None
        self._load = load
        # Weakly, so that a pool that shrinks gives its CPUs back.
        self._actors: weakref.WeakSet[ray.actor.ActorHandle] = weakref.WeakSet()
        self._key = uuid.uuid4().hex
        # Beside the driver: a worker node may go at any time.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self._board = Board.options(label_selector=here).remote()  # type: ignore[attr-defined]
        self._lost = _LostBlocks()
        _streams[self._key] = self
        _listen(self._lost)
        context = self._context()
        # Options of a DataContext are read when a dataset is created.
        with DataContext.current(context), warnings.catch_warnings():
            # Until 2.64 this is the way to say how often an actor restarts; the version is pinned.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            self._dataset = chain(blocks, self._board)
        self._thread = threading.Thread(target=self._read, args=(context,), daemon=True)
        self._thread.start()

    def poll(self, timeout_seconds: float) -> pa.Table | None:
        """The next table; None when the time is up.

        Raises:
            EndOfStream: all work items went through, or were lost.
            RunError: a stage found a reason to stop the run.
        """
        try:
            got = self._tables.get(timeout=timeout_seconds)
        except queue.Empty:
            got = None
        else:
            if got is None:
                self._raise_reported()
                raise EndOfStream
        if isinstance(got, BaseException):
            self._raise_reported()
            raise RunError(f"the stages stopped: {_last_line(got)}") from got
        if self._lost.take_news():
            self._raise_reported()
        return got

    def close(self) -> None:
        """Ends the stream; what is in flight is given up."""
        self._stopped.set()
        while True:
            # Again and again: what has not begun yet doesn't hear of its end.
            if self._executor is not None:
                self._executor.shutdown(force=True)
            if not self._thread.is_alive():
                break
            with suppress(queue.Empty):  # the reader may wait for room in the queue
                self._tables.get(timeout=0.1)
        # Ray Data lets go of them only. Whatever refers to one longer, such as the traceback of a
        # task that failed, would hold its share of the cluster, and a later round wait for it.
        for actor in list(self._actors):
            ray.kill(actor)
        logging.getLogger("ray.data").removeHandler(self._lost)

    def _read(self, context: DataContext) -> None:
        end: BaseException | None = None
        try:
            with DataContext.current(context):
                batches = self._dataset.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                )
                for table in batches:
                    self._tables.put(table)
                    if self._stopped.is_set():
                        break
        except BaseException as error:  # handed to the thread that polls
            end = error
        if not self._stopped.is_set():
            self._tables.put(end)

    def _raise_reported(self) -> None:
        if (reported := ray.get(self._board.first.remote())) is not None:
            kind, message = reported
            raise _RUN_ERRORS.get(kind, RunError)(message)

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


class EndOfStream(Exception):  # noqa: N818 - an end, not an error
    """A stream has given all that it will."""


class _LostBlocks(logging.Handler):
    """Counts the blocks that Ray Data gives up; it tells of them in its log only."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.num_lost = 0
        self._num_told = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "Ignoring this exception" in record.getMessage():
            self.num_lost += 1
            logger.debug("a block was lost", exc_info=record.exc_info)
            if self.num_lost <= _LOST_BLOCKS_TOLD and record.exc_info:
                logger.warning(
                    "a block of work was lost and goes round again: %s",
                    _last_line(record.exc_info[1]),
                )

    def take_news(self) -> bool:
        news, self._num_told = self.num_lost > self._num_told, self.num_lost
        return news


def _listen(lost: _LostBlocks) -> None:
    """Hears of lost blocks, and keeps Ray Data's own words, tracebacks too, to its log file.

    Handlers of others, such as an embedding program's, stay as they are.
    """
    ray_data_logger = logging.getLogger("ray.data")
    for handler in ray_data_logger.handlers:
        if isinstance(handler, PlainRayHandler):
            handler.setLevel(logging.CRITICAL)
    ray_data_logger.addHandler(lost)


def _last_line(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return redact_text(lines[-1] if lines else type(error).__name__)


class _Watch(ExecutionCallback):
    """Finds the stream that an executor belongs to; Ray Data copies this class to workers, so
    that it can hold nothing itself."""

    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        if (stream := _streams.get(executor._data_context.get_config(_STREAM_KEY))) is not None:
            stream._executor = executor

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        if (stream := _streams.get(executor._data_context.get_config(_STREAM_KEY))) is not None:
            pools = _actor_pools(executor)
            _drop_dead_actors(pools)
            for pool in pools:
                stream._actors.update((*pool._running_actors, *pool._pending_actors.values()))
            _observe(executor, stream._load)


def _actor_pools(executor: StreamingExecutor) -> list[Any]:
    """The actor pools of all stages (internal paths of Ray Data, kept here)."""
    return [pool for op in executor._topology for pool in op.get_autoscaling_actor_pools()]


def _drop_dead_actors(pools: list[Any]) -> None:
    """Takes actors that are dead for good out of their pools, which Ray Data then fills again.

    It goes on counting on them, since its own restart for ever: a pool of dead ones only would
    wait until the end of time (internal paths of Ray Data, kept here).
    """
    for pool in pools:
        for actor, state in list(pool._running_actors.items()):
            if state.num_tasks_in_flight == 0 and actor._get_local_state() == _DEAD:
                pool._release_running_actor(actor)


def _observe(executor: StreamingExecutor, load: StageLoad) -> None:
    """Tells `load` what each stage does now (internal paths of Ray Data, kept here)."""
    states = {DECODE_STAGE: StageState(), ANSWER_STAGE: StageState()}
    for op in executor._topology:
        stage = next((s for s in states if s in op.name), None)
        if stage is None:
            continue
        # An operator's own metrics count its actors only when a block comes out.
        actors, metrics = op.get_actor_info(), op.metrics
        queued = metrics.num_external_inqueue_blocks + metrics.obj_store_mem_internal_inqueue_blocks
        states[stage] = StageState(actors.running, actors.active, queued)
    load.observe(states[DECODE_STAGE], states[ANSWER_STAGE], time.monotonic())


def answering(
    stages: Stages, share: ClusterShare, run: RunIdentity, passthrough: pa.Schema
) -> Chain:
    """Decodes and answers: work items in, tables of `outcomes_schema` out."""

    def chain(blocks: Iterable[pa.Table], board: ray.actor.ActorHandle) -> ray.data.Dataset:
        told = (run, log_format())
        decoding = (stages.make_decode, board, decoded_items_schema(passthrough), *told)
        decoded = _by_decode_workers(blocks, DecodeActor, decoding, share)
        return decoded.map_batches(
            type(ANSWER_STAGE, (AnswerActor,), {}),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=share.model_actors[0],
                max_size=share.model_actors[1],
                max_concurrent_calls_per_actor=ITEMS_IN_FLIGHT,
                max_tasks_in_flight_per_actor=ITEMS_IN_FLIGHT,
            ),
            fn_constructor_args=(stages.make_answer, board, outcomes_schema(passthrough), *told),
            num_cpus=share.model_cpus,
            num_gpus=share.model_gpus,
            runtime_env={"env_vars": share.model_env} if share.model_env else None,
            ray_remote_args_fn=_finite_restarts,
        )

    return chain


def finding_windows(
    make_stage: Callable[[], WindowsStage], share: ClusterShare, run: RunIdentity
) -> Chain:
    """Finds windows on decode workers: clips in, tables of `FOUND_WINDOWS_SCHEMA` out."""

    def chain(blocks: Iterable[pa.Table], board: ray.actor.ActorHandle) -> ray.data.Dataset:
        arguments = (make_stage, board, FOUND_WINDOWS_SCHEMA, run, log_format())
        return _by_decode_workers(blocks, WindowsActor, arguments, share)

    return chain


def _by_decode_workers(
    blocks: Iterable[pa.Table], actor: type, arguments: tuple[Any, ...], share: ClusterShare
) -> ray.data.Dataset:
    group = share.decode_node_group
    return feed(blocks, _QUEUED_BLOCKS_PER_WORKER * share.decode_actors[1]).map_batches(
        type(DECODE_STAGE, (actor,), {}),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=share.decode_actors[0], max_size=share.decode_actors[1]),
        fn_constructor_args=arguments,
        num_cpus=share.decode_cpus,
        label_selector={NODE_GROUP_LABEL: group} if group else None,
        ray_remote_args_fn=_finite_restarts,
    )


def _finite_restarts() -> dict[str, int]:
    # Ray Data's defaults are endless: a file that kills its worker would loop forever.
    return {"max_restarts": _MAX_ACTOR_RESTARTS, "max_task_retries": _MAX_TASK_RETRIES}
