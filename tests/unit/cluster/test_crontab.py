"""The line of the crontab, run by a shell with a `sfray` that ends with each exit code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).parents[3] / "cluster" / "schedule" / "crontab"
LINES = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
SETTING = re.compile(r"[A-Z_]+=")


def nightly_command() -> str:
    (entry,) = [line for line in LINES if not SETTING.match(line)]
    *schedule, command = entry.split(maxsplit=5)
    assert schedule == ["0", "1", "*", "*", "*"]
    assert "%" not in command, "cron makes a new line of it"
    return command


def run(code: int, folder: Path) -> subprocess.CompletedProcess[str]:
    sfray = folder / "sfray"
    sfray.write_text(f'#!/bin/sh\necho "sfray $@"\nexit {code}\n')
    sfray.chmod(0o755)
    command = nightly_command().replace("/var/log/sfray/captions.log", f"{folder}/log")
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(  # noqa: S603 - the project's own line
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("code", [0, 4])
def test_a_night_that_went_well_or_had_nothing_to_do_is_silent(code: int, tmp_path: Path) -> None:
    night = run(code, tmp_path)
    assert (night.returncode, night.stdout, night.stderr) == (0, "", "")
    assert (tmp_path / "log").read_text() == "sfray submit /etc/sfray/captions.yaml --follow\n"


@pytest.mark.parametrize("code", [1, 2, 3, 130, 143])
def test_a_night_that_went_wrong_is_mailed_with_its_code(code: int, tmp_path: Path) -> None:
    night = run(code, tmp_path)
    assert night.returncode == code
    assert night.stdout.startswith(f"captions: exit code {code},")


def test_the_crontab_holds_no_token() -> None:
    settings = dict(line.split("=", 1) for line in LINES if SETTING.match(line))
    assert settings["RAY_AUTH_MODE"] == "token"
    assert settings["RAY_AUTH_TOKEN_PATH"].startswith("/") and "RAY_AUTH_TOKEN" not in settings
