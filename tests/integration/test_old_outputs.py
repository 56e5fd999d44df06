"""A night more in outputs of every version: all programs read all rows and all columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sfray.config import StorageSpec
from sfray.results.compact import compact
from sfray.results.diff import diff
from sfray.results.read import current_state
from sfray.results.verify import verify
from sfray.runs.run import run_job
from tests.golden.copies import ALL, Golden, copied
from tests.golden.make_outputs import OUTPUT
from tests.golden.readers import READERS, load
from tests.integration.fake_stages import Script

LOCAL = StorageSpec()
NEW = "new.mp4"


pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(params=ALL)
def golden(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Golden:
    monkeypatch.chdir(tmp_path)
    return copied(request.param, tmp_path)


def append_a_night(golden: Golden, **output: Any) -> None:
    """Asks of one video more what is asked of the first, and a video that isn't there."""
    case, (first, *_) = golden.case, golden.case.rows
    column = case.job["manifest"].get("columns", {}).get("video_uri", "video_uri")
    more = [{**first, column: uri, "video_id": uri} for uri in (NEW, "lost.mp4")]
    if column != "video_uri":  # of CSV all rows have the same columns
        more = [{name: row[name] for name in first} for row in more]
    case.write(Path(case.job["manifest"]["uri"]), [*case.rows, *more])
    script = Script(folder=golden.folder, missing=("lost.mp4",))
    summaries = [run_job(spec, stages=script.stages()) for spec in golden.jobs(**output)]
    assert sum(summary.num_answers for summary in summaries) > 0
    assert sum(summary.num_failures for summary in summaries) > 0
    assert all(not summary.num_unfinished for summary in summaries)


def as_stored(golden: Golden, name: str, output: str = OUTPUT) -> list[Path]:
    return sorted(path for path in (golden.folder / output).rglob(name) if path.is_dir())


def test_a_night_more_is_read_by_all(golden: Golden) -> None:
    before = golden.state()
    append_a_night(golden)
    assert verify(OUTPUT, LOCAL).ok
    state = golden.state()
    assert before.items() <= state.items() and len(state) > len(before)
    for name in ("answers", "failures"):
        for folder in as_stored(golden, name):
            parts = [pq.ParquetFile(part) for part in sorted(folder.iterdir())]
            (schema,) = {str(part.schema_arrow.remove_metadata()) for part in parts}
            assert schema
            rows = sum(part.metadata.num_rows for part in parts)
            columns = parts[0].schema_arrow.names
            for called, read in READERS.items():
                if called == "datasets" and (golden.format == 1 or not rows):
                    continue  # it refuses the empty parts of format 1, and tables without rows
                found = read(folder)
                assert len(found) == rows, called
                assert all(list(row) == columns for row in found), called
                ids = {row["request_id"] for row in found}
                assert ids <= state.keys() and (name == "failures" or len(ids) == rows), called


def test_a_copy_is_gone_on_with_and_read_by_all(golden: Golden) -> None:
    compact(OUTPUT, "copy", LOCAL)
    append_a_night(golden, uri="copy", partition="null")
    assert verify("copy", LOCAL).ok
    rows = current_state("copy", LOCAL)
    answered = rows["text"].drop_null()
    assert load(golden.folder / "copy")["train"].num_rows == len(answered)
    assert load(golden.folder / "copy", "failures")["train"].num_rows >= len(rows) - len(answered)
    for name in ("answers", "failures"):
        (folder,) = as_stored(golden, name, "copy")
        rows_of = {called: read(folder) for called, read in READERS.items()}
        columns = pq.read_schema(next(folder.iterdir())).names
        for called, found in rows_of.items():
            assert len(found) == len(rows_of["pyarrow"]), called
            assert all(list(row) == columns for row in found), called
    new = [row for row in rows.to_pylist() if row["video_uri"] == NEW]
    assert new and all(row["clip_id"] and row["answered_at"] for row in new)


def test_another_prompt_is_compared_with_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    golden = copied("format1/caption", tmp_path)
    (spec,) = golden.jobs()
    prompts = (spec.prompts[0].model_copy(update={"text": "What is to be seen?"}),)
    changed = spec.model_copy(update={"prompts": prompts})
    summary = run_job(changed, stages=Script(folder=tmp_path).stages())
    state = current_state(OUTPUT, LOCAL, ["prompt_id", "fingerprint", "run_id"]).to_pylist()
    (after,) = {row["fingerprint"] for row in state if row["run_id"] == summary.run_id}
    (before,) = {
        row["fingerprint"]
        for row in state
        if row["prompt_id"] == "caption" and row["run_id"] != summary.run_id
    }
    assert diff(OUTPUT, LOCAL, before, after).counts["changed"] >= 2
