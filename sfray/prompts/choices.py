"""Options of a multiple-choice question: how they are shown, how an answer names one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_LEADING = re.compile(r"^\W*([A-Za-z])(?:[).:,]|\s*$)")
_SAID = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*\(?([A-Z])\b", re.IGNORECASE)


def option_lines(options: Sequence[str]) -> str:
    """`(A) red` and so on, one a line."""
    return "\n".join(
        f"({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)
    )


def parse_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer names, or None if it names none or several.

    Tried in this order: a leading letter (`B`, `B.`, `B) blue`), a letter in brackets (`(B)`),
    `the answer is B`, the text of one option, in full or as the only one that occurs.
    """
    letters = ascii_uppercase[: len(options)]
    stripped = text.strip()
    for pattern in (_LEADING, _BRACKETED, _SAID):
        named = {found.upper() for found in pattern.findall(stripped)} & set(letters)
        if len(named) == 1:
            return named.pop()
        if named:
            return None
    said = _plain(stripped)
    whole = [letter for letter, o in zip(letters, options, strict=True) if _plain(o) == said]
    if not whole:
        whole = [
            letter
            for letter, o in zip(letters, options, strict=True)
            if _plain(o) and re.search(rf"\b{re.escape(_plain(o))}\b", said)
        ]
    return whole[0] if len(whole) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())
