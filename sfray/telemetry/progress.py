"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad

logger = logging.getLogger("sfray")


class Display(Protocol):
    """Shows the state of a run; `update` is called about once a second.

    `advice` is a sentence on what holds the run back, where one is known. `ended` is called once,
    when no stage works any more.
    """

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update(self, counters: RunCounters, load: StageLoad, advice: str | None) -> None: ...

    def ended(self, counters: RunCounters) -> None: ...


def make_display(console: Console) -> Display:
    """Live bars if the console is a terminal, else a log line now and then."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay()


def stage_words(load: StageLoad) -> str:
    """What each stage does now, in words."""
    words = []
    for stage, seen in ((DECODE_STAGE, load.decode), (ANSWER_STAGE, load.answer)):
        if seen.num_actors == 0:
            words.append(f"{stage} starting")
        elif seen.num_busy == 0 and seen.num_queued == 0:
            words.append(f"{stage} waits for input")
        else:
            words.append(
                f"{stage} {seen.num_busy}/{seen.num_actors} busy, {seen.num_queued} queued"
            )
    return " | ".join(words)


def clock(seconds: float | None) -> str:
    """`1:02:03`, or `-` where unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def speed(counters: RunCounters) -> str:
    """How fast it goes now, `-` where that isn't known yet."""
    rate = counters.recent_rate
    return f"{'-' if rate is None else format(rate, '.1f')} requests/s"


class LiveDisplay:
    """Bars for videos and requests, and below them what the stages do and how fast it goes."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._videos = self._progress.add_task("videos", total=None)
        self._requests = self._progress.add_task("requests", total=None)
        self._words = Text("starting")
        self._live = Live(Group(self._progress, self._words), console=console)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, counters: RunCounters, load: StageLoad, advice: str | None) -> None:
        self._move_bars(counters)
        self._words.plain = (
            f"{counters.num_failures} failures, {speed(counters)}, "
            f"{clock(counters.seconds_left)} left\n{stage_words(load)}"
        )
        if advice:
            self._words.plain += f"\n{advice}"

    def ended(self, counters: RunCounters) -> None:
        self._move_bars(counters)
        num_open = counters.num_requests - counters.num_done
        how = f"stopped with {num_open} requests left" if num_open > 0 else "done"
        self._words.plain = f"{counters.num_failures} failures, {how}"

    def _move_bars(self, counters: RunCounters) -> None:
        self._progress.update(
            self._videos, total=counters.num_videos, completed=counters.num_videos_done
        )
        self._progress.update(
            self._requests, total=counters.num_requests, completed=counters.num_done
        )


class LineDisplay:
    """One log line every few seconds, for logs and pipelines."""

    def __init__(self, seconds_between_lines: float = 15.0) -> None:
        self._pause_seconds = seconds_between_lines
        self._next_line = time.monotonic() + self._pause_seconds

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def update(self, counters: RunCounters, load: StageLoad, advice: str | None) -> None:
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + self._pause_seconds
        logger.info(
            "%d of %d requests (%d failures), %d of %d videos, %s, %s left; %s",
            counters.num_done,
            counters.num_requests,
            counters.num_failures,
            counters.num_videos_done,
            counters.num_videos,
            speed(counters),
            clock(counters.seconds_left),
            "; ".join(filter(None, (stage_words(load), advice))),
            extra={"num_answers": counters.num_answers, "num_failures": counters.num_failures},
        )

    def ended(self, counters: RunCounters) -> None:
        """The summary follows, which says it all."""
