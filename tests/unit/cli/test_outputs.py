"""The commands on outputs, on small ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import StorageSpec
from sfray.results.log import ResultsLog
from tests.unit.commands.outputs import outcome, write_output
from tests.unit.results.outcomes import PASSTHROUGH, outcomes


@pytest.fixture
def output(tmp_path: Path) -> str:
    uri = str(tmp_path / "out")
    rows = outcomes(answered=["a", "b"], failed=["c"])
    with ResultsLog.open(
        uri,
        StorageSpec(),
        passthrough=PASSTHROUGH,
        run_id="r",
        flush_rows=10,
        flush_seconds=30,
    ) as log:
        log.write_requests(rows)
        log.append(rows)
    return uri


def test_a_complete_output_is_proven(output: str) -> None:
    done = CliRunner().invoke(app, ["verify", output])
    assert done.exit_code == 0, done.output
    assert "3 requests, 2 answers, 1 failures" in done.output


def test_a_missing_part_is_told(output: str) -> None:
    part = max((Path(output) / "answers").iterdir())
    part.unlink()
    done = CliRunner().invoke(app, ["verify", output])
    assert done.exit_code == 1
    assert "NOT complete" in done.output and "problem:" in done.output


def test_a_copy_holds_the_current_state(output: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    done = CliRunner().invoke(app, ["compact", output, "--to", copy])
    assert done.exit_code == 0, done.output
    assert "3 rows copied" in done.output
    assert CliRunner().invoke(app, ["verify", copy]).exit_code == 0


def test_a_table_of_answers_and_failures(output: str) -> None:
    done = CliRunner().invoke(app, ["show", output])
    assert done.exit_code == 0
    assert "text of a" in done.output and "fetch_failed" in done.output
    assert "text of a" not in CliRunner().invoke(app, ["show", output, "--failures"]).output


def as_json(*arguments: str, exit_code: int = 0) -> Any:
    """What a command prints with `--json`."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == exit_code, (done.output, done.exception)
    return json.loads(done.stdout)


def test_a_proof_is_one_object(output: str) -> None:
    report = as_json("verify", output)
    assert (report["num_answered"], report["problems"], report["complete"]) == (2, [], True)
    max((Path(output) / "answers").iterdir()).unlink()
    report = as_json("verify", output, exit_code=1)
    assert not report["complete"] and report["problems"]


def test_a_state_is_one_array_of_all_rows(tmp_path: Path) -> None:
    rows = [outcome(n, options=["a", "b"]) for n in range(25)]
    write_output(tmp_path, rows, asked=list(range(25)))
    shown = as_json("show", str(tmp_path))
    assert len(shown) == 25
    assert shown[0] == {
        "request_id": "r0",
        "video_id": "v",
        "start_seconds": None,
        "end_seconds": None,
        "prompt_id": "q0",
        "prompt": "what?",
        "text": "a dog",
        "choice": None,
        "code": None,
        "message": None,
        "reference_answer": "dog",
    }
    assert len(as_json("show", str(tmp_path), "--limit", "3")) == 3
    assert as_json("show", str(tmp_path), "--failures") == []
    table = CliRunner().invoke(app, ["show", str(tmp_path)]).stdout
    assert "20 of 25 rows" in table


def test_a_copys_report_is_one_object(output: str, tmp_path: Path) -> None:
    report = as_json("compact", output, "--to", str(tmp_path / "copy"))
    assert (report["num_copied"], report["output"]) == (3, str(tmp_path / "copy"))
    assert report["proof"]["problems"] == []


def test_a_comparison_is_one_array_of_what_changed(tmp_path: Path) -> None:
    rows = [outcome(n, fingerprint=f, request_id=f"{f}{n}") for n in range(3) for f in "xy"]
    rows[1]["text"] = "a cat"
    write_output(tmp_path, rows, asked=[])
    (changed,) = as_json("diff", str(tmp_path), "x", "y")
    assert (changed["text_before"], changed["text_after"], changed["change"]) == (
        "a dog",
        "a cat",
        "changed",
    )


def test_an_explanation_is_one_object(output: str) -> None:
    assert as_json("explain", output, "a")["row"]["text"] == "text of a"


def test_answers_are_shown_as_they_are(tmp_path: Path) -> None:
    write_output(tmp_path, [outcome(1, text="[/INST] a [red] :dog:")], asked=[1])
    done = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert "[/INST] a [red] :dog:" in done.output
