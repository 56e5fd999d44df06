from pathlib import Path

import pytest

from sfray.errors import SpecError
from sfray.prompts.templates import column_names, fill_columns, load_template


def write(folder: Path, text: str) -> str:
    path = folder / "template.txt"
    path.write_text(text)
    return str(path)


def test_a_file_is_the_whole_prompt(tmp_path: Path) -> None:
    path = write(tmp_path, "USER: <image>\nQ: {question}\n{options}\nA:\n")
    template = load_template(path, "vicuna_v1", "qa")
    rendered = template.render("Why?", ["red", "blue"])
    assert rendered.before_image == "USER: "
    assert rendered.after_image == "\nQ: Why?\n(A) red\n(B) blue\nA:"


def test_the_line_of_the_options_goes_where_there_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "<image>Q: {question}\n{options}\nA:")
    assert load_template(path, "vicuna_v1", "qa").render("Why?").after_image == "Q: Why?\nA:"


def test_what_a_question_holds_stays_text(tmp_path: Path) -> None:
    template = load_template(write(tmp_path, "<image>{question} {options}|"), "vicuna_v1", "qa")
    question = "Is {options} or {question} or <image> shown? {x} \\1"
    rendered = template.render(question, ["{question}"])
    assert rendered.after_image == f"{question} (A) {{question}}|"
    assert rendered.before_image == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{question}", "<image> exactly once, not 0"),
        ("<image><image>{question}", "<image> exactly once, not 2"),
        ("<image>", "{question} exactly once, not 0"),
        ("<image>{question}{options}{options}", "{options} at most once, not 2"),
        ("{question}<image>", "must go on after <image>"),
        ("{question}<image>{options}", "must go on after <image>"),
    ],
)
def test_a_template_without_its_places_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_template(write(tmp_path, text), "vicuna_v1", "qa")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["Describe the video. " * 40, "a\0b"])
def test_a_text_that_is_no_path_is_no_template(name: str) -> None:
    with pytest.raises(SpecError, match="neither a readable text file"):
        load_template(name, "vicuna_v1", "qa")


def test_an_unknown_template_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"'nowhere\.txt'.*default.*demo"):
        load_template("nowhere.txt", "vicuna_v1", "qa")


@pytest.mark.parametrize(
    "chat_format", ["vicuna_v1", "mistral_instruct", "chatml", "qwen2", "demo"]
)
@pytest.mark.parametrize("task", ["caption", "qa", "multiple_choice"])
def test_every_format_has_a_default_for_every_task(chat_format: str, task: str) -> None:
    template = load_template("default", chat_format, task)
    options = ["red", "blue"] if task == "multiple_choice" else []
    rendered = template.render("What is it?", options)
    assert "What is it?" in rendered.after_image
    assert ("(B) blue" in rendered.after_image) == bool(options)


def test_columns_of_the_manifest_fill_a_prompt() -> None:
    text = "Describe what {source} shows, {{really}}, {source} or {other}."
    assert column_names(text) == ("source", "other")
    row = {"source": "a {drone}", "other": None}
    assert fill_columns(text, row) == "Describe what a {drone} shows, {really}, a {drone} or ."


@pytest.mark.parametrize("text", ["{", "a }", "{0}", "{a.b}", "{a!r}", "{a:>3}", "{}"])
def test_places_that_are_no_column_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        column_names(text)
