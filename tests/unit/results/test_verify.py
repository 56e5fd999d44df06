import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.columns import table_schema
from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.results.log import ResultsLog
from sfray.results.verify import verify
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

LOCAL = StorageSpec()


def run(root, run_id, asked, answered, failed=(), code="fetch_failed"):
    """A run that was asked for `asked` and logs each outcome in a part of its own."""
    with ResultsLog.open(
        str(root), LOCAL, passthrough=PASSTHROUGH, run_id=run_id, flush_rows=1, flush_seconds=30
    ) as log:
        requests = outcomes(asked).select(table_schema("requests", PASSTHROUGH).names)
        log.write_run_file(run_id, "requests.parquet", requests)
        rows = outcomes(answered, failed, code, run_id=run_id)
        for row in range(len(rows)):
            log.append(rows.slice(row, 1))


@pytest.fixture
def output(tmp_path):
    run(tmp_path, "run-1", ["a", "b", "c", "d"], ["a", "b"], ["c", "d"])
    run(tmp_path, "run-2", ["c", "d", "e"], ["c", "e"], ["d"])
    return tmp_path


def check(output, *problems, **options):
    report = verify(str(output), LOCAL, **options)
    assert report.ok == (not problems)
    assert len(report.problems) == len(problems), report.problems
    for told, wanted in zip(sorted(report.problems), sorted(problems), strict=True):
        assert wanted in told
    return report


def test_a_complete_output_is_proven(output):
    report = check(output, manifest_ids=pa.array(["a", "d"]))
    assert (report.num_requested, report.num_answered, report.num_failed) == (5, 4, 1)
    assert report.num_parts == 2 + 4 + 2 + 3 + 2
    assert report.num_bytes > 1000


def test_an_output_of_no_run_has_nothing_to_verify(tmp_path):
    with pytest.raises(StorageError, match="holds no results"):
        verify(str(tmp_path), LOCAL)


def test_what_was_asked_but_never_came_is_told(tmp_path):
    run(tmp_path, "run-1", ["a", "b", "c"], ["a"])
    check(tmp_path, "2 requests have neither an answer nor a failure, such as b, c")


def test_what_the_manifest_has_now_is_told(output):
    ids = pa.chunked_array([["a", "new"]])
    check(output, "1 requests of the manifest have no outcome yet, such as new", manifest_ids=ids)


def test_what_nobody_asked_for_is_told(tmp_path):
    run(tmp_path, "run-1", ["a"], ["a", "x"], ["y"])
    check(tmp_path, "2 outcomes are of requests that no run was asked for, such as x, y")


def test_rows_that_the_manifest_spoils_need_no_request(tmp_path):
    run(tmp_path, "run-1", ["a"], ["a"], ["y"], code="invalid_row")
    check(tmp_path)


def part(output, number, name="answers"):
    return output / name / f"part-{number:08d}.parquet"


def test_a_missing_part_is_told(output):
    part(output, 1).unlink()
    check(
        output,
        "answers/part-00000001.parquet is missing",
        "1 requests have neither an answer nor a failure, such as a",
    )


def test_a_missing_end_is_told(output):
    part(output, 5).unlink()
    check(
        output,
        "answers/part-00000005.parquet, the last part of run run-2, is missing",
        "1 requests have neither an answer nor a failure, such as e",
    )


@pytest.mark.parametrize("number", range(6))
def test_any_changed_part_is_told(output, number):
    table = pq.read_table(part(output, number))
    pq.write_table(table, part(output, number), compression="none")
    report = verify(str(output), LOCAL)
    assert any(f"part-0000000{number}.parquet was changed" in p for p in report.problems)


def test_any_flipped_byte_is_told(output):
    body = part(output, 4).read_bytes()
    for position in range(0, len(body), 97):
        damaged = body[:position] + bytes([body[position] ^ 0x10]) + body[position + 1 :]
        part(output, 4).write_bytes(damaged)
        assert not verify(str(output), LOCAL).ok, position
    part(output, 4).write_bytes(body[:-20])
    assert any("can't be read" in p for p in verify(str(output), LOCAL).problems)
    part(output, 4).write_bytes(body)
    check(output)


def test_a_doubled_part_is_told(output):
    part(output, 6).write_bytes(part(output, 5).read_bytes())
    report = verify(str(output), LOCAL)
    assert any("part-00000006.parquet was written as part 5" in p for p in report.problems)


def test_a_doubled_answer_is_told(output):
    run(output, "run-3", [], [])
    with ResultsLog.open(
        str(output), LOCAL, passthrough=PASSTHROUGH, run_id="run-4", flush_rows=1, flush_seconds=30
    ) as log:
        log._logged.clear()
        log.append(outcomes(["a"]))
    check(output, "1 requests are answered more than once, such as a")


def test_foreign_files_are_told(output):
    pq.write_table(pa.table({"x": [1]}), output / "answers/extra.parquet")
    check(output, "answers/extra.parquet is no part of the log")


def test_other_columns_are_told(output):
    table = pq.read_table(part(output, 5))
    pq.write_table(table.drop_columns("source"), part(output, 5))
    report = verify(str(output), LOCAL)
    assert any("other columns than the output: source (string)" in p for p in report.problems)


def test_the_end_of_a_run_is_kept(output):
    told = json.loads((output / "_sfray/runs/run-1/end.json").read_text())
    assert told["answers"]["parts"] == 3
