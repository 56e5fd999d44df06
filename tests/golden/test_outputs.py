"""Outputs of every version are read, verified, resumed, copied and explained by this one."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sfray.columns import COLUMNS, OUTPUT_FORMAT, TABLES, Column
from sfray.commands.evaluate import asked_rows
from sfray.commands.explain import explain
from sfray.config import StorageSpec
from sfray.errors import SchemaError
from sfray.planning.outlook import outlook
from sfray.results.compact import compact
from sfray.results.costs import total_costs
from sfray.results.diff import diff
from sfray.results.log import ResultsLog
from sfray.results.read import current_state, read_answers, read_failures
from sfray.results.schema import columns_of
from sfray.results.verify import verify
from sfray.runs.run import run_job
from sfray.storage.folders import open_folder
from tests.golden.copies import ALL, OUTPUTS, Golden, copied
from tests.golden.make_outputs import CASES, OUTPUT

LOCAL = StorageSpec()
OUTPUTS_PAGE = Path(__file__).parents[2] / "docs/reference/outputs.md"


@pytest.fixture(params=["as it is", "with a column more"], autouse=True)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This version, and a later one that has added a column."""
    if request.param == "with a column more":
        monkeypatch.setitem(COLUMNS, "novel", Column("novel", pa.string(), "what is new"))
        for table in ("answers", "failures"):
            monkeypatch.setitem(TABLES, table, (*TABLES[table], "novel"))  # type: ignore[index]


@pytest.fixture(params=ALL)
def golden(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Golden:
    monkeypatch.chdir(tmp_path)
    return copied(request.param, tmp_path)


def test_each_format_has_all_kinds_of_outputs() -> None:
    formats = {path.name for path in OUTPUTS.iterdir()}
    assert formats == {f"format{number}" for number in range(1, OUTPUT_FORMAT + 1)}
    assert {f"{one}/{name}" for one in formats for name in CASES} == set(ALL)


def test_it_is_read(golden: Golden) -> None:
    rows = current_state(OUTPUT, LOCAL).to_pylist()
    assert {row["request_id"]: row["text"] or row["code"] for row in rows} == golden.state()
    assert len(rows) == len(golden.state())
    answers, failures = read_answers(OUTPUT, LOCAL), read_failures(OUTPUT, LOCAL)
    raw = [pq.ParquetFile(part) for log in golden.logs for part in (log / "answers").iterdir()]
    assert answers.count_rows() == sum(file.metadata.num_rows for file in raw)
    assert answers.schema.names == raw[0].schema_arrow.names
    assert failures.count_rows() >= sum(row["code"] is not None for row in rows)
    assert len(asked_rows(OUTPUT, LOCAL)) == len(rows)


def test_columns_of_manifests_keep_their_values(golden: Golden) -> None:
    names = golden.jobs()[0].manifest.passthrough
    stored = columns_of(open_folder(OUTPUT, LOCAL)).renamed
    rows = current_state(OUTPUT, LOCAL).to_pylist()
    wanted = [{name: row.get(name) or None for name in names} for row in golden.case.rows]
    for row in rows:
        assert {name: row[stored.get(name, name)] or None for name in names} in wanted


def test_what_it_lacks_is_null(golden: Golden) -> None:
    wanted = ["request_id", "clip_id", "answered_at", "flags"]
    state = current_state(OUTPUT, LOCAL, wanted)
    assert state.column_names == wanted
    if golden.format == 1:
        assert all(state[name].null_count == state.num_rows for name in wanted[1:])


def test_it_is_complete(golden: Golden) -> None:
    report = verify(OUTPUT, LOCAL)
    assert report.ok, report.problems
    state = golden.state()
    assert report.num_answered + report.num_failed == len(state)


def test_a_run_asks_nothing_again(golden: Golden) -> None:
    before = golden.state()
    for spec in golden.jobs():
        assert outlook(spec).to_do.requests.num_rows == 0
        summary = run_job(spec)
        assert (summary.num_answers, summary.num_failures, summary.num_unfinished) == (0, 0, 0)
    assert golden.state() == before
    assert verify(OUTPUT, LOCAL).ok


def test_what_it_lacks_and_what_is_renamed_is_told_once(
    golden: Golden, caplog: pytest.LogCaptureFixture
) -> None:
    columns = columns_of(open_folder(OUTPUT, LOCAL))
    is_older = golden.format == 1 or "novel" in COLUMNS
    for spec in golden.jobs():
        console = Console(file=StringIO(), width=1000)
        outlook(spec).print_to(console)
        plan = console.file.getvalue()
        assert ("begun by an older version" in plan) == is_older
        for name, stored in columns.renamed.items():
            assert f"in the results {stored}" in plan and f"passthrough {name}" in plan
        caplog.clear()
        with caplog.at_level("INFO", "sfray"):
            run_job(spec)
        assert caplog.text.count("begun by an older version") == is_older


def test_each_row_is_explained(golden: Golden) -> None:
    for row in current_state(OUTPUT, LOCAL).to_pylist():
        told = explain(OUTPUT, LOCAL, row["request_id"])
        assert told.row["video_id"] == row["video_id"]
        assert told.changed_since is None


def test_its_fingerprints_are_compared(golden: Golden) -> None:
    state = current_state(OUTPUT, LOCAL, ["fingerprint"])
    for one in state["fingerprint"].unique().to_pylist():
        found = diff(OUTPUT, LOCAL, one, one)
        assert set(found.counts) == {"same"}


def test_costs_count_each_clip_once(golden: Golden) -> None:
    answers = read_answers(OUTPUT, LOCAL).to_table().to_pylist()
    clips: dict[Any, float] = {}
    for row in answers:
        key = row["run_id"], row["attempts"], row["video_id"], row["start_seconds"]
        clips[key] = row["decode_seconds"]
    costs = total_costs(OUTPUT)
    assert costs.num_clips == len(clips)
    assert costs.decode_seconds == pytest.approx(sum(clips.values()))
    assert costs.model_seconds == pytest.approx(sum(row["model_seconds"] for row in answers))


def test_the_documented_sum_of_costs_is_right(golden: Golden) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", OUTPUTS_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    sums = [0.0, 0.0, 0.0]
    for log in golden.logs:
        (row,) = duckdb.sql(query.replace("OUTPUT", str(log))).fetchall()
        sums = [total + (value or 0) for total, value in zip(sums, row, strict=True)]
    costs = total_costs(OUTPUT)
    assert sums == pytest.approx([costs.fetch_seconds, costs.decode_seconds, costs.bytes_fetched])


def test_a_copy_has_the_newest_format_and_runs_go_on_there(golden: Golden) -> None:
    report = compact(OUTPUT, "copy", LOCAL)
    assert report.proof.ok, report.proof.problems
    rows = current_state("copy", LOCAL).to_pylist()
    assert {row["request_id"]: row["text"] or row["code"] for row in rows} == golden.state()
    columns = columns_of(open_folder("copy", LOCAL))
    assert columns.older_than_now is None
    assert set(TABLES["answers"]) <= set(columns.fields.names)
    assert all(row["clip_id"] for row in rows)
    one_clip = {(row["video_id"], row["start_seconds"], row["end_seconds"]) for row in rows}
    assert len({row["clip_id"] for row in rows}) == len(one_clip)
    assert run_job(golden.jobs(uri="copy", partition="null")[0]).num_answers == 0


def test_names_that_became_columns_go_on_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copied("format1/caption", tmp_path)
    before = {row["request_id"]: row for row in current_state(OUTPUT, LOCAL).to_pylist()}
    compact(OUTPUT, "copy", LOCAL)
    for row in current_state("copy", LOCAL).to_pylist():
        old = before[row["request_id"]]
        assert row["passthrough_flags"] == old["flags"]
        assert row["passthrough_clip_id"] == old["clip_id"]
        assert row["flags"] is None and row["clip_id"] != old["clip_id"]


def test_a_job_that_needs_a_column_is_told_the_way(golden: Golden) -> None:
    columns = columns_of(open_folder(OUTPUT, LOCAL))
    lacking = [name for name in COLUMNS if not columns.has(name)]
    for name in lacking:
        with pytest.raises(SchemaError, match=f"lacks the column '{name}'.*sfray compact"):
            ResultsLog.open(
                OUTPUT,
                LOCAL,
                partition=golden.jobs()[0].output.part,
                passthrough=columns.passthrough,
                needed=[name],
                run_id="r",
                flush_rows=1,
                flush_seconds=1,
            )
