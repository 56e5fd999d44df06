from __future__ import annotations

from pathlib import Path

import pytest

from sfray.config import StorageSpec
from sfray.errors import SchemaError, StorageError
from sfray.partition import Partition
from sfray.results.partitioning import check_output, fix_log, fix_output, log_uris, num_partitions
from sfray.results.schema import OutputColumns, freeze_columns
from sfray.storage.folders import open_folder
from tests.unit.results.outcomes import PASSTHROUGH

LOCAL = StorageSpec()
HALF, THIRD = Partition.parse("1/2"), Partition.parse("1/3")


def test_an_output_stays_split_as_its_first_run_had_it(tmp_path: Path) -> None:
    output = open_folder(str(tmp_path), LOCAL)
    check_output(output, HALF)
    assert not list(tmp_path.iterdir())
    fix_output(output, HALF)
    fix_output(output, Partition.parse("0/2"))
    assert num_partitions(output) == 2
    with pytest.raises(SchemaError, match="in 2 partitions, not as a job in 3 part"):
        fix_output(output, THIRD)
    with pytest.raises(SchemaError, match="in 2 partitions, not as a job in one piece"):
        fix_log(output, None)
    for other in (THIRD, None):
        with pytest.raises(SchemaError):
            check_output(output, other)


def test_a_log_stays_of_its_partition(tmp_path: Path) -> None:
    log = open_folder(str(tmp_path), LOCAL)
    fix_log(log, HALF)
    fix_log(log, HALF)
    with pytest.raises(SchemaError, match="begun as partition 1/2, not as partition 1/3"):
        fix_log(log, THIRD)
    with pytest.raises(SchemaError, match="begun as partition 1/2, not as a job in one piece"):
        fix_log(log, None)


def test_what_was_begun_in_one_piece_is_not_split_later(tmp_path: Path) -> None:
    output = open_folder(str(tmp_path), LOCAL)
    fix_log(output, None)
    with pytest.raises(SchemaError, match="begun as a job in one piece"):
        fix_output(output, HALF)


def test_results_without_a_word_on_partitions_are_of_one_piece(tmp_path: Path) -> None:
    output = open_folder(str(tmp_path), LOCAL)
    freeze_columns(output, OutputColumns.of_today(PASSTHROUGH))
    with pytest.raises(SchemaError, match="begun as a job in one piece"):
        fix_output(output, HALF)
    fix_log(output, None)
    assert log_uris(str(tmp_path), LOCAL) == [str(tmp_path)]


def test_the_logs_of_an_output_are_those_that_have_begun(tmp_path: Path) -> None:
    output = open_folder(str(tmp_path), LOCAL)
    with pytest.raises(StorageError, match="holds no results"):
        log_uris(str(tmp_path), LOCAL)
    fix_output(output, HALF)
    freeze_columns(output, OutputColumns.of_today(PASSTHROUGH))
    assert log_uris(str(tmp_path), LOCAL) == []
    begun = f"{tmp_path}/{HALF.folder}"
    freeze_columns(open_folder(begun, LOCAL), OutputColumns.of_today(PASSTHROUGH))
    (tmp_path / THIRD.folder).mkdir()
    assert log_uris(str(tmp_path), LOCAL) == [begun]
