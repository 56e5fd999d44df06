"""The stages as Ray Data's actors see them: one Arrow table of one row in, one table out."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import ray

from sfray.errors import EngineLostError, RunError
from sfray.records import (
    ClipWindows,
    DecodedItem,
    Outcome,
    RequestFailure,
    RunIdentity,
    WorkItem,
    decoded_item_from_table,
    decoded_item_table,
    outcome_row,
    work_item_from_row,
)
from sfray.telemetry.logs import LogFormat, configure_logs, logged_about

_ENGINE_LOST = 70

Stage = TypeVar("Stage")


class DecodeStage(Protocol):
    def __call__(self, item: WorkItem) -> DecodedItem: ...


class WindowsStage(Protocol):
    def __call__(self, item: WorkItem) -> ClipWindows | RequestFailure: ...


class AnswerStage(Protocol):
    def __call__(self, decoded: DecodedItem) -> Awaitable[list[Outcome]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How the actors make their stages. The callables travel to the actors.

    `make_find_windows` is for jobs that cut clips into windows.
    """

    make_decode: Callable[[], DecodeStage]
    make_answer: Callable[[], AnswerStage]
    make_find_windows: Callable[[], WindowsStage] | None = None


@ray.remote(num_cpus=0)
class FaultBoard:
    """Where a stage leaves word of what stops the run: Ray Data passes on a traceback only."""

    def __init__(self) -> None:
        self._first: tuple[str, str] | None = None

    def report(self, kind: str, message: str) -> None:
        self._first = self._first or (kind, message)

    def first(self) -> tuple[str, str] | None:
        return self._first


@contextmanager
def _reporting_to(board: ray.actor.ActorHandle) -> Iterator[None]:
    try:
        yield
    except RunError as error:
        ray.get(board.report.remote(type(error).__name__, str(error)))
        raise


def _logged_about(item: WorkItem) -> AbstractContextManager[None]:
    request_ids = [request.request_id for request in item.requests]
    return logged_about(video_id=item.video_id, request_ids=request_ids)


class _StageActor(Generic[Stage]):
    """Makes its stage, and tables of a schema; what stops the run goes to the board."""

    def __init__(
        self,
        make_stage: Callable[[], Stage],
        board: ray.actor.ActorHandle,
        schema: pa.Schema,
        run: RunIdentity,
        log_format: LogFormat,
    ) -> None:
        configure_logs(log_format, run.run_id)
        self._board = board
        self._schema = schema
        self._run = run
        with _reporting_to(board):
            self._stage = make_stage()


class DecodeActor(_StageActor[DecodeStage]):
    def __call__(self, batch: pa.Table) -> pa.Table:
        item = work_item_from_row(batch.to_pylist()[0])
        with _reporting_to(self._board), _logged_about(item):
            decoded = self._stage(item)
        return decoded_item_table(decoded, self._schema)


class WindowsActor(_StageActor[WindowsStage]):
    """Takes clips, each a work item with one request that stands for the clip."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        item = work_item_from_row(batch.to_pylist()[0])
        with _reporting_to(self._board), _logged_about(item):
            found = self._stage(item)
        row: dict[str, Any] = {"request_id": item.requests[0].request_id}
        if isinstance(found, RequestFailure):
            row |= asdict(found)
        else:
            row["start_seconds"] = [start for start, _ in found]
            row["end_seconds"] = [end for _, end in found]
        return pa.Table.from_pylist([row], schema=self._schema)


class AnswerActor(_StageActor[AnswerStage]):
    async def __call__(self, batch: pa.Table) -> pa.Table:
        decoded = decoded_item_from_table(batch, 0)
        try:
            with _reporting_to(self._board), _logged_about(decoded.item):
                outcomes = await self._stage(decoded)
        except EngineLostError:
            os._exit(_ENGINE_LOST)  # nothing is left to answer with: Ray starts another replica
        rows = [outcome_row(outcome, self._run) for outcome in outcomes]
        return pa.Table.from_pylist(rows, schema=self._schema)
