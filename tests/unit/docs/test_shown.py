"""What the documentation shows exists: commands, options, job files, links, an example."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from sfray.cli.app import app
from sfray.config import parse_job_spec
from sfray.demo.questions import questions
from sfray.demo.world import make_scene
from tests.documentation import PAGES, ROOT, Shown, blocks, commands, inline_commands, job_file

COMMANDS = [(shown, words) for shown in blocks() for words in commands(shown)]
JOB_FILES = [(shown, values) for shown in blocks() if (values := job_file(shown)) is not None]
# What a job file has to have, for those that show a part.
REST = {
    "manifest": {"uri": "videos.parquet"},
    "task": "qa",
    "model": {"id": "demo"},
    "output": {"uri": "out"},
}


def check(words: list[str]) -> None:
    """Has the command line read the words of a command, without whatever options do by themselves:
    `--install-completion` would install."""
    command, rest = get_command(app), list(words)
    while True:
        context = typer.Context(command)
        values, rest, _ = command.make_parser(context).parse_args(rest)
        for param in command.get_params(context):
            is_given = isinstance(values.get(param.name), str | list | tuple)
            assert is_given or not param.required, f"Missing {param.name}"
        if not isinstance(command, TyperGroup) or not rest:
            break
        assert rest[0] in command.commands, f"No such command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    assert not rest, f"unexpected {rest}"


@pytest.mark.parametrize(("shown", "words"), COMMANDS, ids=str)
def test_a_shown_command_exists_with_its_options(shown: Shown, words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize("shown", list(inline_commands()), ids=str)
def test_a_command_in_running_text_exists(shown: Shown) -> None:
    """Its name and options; what it is to be given may be left out there."""
    command = get_command(app)
    names = []
    for word in re.findall(r"[^\s\[\]]+", shown.text)[1:]:
        if isinstance(command, TyperGroup) and not word.startswith("-") and word != "...":
            assert word in command.commands, f"{shown}: no command {word!r}"
            command = command.commands[word]
        elif word.startswith("--"):
            names.append(word.split("=")[0].rstrip(".,"))
    known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    assert set(names) <= known | {"--help"}, f"{shown}: {shown.text}"


@pytest.mark.parametrize(
    "wrong",
    [["rnu", "job.yaml"], ["run", "job.yaml", "--sett", "a=b"], ["run"], ["eval", "jugde", "out"]],
    ids=str,
)
def test_a_command_that_does_not_exist_is_seen(wrong: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|Missing"):
        check(wrong)


@pytest.mark.parametrize(("shown", "values"), JOB_FILES, ids=str)
def test_a_shown_job_file_is_valid(shown: Shown, values: dict[str, object]) -> None:
    is_whole = {"task", "output"} <= set(values)
    if not is_whole and "prompts" in values:
        values = {"task": "caption", **values}
    parse_job_spec(dict(values) if is_whole else {**REST, **values})


def test_prompts_are_shown_on_lines_of_their_own_and_in_quotes() -> None:
    """In flow style a comma ends a text, and a colon begins a mapping."""
    for page in (*PAGES, *(ROOT / "jobs").rglob("*.yaml")):
        assert not re.search(r"\{ *prompt_id *:", page.read_text(encoding="utf-8")), page
    for shown, values in JOB_FILES:
        if "prompts" in values:
            texts = re.findall(r"^ +text: (.)", shown.text, re.MULTILINE)
            assert texts and set(texts) <= set('">'), shown


def test_links_between_files_of_the_repository_lead_somewhere() -> None:
    """As they are followed without the site, whose links `make docs` checks."""
    generated = {ROOT / "docs/reference" / f"{name}.md" for name in ("cli", "job-file", "columns")}
    generated.add(ROOT / "docs/reference/failure-codes.md")
    for page in (*PAGES, ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            path = Path(page.parent, target).resolve()
            assert path.exists() or path in generated, f"{page}: {target}"


def test_the_readme_begins_with_two_commands_and_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = next(blocks((ROOT / "README.md",)))
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == [
        "make demo",
        "make test",
    ]
    assert text.count("\n") <= 160


def test_the_example_manifest_asks_about_the_videos_of_the_demonstration() -> None:
    with (ROOT / "docs/examples/first-day.csv").open(encoding="utf-8", newline="") as file:
        *rows, late = csv.DictReader(file)
    asked = [
        {
            "video_uri": f"demo-output/videos/scene-{seed}.mp4",
            "video_id": f"scene-{seed}",
            "question_id": question.question_id,
            "question": question.question,
            "answer": question.answer,
        }
        for seed in range(1_000_000, 1_000_004)
        for question in questions(make_scene(seed), seed=0)
        if not question.options
    ]
    assert rows == asked
    # It isn't among the eight that `make demo` makes.
    assert late["video_uri"] == "demo-output/videos/scene-1000008.mp4"
