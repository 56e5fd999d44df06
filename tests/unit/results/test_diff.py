import pyarrow as pa
import pytest

from sfray.config import StorageSpec
from sfray.errors import SpecError
from sfray.results.diff import diff
from sfray.results.log import ResultsLog
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

LOCAL = StorageSpec()


def replaced(table, **columns):
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array(values, field.type))
    return table


@pytest.fixture
def output(tmp_path):
    """Videos v and w with two clips of v; the second fingerprint words one question otherwise."""
    before = replaced(
        outcomes(["1", "2", "3"], ["4"]),
        video_id=["v", "v", "w", "x"],
        start_seconds=[None, 5.0, None, None],
        end_seconds=[None, 9.0, None, None],
        text=["same", "old", "gone", None],
        fingerprint=["abc1"] * 4,
    )
    after = replaced(
        outcomes(["5", "6", "7"], ["8"]),
        video_id=["v", "v", "y", "x"],
        start_seconds=[None, 5.0, None, None],
        end_seconds=[None, 9.0, None, None],
        text=["same", "new", "more", None],
        prompt=["What?", "What now?", "What?", "What?"],
        fingerprint=["abd2"] * 4,
    )
    with ResultsLog.open(
        str(tmp_path), LOCAL, passthrough=PASSTHROUGH, run_id="r", flush_rows=9, flush_seconds=30
    ) as log:
        log.append(before)
        log.append(after)
    return str(tmp_path)


def test_outcomes_stand_side_by_side(output):
    found = diff(output, LOCAL, "abc", "abd2")
    assert (found.before, found.after) == ("abc1", "abd2")
    assert found.counts == {"same": 2, "changed": 1, "added": 1, "removed": 1}
    rows = found.rows.to_pylist()
    told = [(r["video_id"], r["start_seconds"], r["text_before"], r["text_after"]) for r in rows]
    assert told == [
        ("v", None, "same", "same"),
        ("v", 5.0, "old", "new"),
        ("w", None, "gone", None),
        ("x", None, None, None),
        ("y", None, None, "more"),
    ]
    assert [r["change"] for r in rows] == ["same", "changed", "removed", "same", "added"]
    assert (rows[1]["prompt_before"], rows[1]["prompt_after"]) == ("What?", "What now?")
    assert rows[3]["code_before"] == rows[3]["code_after"] == "fetch_failed"


def test_one_fingerprint_differs_from_itself_in_nothing(output):
    assert diff(output, LOCAL, "abc1", "abc1").counts == {"same": 4}


def test_unknown_and_ambiguous_fingerprints_are_refused(output):
    with pytest.raises(SpecError, match="has no fingerprint 'x'; it has: abc1, abd2"):
        diff(output, LOCAL, "x", "abd2")
    with pytest.raises(SpecError, match="has several fingerprints 'ab'"):
        diff(output, LOCAL, "abc1", "ab")
