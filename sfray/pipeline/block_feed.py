"""Blocks of work made as Ray Data takes them up (internal paths of Ray Data, kept here)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext
from ray.data._internal.execution.interfaces import BlockEntry, PhysicalOperator, RefBundle
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data._internal.logical.interfaces import LogicalOperator, LogicalPlan, SourceOperator
from ray.data._internal.planner.planner import Planner
from ray.data._internal.stats import DatasetStats
from ray.data.block import BlockMetadataWithSchema


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
