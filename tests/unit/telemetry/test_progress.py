from __future__ import annotations

import io
import logging
import re
import sys

import pyarrow as pa
import pytest
from rich.console import Console

from sfray.columns import outcomes_schema
from sfray.telemetry.logs import LogFormat, configure_logs
from sfray.telemetry.progress import LineDisplay, LiveDisplay, clock, make_display, stage_words
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad, StageState
from sfray.telemetry.terminal import terminal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal; `lines` is what a person sees on it, colours left out."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        lines, row = [""], 0
        for text, up in re.findall(
            r"([^\x1b]+)|\x1b\[(\d*A|2K|[^A-Za-z]*[A-Za-z])", self.getvalue()
        ):
            if up.endswith("A"):
                row -= int(up[:-1] or 1)
            elif up == "2K":
                lines[row] = ""
            for piece in re.split(r"(\r|\n)", text):
                if piece == "\n":
                    row += 1
                    lines += [""] * (row == len(lines))
                elif piece and piece != "\r":
                    lines[row] += piece
        return lines


RESULTS = pa.schema([f.with_nullable(True) for f in outcomes_schema(pa.schema([]))])


def arrive(counted: RunCounters, number: int) -> None:
    counted.add(pa.Table.from_pylist([{"video_id": f"v{i}"} for i in range(number)], RESULTS))


def counters() -> RunCounters:
    counted = RunCounters(num_requests=4, num_videos=2)
    shared = {"num_visual_tokens": 100, "bytes_fetched": 7, "fetch_seconds": 1.0}
    shared |= {"decode_seconds": 0.25, "model_seconds": 3.0}
    rows = [
        {**shared, "video_id": "v", "num_generated_tokens": 5},
        {**shared, "video_id": "v", "num_generated_tokens": 6},
        {"video_id": "w", "code": "not_found", "fetch_seconds": 2.0, "decode_seconds": 0.5},
    ]
    counted.add(pa.Table.from_pylist(rows, schema=RESULTS))
    return counted


def load() -> StageLoad:
    seen = StageLoad()
    seen.observe(StageState(num_actors=3, num_busy=2, num_queued=5), StageState(num_actors=1), 0.0)
    return seen


def test_counters_count_requests_and_clips() -> None:
    counted = counters()
    assert (counted.num_answers, counted.num_failures, counted.num_done) == (2, 1, 3)
    assert (counted.num_videos_done, counted.num_generated_tokens) == (2, 11)
    assert counted.bytes_fetched == 7, "the questions of a clip share its fetch"
    assert (counted.num_visual_tokens, counted.num_reused_visual_tokens) == (100, 100)
    assert (counted.fetch_seconds, counted.decode_seconds) == (3.0, 0.75)
    assert counted.failures_by_code == {"not_found": 1}
    first = counted.seconds_to_first
    assert first is not None and 0 <= first <= counted.seconds


def test_the_stages_in_words() -> None:
    assert stage_words(load()) == (
        "decode_video 2/3 busy, 5 queued | answer_prompts waits for input"
    )
    assert stage_words(StageLoad()) == "decode_video starting | answer_prompts starting"


def test_a_terminal_of_80_columns_shows_all_of_it() -> None:
    screen = io.StringIO()
    display = make_display(Console(file=screen, force_terminal=True, width=80))
    assert isinstance(display, LiveDisplay)
    with display:
        display.update(counters(), load(), "add 3 decode workers")
    shown = screen.getvalue()
    for words in (
        "2/2",
        "3/4",
        "1 failures",
        "2/3 busy, 5 queued",
        "waits for input",
        "add 3 decode workers",
    ):
        assert words in shown


def test_elsewhere_there_is_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(make_display(Console(file=io.StringIO())), LineDisplay)
    display = LineDisplay(seconds_between_lines=0.0)
    with caplog.at_level(logging.INFO, logger="sfray"), display:
        display.update(counters(), load(), "add 3 decode workers")
    assert "3 of 4 requests (1 failures), 2 of 2 videos" in caplog.text
    assert caplog.text.rstrip().endswith("waits for input; add 3 decode workers")


def test_the_time_left_is_of_what_comes_lately_and_not_of_the_start() -> None:
    clock = Clock()
    counted = RunCounters(num_requests=100, num_videos=100, clock=clock)
    clock.now = 300.0
    assert counted.seconds_left is None
    arrive(counted, 2)
    assert counted.seconds_left is None, "the first says how long the start took, no more"
    clock.now = 301.0
    arrive(counted, 8)
    assert (counted.recent_rate, counted.seconds_left) == (8.0, 90 / 8)
    clock.now = 302.0
    assert counted.seconds_left == 90 / 4, "where nothing comes the rate falls"
    for _ in range(30):  # ten times slower from here on
        clock.now += 2.5
        arrive(counted, 2)
    assert counted.recent_rate == pytest.approx(0.8, rel=0.05)
    assert counted.requests_per_second == pytest.approx(70 / 377)


def test_no_warning_tears_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    terminal.cache_clear()
    configure_logs(LogFormat.TEXT)
    display = make_display(terminal(stderr=True))
    assert isinstance(display, LiveDisplay)
    with display:
        for number in range(13):
            display.update(counters(), load(), None)
            display._live.refresh()
            logging.getLogger("sfray").warning("warning %d of a live display", number)
        display.ended(counters())
    terminal.cache_clear()
    lines = screen.lines()
    for number in range(13):
        assert sum(f"warning {number} of a live display" in line for line in lines) == 1
    assert [line.split()[0] for line in lines[13:] if line.strip()] == ["videos", "requests", "1"]


def test_at_the_end_nothing_is_starting() -> None:
    for number, words in ((1, "0 failures, done"), (3, "0 failures, stopped with 2 requests left")):
        screen = io.StringIO()
        display = make_display(Console(file=screen, force_terminal=True, width=80))
        counted = RunCounters(num_requests=number, num_videos=number)
        arrive(counted, 1)
        with display:
            display.update(counted, load(), None)
            display.ended(counted)
        last = screen.getvalue().rsplit("videos", 1)[1]
        assert words in last and "starting" not in last and "busy" not in last


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (0.4, "0:00:00"), (3723, "1:02:03"), (360000, "100:00:00")]
)
def test_times_are_told_as_clocks_do(seconds: float | None, words: str) -> None:
    assert clock(seconds) == words
