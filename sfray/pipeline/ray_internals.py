"""Everything private of Ray that sfray uses, in one place: a new version of Ray is a list to check.

A test names each symbol (`tests/unit/pipeline/test_ray_internals.py`).
"""

from __future__ import annotations

import logging
import uuid
import weakref
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray._private.log import PlainRayHandler
from ray._private.state import state as cluster_state
from ray._private.utils import read_ray_address
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import BlockEntry, PhysicalOperator, RefBundle
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.logical.interfaces import LogicalOperator, LogicalPlan, SourceOperator
from ray.data._internal.planner.planner import Planner
from ray.data._internal.stats import DatasetStats
from ray.data.block import BlockMetadataWithSchema

from sfray.process import quieted
from sfray.redaction import redact_text
from sfray.telemetry.stage_load import StageState

_DEAD = ActorTableData.ActorState.DEAD
_WATCHER_KEY = "sfray_watcher"
_LOST_BLOCKS_LOGGED = 5
logger = logging.getLogger("sfray")


def last_ray_address() -> str | None:
    """The address of the Ray that was started last on this machine, which may be gone by now."""
    address: str | None = read_ray_address()
    return address


def draining_nodes() -> Collection[str]:
    """The ids of nodes that are told to go. No public call tells of them."""
    nodes: Collection[str] = cluster_state.get_draining_nodes()
    return nodes


def feed(blocks: Iterable[pa.Table], max_queued: int) -> ray.data.Dataset:
    """What `ray.data.from_blocks` makes, with few blocks in the object store at a time.

    That puts all of them there before the first one is worked on: minutes, and gigabytes, for a
    million videos.

    Args:
        blocks: is iterated over once, in a thread of Ray Data, and so is the dataset.
        max_queued: how many blocks may wait for the first stage.
    """
    context = DataContext.get_current().copy()
    stats = DatasetStats(metadata={}, parent=None)
    return ray.data.Dataset(LogicalPlan(_Feed(blocks, max_queued), context), context, stats)


class _Feed(LogicalOperator, SourceOperator):
    """The plan's view of it."""

    def __init__(self, blocks: Iterable[pa.Table], max_queued: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.max_queued = max_queued

    def output_data(self) -> None:
        return None

    def is_lineage_serializable(self) -> bool:
        return False


class _FeedBuffer(InputDataBuffer):
    """Gives blocks as long as few of them wait for the operator after it."""

    def __init__(self, context: DataContext, blocks: Iterable[pa.Table], max_queued: int) -> None:
        super().__init__(context, input_data=[])
        self._blocks = iter(blocks)
        self._max_queued = max_queued
        self._next = next(self._blocks, None)

    def has_next(self) -> bool:
        [stage] = self.output_dependencies
        return self._next is not None and (
            stage.metrics.num_external_inqueue_blocks < self._max_queued
        )

    def has_execution_finished(self) -> bool:
        return self._next is None

    def num_outputs_total(self) -> None:
        return None

    def throttling_disabled(self) -> bool:
        # Else a part of the cluster would be kept for it until it has ended.
        return True

    def _get_next_inner(self) -> RefBundle:
        block, self._next = self._next, next(self._blocks, None)
        metadata = BlockMetadataWithSchema.from_block(block)
        # Not Ray Data's to free: where a worker dies, the block is needed again.
        return RefBundle(
            (BlockEntry(ray.put(block), metadata),), owns_blocks=False, schema=metadata.schema
        )


def _plan(feed: _Feed, _: Sequence[PhysicalOperator], context: DataContext) -> _FeedBuffer:
    return _FeedBuffer(context, feed.blocks, feed.max_queued)


_plans: dict[type, Any] = Planner._DEFAULT_PLAN_FNS
_plans[_Feed] = _plan


class Execution:
    """A dataset that is being worked on, by Ray Data's streaming executor."""

    def __init__(self, executor: StreamingExecutor) -> None:
        self._executor = executor

    def stop(self) -> None:
        """Gives up what is in flight."""
        self._executor.shutdown(force=True)

    def actors(self) -> list[ray.actor.ActorHandle]:
        """Those of all stages, also the ones that are not up yet."""
        return [
            actor
            for pool in self._pools()
            for actor in (*pool._running_actors, *pool._pending_actors.values())
        ]

    def drop_dead_actors(self) -> None:
        """Takes actors that are dead for good out of their pools, which Ray Data then fills again.

        It goes on counting on them, since its own restart for ever: a pool of dead ones only would
        wait until the end of time.
        """
        for pool in self._pools():
            for actor, state in list(pool._running_actors.items()):
                if state.num_tasks_in_flight == 0 and actor._get_local_state() == _DEAD:
                    pool._release_running_actor(actor)

    def stage_states(self, stages: Sequence[str]) -> dict[str, StageState]:
        """What each stage does now; of one that has not begun, that it does nothing."""
        states = dict.fromkeys(stages, StageState())
        for op in self._executor._topology:
            stage = next((name for name in stages if name in op.name), None)
            if stage is None:
                continue
            # An operator's own metrics count its actors only when a block comes out.
            actors, metrics = op.get_actor_info(), op.metrics
            queued = (
                metrics.num_external_inqueue_blocks + metrics.obj_store_mem_internal_inqueue_blocks
            )
            states[stage] = StageState(actors.running, actors.active, queued)
        return states

    def _pools(self) -> list[Any]:
        operators = self._executor._topology
        return [pool for op in operators for pool in op.get_autoscaling_actor_pools()]


class Watcher(Protocol):
    """Who is told how an execution goes on, from Ray Data's own thread."""

    def execution_begins(self, execution: Execution) -> None: ...

    def execution_steps(self, execution: Execution) -> None: ...


_watchers: weakref.WeakValueDictionary[str, Watcher] = weakref.WeakValueDictionary()


def watch(context: DataContext, watcher: Watcher) -> None:
    """Has the watcher told of the executions of datasets that are made in this context."""
    key = uuid.uuid4().hex
    _watchers[key] = watcher
    context.custom_execution_callback_classes = [_Watch]
    context.set_config(_WATCHER_KEY, key)


class _Watch(ExecutionCallback):
    """Finds the watcher of an executor; Ray Data copies this class to workers, so that it can hold
    nothing itself."""

    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        if (watcher := _watcher_of(executor)) is not None:
            watcher.execution_begins(Execution(executor))

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        if (watcher := _watcher_of(executor)) is not None:
            watcher.execution_steps(Execution(executor))


def _watcher_of(executor: StreamingExecutor) -> Watcher | None:
    return _watchers.get(executor._data_context.get_config(_WATCHER_KEY))


class LostBlocks(logging.Handler):
    """Counts the blocks that Ray Data gives up: it tells of them in the text of its log only.

    While it listens, Ray Data's own words, tracebacks too, go to its log file alone. Handlers of
    others, such as an embedding program's, stay as they are.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.num_lost = 0
        self._num_seen = 0
        self._undo = ExitStack()

    def listen(self) -> None:
        ray_data_logger = logging.getLogger("ray.data")
        plain = [one for one in ray_data_logger.handlers if isinstance(one, PlainRayHandler)]
        self._undo.enter_context(quieted(plain, logging.CRITICAL))
        ray_data_logger.addHandler(self)
        self._undo.callback(ray_data_logger.removeHandler, self)

    def leave(self) -> None:
        self._undo.close()

    def emit(self, record: logging.LogRecord) -> None:
        if "Ignoring this exception" in record.getMessage():
            self.num_lost += 1
            logger.debug("a block was lost", exc_info=record.exc_info)
            if self.num_lost <= _LOST_BLOCKS_LOGGED and record.exc_info:
                logger.warning(
                    "a block of work was lost and goes round again: %s",
                    last_line(record.exc_info[1]),
                )

    def take_news(self) -> bool:
        """Whether blocks were lost since the last call."""
        news, self._num_seen = self.num_lost > self._num_seen, self.num_lost
        return news


def last_line(error: BaseException | None) -> str:
    """What an error of Ray comes to, which it says last, below its tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return redact_text(lines[-1] if lines else type(error).__name__)
