"""`sfray eval` as a user calls it: what it says, and what bad input ends with."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.unit.cli.test_app import sfray

QUESTIONS = "video_name,question,answer,question_id\nv1,who?,man,1\nv1,what?,dog,2\n"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "MSVD_QA.csv"
    path.write_text(QUESTIONS)
    return path


def test_a_conversion_writes_a_manifest_and_its_account(tmp_path: Path, questions: Path) -> None:
    output = tmp_path / "new" / "m.parquet"
    done = sfray("eval", "convert", "msvd-qa", str(questions), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "rows read: 2\nrows kept: 2\nidentical rows collapsed: 0\n" in done.stdout
    assert pq.read_table(output).num_rows == 2


@pytest.mark.parametrize(
    ("benchmark", "body", "output", "words"),
    [
        ("msvd", QUESTIONS, "m.parquet", "benchmark 'msvd' is not one of: msvd-qa"),
        ("msvd-qa", "", "m.parquet", "no usable header"),
        ("next-qa", QUESTIONS, "m.parquet", "no options to choose from"),
        ("msvd-qa", QUESTIONS, "m.csv", "m.csv is no .parquet file"),
        ("msvd-qa", QUESTIONS, "MSVD_QA.csv/m.parquet", "can't be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, questions: Path, benchmark: str, body: str, output: str, words: str
) -> None:
    questions.write_text(body)
    done = sfray("eval", "convert", benchmark, str(questions), "--output", str(tmp_path / output))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
