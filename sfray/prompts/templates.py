"""Prompt templates: text files that are the whole prompt, with the image's place in it.

A built-in template has the three parts that SlowFast-LLaVA's ablation shows to matter (arXiv
2407.15841, section 4.4): an instruction for the task, a sentence on what the input is, and the
beginning of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

from sfray.config import Task
from sfray.errors import SpecError
from sfray.prompts.choices import option_lines

IMAGE = "<image>"
DEFAULT = "default"
_BUILT_IN = resources.files("sfray.prompts") / "templates"
_PLACES = re.compile(r"\{question\}|\{options\}")
_OPTIONS_LINE = re.compile(r"[^\S\n]*\{options\}[^\S\n]*\n?")


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt split at the image; the visual tokens go between the two texts."""

    before_image: str
    after_image: str


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template: `<image>` and `{question}` once, `{options}` at most once."""

    text: str

    def render(self, question: str, options: Sequence[str] = ()) -> RenderedPrompt:
        """The prompt of a question; whatever the question holds stays plain text."""
        before, after = self.text.split(IMAGE)
        return RenderedPrompt(_fill(before, question, options), _fill(after, question, options))


def _fill(text: str, question: str, options: Sequence[str]) -> str:
    if not options:
        text = _OPTIONS_LINE.sub("", text)
    values = {"{question}": question, "{options}": option_lines(options)}
    # One pass, so that braces in a question are not taken for places.
    return _PLACES.sub(lambda place: values[place[0]], text)


def is_built_in(name: str) -> bool:
    """Whether a job's template is one of ours, and no file of the user's."""
    return name in built_in_names()


def built_in_names() -> list[str]:
    """What a job may name instead of a file of its own."""
    return [DEFAULT, *sorted(p.name.removesuffix(".txt") for p in _BUILT_IN.iterdir())]


def load_template(name_or_path: str, chat_format: str, task: Task) -> Template:
    """The template that a job names.

    Args:
        name_or_path: `default`, the name of a built-in one, or the path of a text file.
        chat_format: that of the model, which decides what `default` is.

    Raises:
        SpecError: no such template, or a text that is none.
    """
    name = name_or_path
    if name == DEFAULT:
        name = chat_format if chat_format == "demo" else f"{chat_format}.{task}"
    if is_built_in(name):
        return _checked((_BUILT_IN / f"{name}.txt").read_text(encoding="utf-8"), name)
    try:
        text = Path(name_or_path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(
            f"template {name_or_path!r} is neither a readable text file, looked for at "
            f"{Path(name_or_path).absolute()}, nor one of: {', '.join(built_in_names())}"
        ) from error
    return _checked(text, name_or_path)


def _checked(text: str, name: str) -> Template:
    text = text.removesuffix("\n")  # editors end files with a line break; a prompt has none
    for place, least, most in ((IMAGE, 1, 1), ("{question}", 1, 1), ("{options}", 0, 1)):
        found = text.count(place)
        if not least <= found <= most:
            wanted = "exactly once" if least else "at most once"
            raise SpecError(f"template {name!r} must hold {place} {wanted}, not {found} times")
    if not _OPTIONS_LINE.sub("", text.split(IMAGE)[1]):
        raise SpecError(f"template {name!r} must go on after <image>: the answer continues a text")
    return Template(text)


def column_names(text: str) -> tuple[str, ...]:
    """The manifest columns that `{column}` in a prompt's text refers to; `{{` is a plain brace.

    Raises:
        SpecError: braces that don't match, or a place that is no plain column name.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise SpecError(f"prompt {text!r}: {error}; write {{{{ for a plain brace") from error
    for _, name, format_spec, conversion in parts:
        if name is not None and (not name.isidentifier() or format_spec or conversion):
            raise SpecError(f"prompt {text!r}: {{{name}}} is not the name of a column")
    return tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def fill_columns(text: str, row: Mapping[str, Any]) -> str:
    """The text with the values of a manifest row; a missing value is an empty text."""
    return "".join(
        literal + ("" if name is None or row[name] is None else str(row[name]))
        for literal, name, _, _ in Formatter().parse(text)
    )
