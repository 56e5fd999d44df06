"""The commands on outputs, on small ones."""

from __future__ import annotations

from pathlib import Path

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


def test_answers_are_shown_as_they_are(tmp_path: Path) -> None:
    write_output(tmp_path, [outcome(1, text="[/INST] a [red] :dog:")], asked=[1])
    done = CliRunner().invoke(app, ["show", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert "[/INST] a [red] :dog:" in done.output
