"""What is still to do: one answer for `run`, `plan` and the forecast."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from sfray.planning.plan import JobPlan
from sfray.planning.to_do import ToDo, what_is_to_do, with_found_windows
from sfray.planning.windows import clips_of
from sfray.planning.work_items import request_ids
from sfray.records import WINDOWS_SCHEMA
from sfray.results.read import Progress
from tests.unit.planning.test_plan import plan

TENS = {"windows": {"seconds": 10}}


def progress(
    answered: list[str] | None = None,
    failed: dict[str, bool] | None = None,
    alone: dict[str, int] | None = None,
) -> Progress:
    """What a log holds: `failed` says of each request whether its failure is transient."""
    failures = [
        {"request_id": request_id, "code": "x", "transient": transient, "attempts": 1}
        for request_id, transient in (failed or {}).items()
    ]
    types = {"request_id": pa.string(), "code": pa.string()}
    types |= {"transient": pa.bool_(), "attempts": pa.int32()}
    attempts = [{"request_id": k, "attempts": v} for k, v in (alone or {}).items()]
    return Progress(
        answered_ids=pa.chunked_array([answered or []], pa.string()),
        latest_failures=pa.Table.from_pylist(failures, schema=pa.schema(types)),
        lone_attempts=pa.Table.from_pylist(
            attempts, schema=pa.schema({"request_id": pa.string(), "attempts": pa.int64()})
        ),
        num_rows=0,
    )


def ids(job: JobPlan) -> list[str]:
    found: list[str] = job.requests.table["request_id"].to_pylist()
    return found


def open_ids(to_do: ToDo) -> list[str]:
    found: list[str] = to_do.requests["request_id"].to_pylist()
    return found


def test_answers_and_permanent_failures_are_done(tmp_path: Path) -> None:
    asked = plan(tmp_path, ("a?", "b?", "c?", "d?", " "))
    answered, permanent, transient, fresh = ids(asked)
    before = progress([answered], {permanent: False, transient: True})
    to_do = what_is_to_do(asked, before, None)
    assert open_ids(to_do) == [transient, fresh]
    # A transient failure stands until it is tried again; the manifest's own failed for good.
    assert (to_do.num_answered, to_do.num_failed, to_do.num_open) == (1, 3, 1)
    # The manifest's own failure is new until a run has logged it.
    assert to_do.new_failures.num_rows == 1
    assert to_do.num_done_before == 2
    invalid = to_do.new_failures["request_id"][0].as_py()
    logged = what_is_to_do(asked, progress(failed={invalid: False}), None)
    assert logged.new_failures.num_rows == 0
    assert logged.num_done_before == 1


def test_what_is_retried_is_open_again_with_its_attempts_forgotten(tmp_path: Path) -> None:
    asked = plan(tmp_path, ("a?", "b?"))
    one, other = ids(asked)
    before = progress(failed={one: False, other: False}, alone={one: 2, other: 2})
    to_do = what_is_to_do(asked, before, None, retry=pa.chunked_array([[one]], pa.string()))
    assert open_ids(to_do) == [one]
    assert to_do.lone_attempts["request_id"].to_pylist() == [other]


def test_a_job_with_nothing_done_keeps_the_planned_table(tmp_path: Path) -> None:
    """It is the largest thing that the driver holds."""
    asked = plan(tmp_path)
    assert what_is_to_do(asked, progress(), None).requests is asked.requests.table


def found(to_do: ToDo, num_windows: int) -> pa.Table:
    """Windows of the first uncut clip."""
    how = to_do.plan.spec.sampling.windows
    assert how is not None
    clip = clips_of(to_do.uncut, how)["request_id"][0].as_py()
    row = {
        "clip_id": clip,
        "start_seconds": [10.0 * n for n in range(num_windows)],
        "end_seconds": [10.0 * (n + 1) for n in range(num_windows)],
    }
    return pa.Table.from_pylist([row], schema=WINDOWS_SCHEMA)


def test_a_clip_is_one_window_until_its_windows_are_found(tmp_path: Path) -> None:
    asked = plan(tmp_path, ("a?", "b?"), sampling=TENS)
    nothing = WINDOWS_SCHEMA.empty_table()
    to_do = what_is_to_do(asked, progress(), nothing)
    assert to_do.uncut.num_rows == to_do.requests.num_rows == 2
    first, second = open_ids(to_do)
    cut = with_found_windows(to_do, found(to_do, 3))
    # The first window has the whole clip's id.
    assert (open_ids(cut)[0], open_ids(cut)[3]) == (first, second)
    assert (cut.requests.num_rows, cut.num_clips, cut.uncut.num_rows) == (4, 4, 1)
    # With so many requests there is no need to look further.
    limited = what_is_to_do(asked, progress(), found(to_do, 3), limit=2)
    assert (limited.requests.num_rows, limited.uncut.num_rows) == (2, 0)


def test_what_failed_with_the_whole_clip_is_asked_of_its_first_window(tmp_path: Path) -> None:
    """Of one question a retry looks for the clip's windows: the other is asked of them too."""
    manifest = tmp_path / "two.jsonl"
    rows = [{"video_uri": "v.mp4", "question_id": q, "question": f"{q}?"} for q in ("a", "b")]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = plan(tmp_path, manifest={"uri": str(manifest)}, sampling=TENS)
    nothing = WINDOWS_SCHEMA.empty_table()
    one, other = open_ids(what_is_to_do(asked, progress(), nothing))
    before = progress(failed={one: False, other: False})
    assert what_is_to_do(asked, before, nothing).uncut.num_rows == 0
    retry = pa.chunked_array([[one]], pa.string())
    to_do = what_is_to_do(asked, before, nothing, retry=retry)
    assert request_ids(to_do.uncut) == {one}
    cut = with_found_windows(to_do, found(to_do, 2))
    assert open_ids(cut)[:2] == [one, other]
    assert cut.requests.num_rows == 4
