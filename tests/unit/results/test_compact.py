import pyarrow as pa
import pytest

from sfray.config import StorageSpec
from sfray.errors import SpecError, StorageError
from sfray.results import compact as compaction
from sfray.results.compact import compact
from sfray.results.parts import PartSequence
from sfray.results.read import current_state
from sfray.results.run_files import read_run_file
from tests.unit.results.test_verify import run

LOCAL = StorageSpec()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    names = [f"a{n}" for n in range(10)]
    run(folder, "run-1", [*names, "b", "c", "d"], names, ["b", "c", "d"])
    run(folder, "run-2", ["b", "c", "d"], ["b"], ["c"])
    return folder


def state(folder):
    rows = current_state(str(folder), LOCAL).to_pylist()
    return sorted(rows, key=lambda row: row["request_id"])


def parts(folder):
    return len(list(folder.iterdir()))


def test_the_copy_has_the_current_state_in_few_parts(source, tmp_path):
    report = compact(str(source), str(tmp_path / "copy"), LOCAL)
    assert report.proof.ok
    assert report.num_copied == 13
    assert (report.proof.num_requested, report.proof.num_answered) == (13, 11)
    assert state(tmp_path / "copy") == state(source)
    assert parts(source / "answers") == 13
    assert (parts(tmp_path / "copy/answers"), parts(tmp_path / "copy/failures")) == (2, 2)


def test_what_the_rows_come_from_goes_with_them(source, tmp_path):
    copy = str(tmp_path / "copy")
    (source / "_sfray/runs/run-1/spec.yaml").write_text("name: x")
    for _ in range(2):
        compact(str(source), copy, LOCAL)
        assert read_run_file(copy, LOCAL, "run-1", "spec.yaml") == b"name: x"


def test_a_copy_can_be_brought_up_to_date(source, tmp_path):
    copy = tmp_path / "copy"
    compact(str(source), str(copy), LOCAL)
    run(source, "run-3", ["c", "e"], ["e"], ["c"])
    assert compact(str(source), str(copy), LOCAL).num_copied == 2
    assert state(copy) == state(source)
    assert compact(str(source), str(copy), LOCAL).num_copied == 0
    run(copy, "run-4", ["c"], ["c"])
    assert compact(str(source), str(copy), LOCAL).proof.ok


@pytest.mark.parametrize("number", range(4))
def test_an_interrupted_copy_goes_on(source, tmp_path, monkeypatch, number):
    left = [number]
    append = PartSequence.append

    def interrupted(self, table):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        append(self, table)

    monkeypatch.setattr(PartSequence, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compact(str(source), str(tmp_path / "copy"), LOCAL, part_rows=3)
    monkeypatch.setattr(PartSequence, "append", append)
    report = compact(str(source), str(tmp_path / "copy"), LOCAL, part_rows=3)
    assert report.proof.ok
    assert state(tmp_path / "copy") == state(source)


def test_what_is_no_number_is_copied_and_what_differs_is_seen():
    nan = pa.table({"x": [1.0, float("nan")], "y": [[float("nan")], None]})
    again = pa.table({"x": [1.0, float("nan")], "y": [[float("nan")], None]})
    assert not nan.equals(again) and compaction._same(nan, again)
    assert not compaction._same(nan, pa.table({"x": [1.0, 2.0], "y": [[float("nan")], None]}))
    assert not compaction._same(nan.slice(0, 1), again)


def test_places_that_make_no_sense(source, tmp_path):
    with pytest.raises(SpecError, match="into itself"):
        compact(str(source), source.as_uri(), LOCAL)
    with pytest.raises(StorageError, match="holds no results"):
        compact(str(tmp_path / "none"), str(tmp_path / "copy"), LOCAL)
