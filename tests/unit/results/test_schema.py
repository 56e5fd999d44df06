"""The columns of an output: frozen, told by name, readable over versions."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.columns import (
    COLUMNS,
    OUTPUT_FORMAT,
    TABLES,
    Column,
    passthrough_field,
)
from sfray.config import StorageSpec
from sfray.errors import SchemaError, StorageError
from sfray.partition import Partition
from sfray.results.compact import compact
from sfray.results.log import ResultsLog
from sfray.results.read import current_state, read_answers
from sfray.results.schema import columns_of
from sfray.results.verify import verify
from sfray.storage.folders import open_folder
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

LOCAL = StorageSpec()


def write(
    uri: Path,
    rows: pa.Table,
    *,
    run_id: str = "run-1",
    passthrough: pa.Schema = PASSTHROUGH,
    partition: Partition | None = None,
    needed: tuple[str, ...] = (),
) -> None:
    with ResultsLog.open(
        str(uri),
        LOCAL,
        partition=partition,
        passthrough=passthrough,
        needed=needed,
        run_id=run_id,
        flush_rows=100,
        flush_seconds=30,
    ) as log:
        log.write_requests(rows)
        log.append(rows)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A later version, which has a column of answers more; undone, it is this version again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COLUMNS, "novel", Column("novel", pa.string(), "what is new"))
        patch.setitem(TABLES, "answers", (*TABLES["answers"], "novel"))
        yield patch


def test_an_output_says_its_format(tmp_path: Path) -> None:
    write(tmp_path, outcomes(["a"]))
    assert json.loads((tmp_path / "_sfray/format.json").read_text()) == {"format": OUTPUT_FORMAT}


@pytest.mark.parametrize("said", [OUTPUT_FORMAT + 1, 99])
def test_a_newer_format_is_one_sentence(tmp_path: Path, said: int) -> None:
    write(tmp_path, outcomes(["a"]))
    (tmp_path / "_sfray/format.json").write_text(json.dumps({"format": said}))
    for act in (
        lambda: write(tmp_path, outcomes(["b"]), run_id="run-2"),
        lambda: verify(str(tmp_path), LOCAL),
        lambda: current_state(str(tmp_path), LOCAL),
        lambda: compact(str(tmp_path), str(tmp_path / "copy"), LOCAL),
    ):
        with pytest.raises(SchemaError, match=f"has the format {said}, but .* up to"):
            act()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "{}",
        "[]",
        *(f'{{"format": {n}}}' for n in ("0", "-5", "2.9", '"2"', "true", "Infinity")),
    ],
)
def test_a_damaged_number_is_one_sentence(tmp_path: Path, text: str) -> None:
    write(tmp_path, outcomes(["a"]))
    (tmp_path / "_sfray/format.json").write_text(text)
    with pytest.raises(StorageError, match=r"format\.json is damaged"):
        verify(str(tmp_path), LOCAL)


def test_a_newer_version_that_hardly_began_is_left_alone(tmp_path: Path) -> None:
    """It may have put what this version doesn't know, but no columns yet."""
    (tmp_path / "_sfray").mkdir()
    (tmp_path / "_sfray/format.json").write_text(json.dumps({"format": OUTPUT_FORMAT + 1}))
    with pytest.raises(SchemaError, match="knows formats up to"):
        write(tmp_path, outcomes(["a"]))
    assert not (tmp_path / "_sfray/schema.arrow").exists()
    assert not (tmp_path / "README.md").exists()


def test_columns_say_their_format_themselves(tmp_path: Path) -> None:
    """A run that was killed between the two files, or a file that was lost."""
    write(tmp_path, outcomes(["a"]))
    for name in ("_sfray/format.json", "README.md"):
        (tmp_path / name).unlink()
    assert columns_of(open_folder(str(tmp_path), LOCAL)).format == OUTPUT_FORMAT
    assert verify(str(tmp_path), LOCAL).ok
    write(tmp_path, outcomes(["b"], run_id="run-2"), run_id="run-2")
    assert (tmp_path / "_sfray/format.json").exists() and (tmp_path / "README.md").exists()


def test_damaged_columns_are_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, outcomes(["a"]))
    (tmp_path / "_sfray/schema.arrow").write_bytes(b"no columns")
    with pytest.raises(StorageError, match=r"schema\.arrow is damaged"):
        verify(str(tmp_path), LOCAL)


def test_what_a_later_version_added_is_read_kept_and_gone_on_with(
    tmp_path: Path, later: pytest.MonkeyPatch
) -> None:
    rows = outcomes(["a"], ["b"])
    index = rows.schema.get_field_index("novel")
    novel = pa.array(["new", None], pa.string())
    write(tmp_path, rows.set_column(index, rows.schema.field(index), novel))
    later.undo()
    assert "novel" not in COLUMNS
    assert verify(str(tmp_path), LOCAL).ok
    write(tmp_path, outcomes(["c"], ["b"], run_id="run-2"), run_id="run-2")
    assert verify(str(tmp_path), LOCAL).ok
    answers = read_answers(str(tmp_path), LOCAL).to_table()
    assert answers.select(["request_id", "novel"]).to_pylist() == [
        {"request_id": "a", "novel": "new"},
        {"request_id": "c", "novel": None},
    ]
    state = current_state(str(tmp_path), LOCAL)
    assert state.num_rows == 3 and "novel" in state.column_names
    schemas = {str(pq.read_schema(p).remove_metadata()) for p in (tmp_path / "answers").iterdir()}
    assert len(schemas) == 1
    with pytest.raises(
        SchemaError, match="doesn't know, such as 'novel': copy it with the version"
    ):
        compact(str(tmp_path), str(tmp_path / "copy"), LOCAL)
    assert not (tmp_path / "copy").exists()


def test_an_output_of_before_keeps_its_columns_and_says_so(
    tmp_path: Path, later: pytest.MonkeyPatch
) -> None:
    later.undo()
    write(tmp_path, outcomes(["a"]))
    assert columns_of(open_folder(str(tmp_path), LOCAL)).older_than_now is None
    later.setitem(COLUMNS, "novel", Column("novel", pa.string(), "what is new"))
    later.setitem(TABLES, "answers", (*TABLES["answers"], "novel"))
    write(tmp_path, outcomes(["b"]), run_id="run-2")
    columns = columns_of(open_folder(str(tmp_path), LOCAL))
    assert "without novel; `sfray compact OUTPUT --to NEW`" in str(columns.older_than_now)
    assert "novel" not in read_answers(str(tmp_path), LOCAL).schema.names
    assert current_state(str(tmp_path), LOCAL, ["request_id", "novel"])["novel"].null_count == 2
    with pytest.raises(SchemaError, match="lacks the column 'novel', which this job needs"):
        write(tmp_path, outcomes(["c"]), run_id="run-3", needed=("novel",))
    copy = tmp_path / "copy"
    compact(str(tmp_path), str(copy), LOCAL)
    write(copy, outcomes(["c"]), run_id="run-3", needed=("novel",))
    assert verify(str(copy), LOCAL).ok
    later.undo()
    write(tmp_path / "begun", outcomes(["z"]))
    later.setitem(COLUMNS, "novel", Column("novel", pa.string(), "what is new"))
    later.setitem(TABLES, "answers", (*TABLES["answers"], "novel"))
    into_older = compact(str(tmp_path), str(tmp_path / "begun"), LOCAL)
    assert "without novel" in str(into_older.older_than_now)


def test_partitions_that_begin_later_have_the_columns_of_the_first(
    tmp_path: Path, later: pytest.MonkeyPatch
) -> None:
    later.undo()
    write(tmp_path, outcomes(["a"]), partition=Partition(index=0, num_partitions=2))
    later.setitem(COLUMNS, "novel", Column("novel", pa.string(), "what is new"))
    later.setitem(TABLES, "answers", (*TABLES["answers"], "novel"))
    write(tmp_path, outcomes(["b"]), partition=Partition(index=1, num_partitions=2))
    assert verify(str(tmp_path), LOCAL).ok
    parts = tmp_path.glob("partition-*/answers/*.parquet")
    assert len({str(pq.read_schema(part).remove_metadata()) for part in parts}) == 1


def test_a_column_of_the_manifest_keeps_its_place_when_its_name_becomes_one_of_the_results(
    tmp_path: Path, later: pytest.MonkeyPatch
) -> None:
    """`novel` of people's manifests, in an output of before and in one of later."""
    later.undo()
    theirs = pa.schema([passthrough_field("novel", pa.string())])
    rows = outcomes(["a"]).drop_columns(["source"]).append_column("novel", pa.array(["x"]))
    write(tmp_path / "old", rows, passthrough=theirs)
    later.setitem(COLUMNS, "novel", Column("novel", pa.int64(), "what is new"))
    later.setitem(TABLES, "answers", (*TABLES["answers"], "novel"))
    theirs = pa.schema([passthrough_field("novel", pa.string())])
    assert theirs.names == ["passthrough_novel"]
    rows = outcomes(["b"]).drop_columns(["source"])
    rows = rows.append_column("passthrough_novel", pa.array(["y"]))
    for folder, stored in (("old", "novel"), ("new", "passthrough_novel")):
        write(tmp_path / folder, rows, run_id="run-2", passthrough=theirs)
        assert verify(str(tmp_path / folder), LOCAL).ok
        answers = read_answers(str(tmp_path / folder), LOCAL).to_table()
        assert answers[stored].to_pylist()[-1] == "y"
    assert read_answers(str(tmp_path / "old"), LOCAL).to_table()["novel"].to_pylist() == ["x", "y"]
    compact(str(tmp_path / "old"), str(tmp_path / "copy"), LOCAL)
    copied = read_answers(str(tmp_path / "copy"), LOCAL).to_table()
    assert copied["passthrough_novel"].to_pylist() == ["x", "y"]
    assert copied["novel"].null_count == 2


def test_an_empty_part_has_no_row_group(tmp_path: Path) -> None:
    """Readers choke on a group of no rows."""
    write(tmp_path, outcomes(["a"]))
    groups = [
        pq.ParquetFile(part).metadata.num_row_groups
        for part in sorted((tmp_path / "answers").iterdir())
    ]
    assert groups == [0, 1]


@pytest.mark.parametrize("is_broken_link", [False, True])
def test_a_readme_of_the_folder_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_broken_link: bool
) -> None:
    if is_broken_link:
        (tmp_path / "README.md").symlink_to(tmp_path / "nowhere" / "README.md")
    else:
        (tmp_path / "README.md").write_text("mine")
    with caplog.at_level("INFO", "sfray"):
        write(tmp_path, outcomes(["a"]))
    assert "keeps its own README.md" in caplog.text and "config_name: answers" in caplog.text
    assert is_broken_link or (tmp_path / "README.md").read_text() == "mine"
    assert verify(str(tmp_path), LOCAL).ok


def test_no_two_columns_of_a_manifest_get_one_name(tmp_path: Path) -> None:
    names = ("flags", "passthrough_flags", "passthrough_passthrough_flags", "passthrough_mine")
    theirs = pa.schema([passthrough_field(name, pa.string()) for name in names])
    assert len(set(theirs.names)) == len(names)
    assert theirs.names[-1] == "passthrough_mine"
    rows = outcomes(["a"]).drop_columns(["source"])
    for field, name in zip(theirs, names, strict=True):
        rows = rows.append_column(field, pa.array([f"value of {name}"]))
    write(tmp_path / "new", rows, passthrough=theirs)
    compact(str(tmp_path / "new"), str(tmp_path / "copy"), LOCAL)
    for folder in ("new", "copy"):
        (row,) = read_answers(str(tmp_path / folder), LOCAL).to_table().to_pylist()
        stored = columns_of(open_folder(str(tmp_path / folder), LOCAL)).renamed
        assert {n: row[stored.get(n, n)] for n in names} == {n: f"value of {n}" for n in names}
