"""`sfray manifest` and `sfray init` as a user calls them."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import load_job_spec
from sfray.errors import SpecError


def call(*arguments: str) -> list[str]:
    """The lines that a command prints."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_one_command_leads_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my videos").mkdir()
    (tmp_path / "my videos" / "a.mp4").write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sfray.cli.starting.program_name", lambda: "sfray")
    made, following = call("manifest", "my videos", "--output", "m 1.csv", "--profile", "p q")
    assert made == "m 1.csv: 1 videos, 5 bytes"
    expected = "sfray init job.yaml --task caption --manifest 'm 1.csv' --profile 'p q'"
    assert following == f"next: {expected}"
    (written,) = call(*shlex.split(expected)[1:], "--model", "demo")
    assert written == "job.yaml is written; next: sfray plan job.yaml"
    job = load_job_spec("job.yaml")
    assert (job.manifest.uri, job.model.id, job.storage.profile) == ("m 1.csv", "demo", "p q")
    with pytest.raises(SpecError, match="--force"):
        call("init")
    call("init", "--force", "--task", "qa")
    assert load_job_spec("job.yaml").task == "qa"
    call(*shlex.split(expected.replace(" --profile 'p q'", ""))[1:], "--model", "demo", "--force")
    assert any("1 requests on 1 videos" in line for line in call("plan", "job.yaml"))


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "a b.yaml"
    assert call("init", str(path)) == [f"{path} is written; next: sfray plan '{path}'"]
    job = load_job_spec(path)
    assert (job.task, job.manifest.uri, job.output.uri) == ("caption", "manifest.parquet", "output")
    assert job.model.id == "llava-hf/llava-v1.6-vicuna-7b-hf"


def test_on_a_terminal_what_is_missing_is_asked(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sfray", "init", "job.yaml", "--model", "demo"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path
    )
    os.close(theirs)
    os.write(ours, b"no task\nqa\nrows.csv\n\n")  # the last is the default
    said = b""
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=60) == 0, said
    job = load_job_spec(tmp_path / "job.yaml")
    assert (job.task, job.manifest.uri, job.output.uri) == ("qa", "rows.csv", "output")
    assert b"Where is the manifest" in said and b"Which model" not in said
