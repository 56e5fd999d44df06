"""What the documentation shows: its fenced blocks, the commands and the job files in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sfray.config import JobSpec

ROOT = Path(__file__).parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
_BLOCK = re.compile(r"^ *```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(?<!`)`(?P<text>[^`\n]+)`(?!`)")
_OPERATORS = frozenset("();<>|&")


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that a page shows, with the line where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(pages: tuple[Path, ...] = PAGES) -> Iterator[Shown]:
    """The fenced blocks."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Shown(page, line, found["language"], found["text"])


def commands(shown: Shown) -> Iterator[list[str]]:
    """The words behind `sfray` of each such command, up to a pipe or a redirection."""
    for line in shown.text.replace("\\\n", " ").splitlines():
        if not re.match(r"\s*(\$ )?(\w+=\S+ )*sfray\b", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        words = words[words.index("sfray") + 1 :]
        end = next((i for i, word in enumerate(words) if set(word) <= _OPERATORS), len(words))
        yield words[:end]


def inline_commands(pages: tuple[Path, ...] = PAGES) -> Iterator[Shown]:
    """Commands in running text."""
    for page in pages:
        text = _BLOCK.sub(
            lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8")
        )
        for found in _CODE.finditer(text):
            if found["text"].startswith("sfray "):
                line = text.count("\n", 0, found.start()) + 1
                yield Shown(page, line, "", found["text"])


def job_file(shown: Shown) -> dict[str, Any] | None:
    """The values of a block that is a job file or a part of one; None of other blocks."""
    if shown.language != "yaml":
        return None
    values = yaml.safe_load(shown.text)
    return values if set(JobSpec.model_fields) & set(values) else None
