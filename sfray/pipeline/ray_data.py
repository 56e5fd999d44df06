"""The stages on Ray Data, which streams blocks between actor pools with backpressure."""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning

from sfray import errors
from sfray.columns import outcomes_schema
from sfray.errors import RunError
from sfray.model.memory import ITEMS_IN_FLIGHT
from sfray.pipeline.actors import (
    AnswerActor,
    DecodeActor,
    FaultBoard,
    Stages,
    WindowsActor,
    WindowsStage,
)
from sfray.pipeline.cluster import NODE_GROUP_LABEL, ClusterShare
from sfray.pipeline.ray_internals import Execution, LostBlocks, feed, last_line, watch
from sfray.records import FOUND_WINDOWS_SCHEMA, RunIdentity, decoded_items_schema
from sfray.telemetry.logs import log_format
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad

# An actor that dies is started again this often, and a task that was on it is tried once more;
# beyond that its rows are lost to Ray Data, and the run accounts for them by id.
_MAX_ACTOR_RESTARTS = 3
_MAX_TASK_RETRIES = 1
# Small blocks, so that a decoded video moves on at once instead of waiting for its neighbours.
_TARGET_BLOCK_BYTES = 2**20
# Of blocks that wait to be decoded: enough for a pool that grows, and few in memory.
_QUEUED_BLOCKS_PER_WORKER = 8
_RUN_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RunError)
}
logger = logging.getLogger("sfray")


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
        self._execution: Execution | None = None
        self._load = load
        # Weakly, so that a pool that shrinks gives its CPUs back.
        self._actors: weakref.WeakSet[ray.actor.ActorHandle] = weakref.WeakSet()
        # Beside the driver: a worker node may go at any time.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self._board = FaultBoard.options(label_selector=here).remote()  # type: ignore[attr-defined]
        self._lost = LostBlocks()
        context = self._context()
        # Options of a DataContext are read when a dataset is created.
        with DataContext.current(context), warnings.catch_warnings():
            # Until 2.64 this is the way to say how often an actor restarts; the version is pinned.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            self._dataset = chain(blocks, self._board)
        self._lost.listen()
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
            raise RunError(f"the stages stopped: {last_line(got)}") from got
        if self._lost.take_news():
            self._raise_reported()
        return got

    def close(self) -> None:
        """Ends the stream; what is in flight is given up."""
        try:
            self._end()
        finally:
            self._lost.leave()

    def _end(self) -> None:
        self._stopped.set()
        while True:
            # Again and again: what has not begun yet doesn't hear of its end.
            if self._execution is not None:
                self._execution.stop()
            if not self._thread.is_alive():
                break
            with suppress(queue.Empty):  # the reader may wait for room in the queue
                self._tables.get(timeout=0.1)
        # Ray Data lets go of them only. Whatever refers to one longer, such as the traceback of a
        # task that failed, would hold its share of the cluster, and a later round wait for it.
        for actor in list(self._actors):
            ray.kill(actor)

    def execution_begins(self, execution: Execution) -> None:
        """See `Watcher`."""
        self._execution = execution

    def execution_steps(self, execution: Execution) -> None:
        """See `Watcher`."""
        execution.drop_dead_actors()
        self._actors.update(execution.actors())
        states = execution.stage_states((DECODE_STAGE, ANSWER_STAGE))
        self._load.observe(states[DECODE_STAGE], states[ANSWER_STAGE], time.monotonic())

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
        watch(context, self)
        return context


class EndOfStream(Exception):  # noqa: N818 - an end, not an error
    """A stream has given all that it will."""


def answering(
    stages: Stages, share: ClusterShare, run: RunIdentity, passthrough: pa.Schema
) -> Chain:
    """Decodes and answers: work items in, tables of `outcomes_schema` out."""

    def chain(blocks: Iterable[pa.Table], board: ray.actor.ActorHandle) -> ray.data.Dataset:
        run_arguments = (run, log_format())
        decoding = (stages.make_decode, board, decoded_items_schema(passthrough), *run_arguments)
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
            fn_constructor_args=(
                stages.make_answer,
                board,
                outcomes_schema(passthrough),
                *run_arguments,
            ),
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
