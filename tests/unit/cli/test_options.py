"""The option groups that commands share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.cli.options import STORAGE_OPTIONS, reaches_storage
from sfray.config import StorageSpec
from sfray.errors import SpecError

JOB = """
task: no task at all
storage:
  endpoint_url: "http://127.0.0.1:9000"
  profile: "of the file"
  anonymous: true
"""


@pytest.fixture
def reached() -> tuple[typer.Typer, list[StorageSpec]]:
    """An app of one command, and the storage that it was called with."""
    one, called = typer.Typer(), []

    @one.command()
    @reaches_storage
    def look(name: str = "x", *, storage: StorageSpec) -> None:
        called.append(storage)

    return one, called


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_every_key_of_a_storage_section_is_an_option() -> None:
    assert set(STORAGE_OPTIONS) == set(StorageSpec.model_fields)


def test_what_is_given_is_set_and_nothing_else(reached) -> None:
    one, called = reached
    options = ["--profile", "p", "--region", "r", "--anonymous", "--endpoint-url", "http://h"]
    CliRunner().invoke(one, options, catch_exceptions=False)
    CliRunner().invoke(one, [], catch_exceptions=False)
    everything = StorageSpec(endpoint_url="http://h", profile="p", region="r", anonymous=True)
    assert called == [everything, StorageSpec()]
    assert called[1].model_fields_set == set()


def test_a_job_files_storage_holds_and_options_go_before_it(reached, job: Path) -> None:
    one, called = reached
    options = ["--storage-from", str(job), "--no-anonymous", "--region", "r"]
    CliRunner().invoke(one, options, catch_exceptions=False)
    assert called == [
        StorageSpec(endpoint_url="http://127.0.0.1:9000", profile="of the file", region="r")
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("storage: {profil: x}", "unknown key 'storage.profil' .* allowed here: anonymous"),
        ("storage: {anonymous: perhaps}", "storage.anonymous is 'perhaps'"),
        ("- a list", "must be a mapping of keys"),
        ("storage: [", "not valid YAML"),
    ],
)
def test_a_wrong_storage_section_is_one_sentence(reached, job: Path, text: str, words: str) -> None:
    job.write_text(text)
    with pytest.raises(SpecError, match=words) as raised:
        CliRunner().invoke(reached[0], ["--storage-from", str(job)], catch_exceptions=False)
    assert "\n" not in str(raised.value)


def test_a_job_file_without_storage_is_the_default(reached, job: Path) -> None:
    job.write_text("task: qa")
    CliRunner().invoke(reached[0], ["--storage-from", str(job)], catch_exceptions=False)
    assert reached[1] == [StorageSpec()]


def commands(group: click.Command, name: str = "") -> dict[str, set[str]]:
    """The names of parameters by command, groups entered."""
    if not hasattr(group, "commands"):
        return {name: {parameter.name for parameter in group.params}}
    found: dict[str, set[str]] = {}
    for below, command in group.commands.items():
        found |= commands(command, f"{name} {below}".strip())
    return found


def test_every_command_with_an_output_reaches_it_as_a_job_does() -> None:
    by_storage = {*STORAGE_OPTIONS, "storage_from"}
    parameters = commands(typer.main.get_command(app))
    reaching = {name for name, own in parameters.items() if own & by_storage}
    assert all(by_storage <= parameters[name] for name in reaching)
    arguments = {"output", "outputs", "videos", "a"}
    local = {"demo"}  # writes a folder of this machine
    assert {name for name, own in parameters.items() if own & arguments} - local <= reaching


def test_every_command_that_prints_a_table_prints_json() -> None:
    parameters = commands(typer.main.get_command(app))
    # A text, a file, lines that are JSON already, or an id.
    others = {"init", "manifest", "logs", "submit", "probe", "eval submission"}
    assert {name for name, own in parameters.items() if "as_json" not in own} == others
