"""`sfray eval` as a user calls it: what it says, and what bad input ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.cli.evaluation import _overrides
from sfray.config import StorageSpec
from tests.unit.cli.test_app import sfray
from tests.unit.commands.outputs import outcome, write_output

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
    arguments = ["eval", "convert", "msvd-qa", str(questions), "--output", str(output), "--json"]
    account = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert account["num_read"] == 2


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


def test_the_benchmarks_are_one_array() -> None:
    listed = json.loads(sfray("eval", "benchmarks", "--json").stdout)
    assert "egoschema" in {benchmark["name"] for benchmark in listed}
    assert listed[0]["splits"][0]["num_questions"] > 0


def test_a_report_takes_the_folder_that_outputs_are_in(tmp_path: Path) -> None:
    for name in ("qa", "again"):
        write_output(tmp_path / name, [outcome(1)], asked=[1])
    (tmp_path / "videos").mkdir()
    whole = CliRunner().invoke(app, ["eval", "report", str(tmp_path), "--json"])
    assert whole.exit_code == 0, whole.exception
    sections = json.loads(whole.stdout)
    assert [section["output"] for section in sections] == [
        str(tmp_path / "again"),
        str(tmp_path / "qa"),
    ]
    one = CliRunner().invoke(app, ["eval", "report", str(tmp_path / "qa"), "--format", "json"])
    assert json.loads(one.stdout) == sections[1:]
    pair = CliRunner().invoke(
        app, ["eval", "compare", str(tmp_path / "qa"), str(tmp_path / "again"), "--json"]
    )
    assert isinstance(json.loads(pair.stdout), list)


def test_a_folder_without_outputs_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    done = sfray("eval", "report", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path} holds no results, nor does a folder right below it\n"
    )


def test_storage_options_are_overrides_of_the_jobs() -> None:
    storage = StorageSpec(profile="p", anonymous=False)
    assert _overrides(storage, ["storage.profile=q"]) == (
        'storage.profile="p"',
        "storage.anonymous=false",
        "storage.profile=q",
    )
