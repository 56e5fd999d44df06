from __future__ import annotations

import io
import logging

import pyarrow as pa
import pytest
from rich.console import Console

from sfray.records import outcomes_schema
from sfray.telemetry import progress
from sfray.telemetry.progress import LineDisplay, LiveDisplay, clock, make_display, stage_words
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad, StageState


def counters() -> RunCounters:
    counted = RunCounters(num_requests=4, num_videos=2)
    rows = [
        {"video_id": "v", "code": None, "num_generated_tokens": 5, "bytes_fetched": 7},
        {"video_id": "v", "code": None, "num_generated_tokens": 6, "bytes_fetched": 7},
        {"video_id": "w", "code": "not_found", "num_generated_tokens": None},
    ]
    schema = pa.schema([f.with_nullable(True) for f in outcomes_schema(pa.schema([]))])
    counted.add(pa.Table.from_pylist(rows, schema=schema))
    return counted


def load() -> StageLoad:
    seen = StageLoad()
    seen.observe(DECODE_STAGE, StageState(num_actors=3, num_busy=2, num_queued=5))
    seen.observe(ANSWER_STAGE, StageState(num_actors=1, num_busy=0, num_queued=0))
    return seen


def test_counters_count_requests_and_clips() -> None:
    counted = counters()
    assert (counted.num_answers, counted.num_failures, counted.num_done) == (2, 1, 3)
    assert (counted.num_videos_done, counted.num_generated_tokens) == (2, 11)
    assert counted.bytes_fetched == 7, "the questions of a clip share its fetch"
    assert counted.failures_by_code == {"not_found": 1}
    assert counted.seconds_left is not None and counted.seconds_left > 0


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
        display.update(counters(), load())
    shown = screen.getvalue()
    for words in ("2/2", "3/4", "1 failures", "2/3 busy, 5 queued", "waits for input"):
        assert words in shown


def test_elsewhere_there_is_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sfray"), "propagate", True)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    display = make_display(Console(file=io.StringIO()))
    assert isinstance(display, LineDisplay)
    with caplog.at_level(logging.INFO, logger="sfray"), display:
        display.update(counters(), load())
    assert "3 of 4 requests (1 failures), 2 of 2 videos" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (0.4, "0:00:00"), (3723, "1:02:03"), (360000, "100:00:00")]
)
def test_times_are_told_as_clocks_do(seconds: float | None, words: str) -> None:
    assert clock(seconds) == words


def test_the_stage_that_was_busier_held_the_run_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr("sfray.telemetry.stage_load.time.monotonic", lambda: next(now))
    seen = StageLoad()
    for _ in range(2):
        seen.observe(DECODE_STAGE, StageState(num_actors=2, num_busy=2, num_queued=9))
        seen.observe(ANSWER_STAGE, StageState(num_actors=4, num_busy=1, num_queued=0))
    assert seen.busy_share(DECODE_STAGE) == 1.0
    assert seen.busy_share(ANSWER_STAGE) == 0.25
    assert seen.bottleneck().startswith("decode_video held the run back")
    assert "75%" in seen.bottleneck()
