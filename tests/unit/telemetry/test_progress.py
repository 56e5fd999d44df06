from __future__ import annotations

import io
import logging

import pyarrow as pa
import pytest
from rich.console import Console

from sfray.columns import outcomes_schema
from sfray.telemetry.progress import LineDisplay, LiveDisplay, clock, make_display, stage_words
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad, StageState


def counters() -> RunCounters:
    counted = RunCounters(num_requests=4, num_videos=2)
    shared = {"num_visual_tokens": 100, "bytes_fetched": 7, "fetch_seconds": 1.0}
    shared |= {"decode_seconds": 0.25, "model_seconds": 3.0}
    rows = [
        {**shared, "video_id": "v", "num_generated_tokens": 5},
        {**shared, "video_id": "v", "num_generated_tokens": 6},
        {"video_id": "w", "code": "not_found", "fetch_seconds": 2.0, "decode_seconds": 0.5},
    ]
    schema = pa.schema([f.with_nullable(True) for f in outcomes_schema(pa.schema([]))])
    counted.add(pa.Table.from_pylist(rows, schema=schema))
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
    assert counted.seconds_left is not None and counted.seconds_left > 0
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


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (0.4, "0:00:00"), (3723, "1:02:03"), (360000, "100:00:00")]
)
def test_times_are_told_as_clocks_do(seconds: float | None, words: str) -> None:
    assert clock(seconds) == words
