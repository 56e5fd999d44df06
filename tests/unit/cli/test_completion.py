"""Shell completion, as docs/how-to/shell-completion.md has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfray.cli.app import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder to install completion in, and a shell that isn't guessed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for module in ("completion", "_completion_shared"):
        monkeypatch.setattr(f"typer.{module}._get_shell_name", lambda: "bash")
    return tmp_path


def test_the_script_of_a_shell_is_shown() -> None:
    done = runner.invoke(app, ["--show-completion"], prog_name="sfray")
    assert done.exit_code == 0
    assert "complete -o default -F _sfray_completion sfray" in done.output


def test_it_is_installed_where_the_shell_looks(home: Path) -> None:
    done = runner.invoke(app, ["--install-completion"], prog_name="sfray")
    assert done.exit_code == 0
    assert "_sfray_completion" in (home / ".bash_completions/sfray.sh").read_text()
    assert "sfray.sh" in (home / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("sfray", "pl"), "plan"),
        (("sfray", "eval", "ju"), "judge"),
        (("sfray", "run", "job.yaml", "--part"), "--partition"),
    ],
)
def test_the_tab_key_completes_commands_and_options(words: tuple[str, ...], found: str) -> None:
    """By the variables that the script sets in bash."""
    asked = {
        "_SFRAY_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = runner.invoke(app, [], prog_name="sfray", env=asked)
    assert found in done.output.split()
