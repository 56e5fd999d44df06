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

    Tried in this order: letters in brackets (`(B)`), a leading letter (`B`, `B.`, `B) blue`),
    `the answer is B`, the text of an option, in full or anywhere in the answer. An option whose
    text is part of another named one (`blue` in `dark blue`) doesn't count.
    """
    letters = ascii_uppercase[: len(options)]
    for pattern in (_BRACKETED, _LEADING, _SAID):
        named = {found.upper() for found in pattern.findall(text.strip())} & set(letters)
        if named:
            return named.pop() if len(named) == 1 else None
    said = _plain(text)
    plain = {letter: _plain(option) for letter, option in zip(letters, options, strict=True)}
    whole = [letter for letter, option in plain.items() if option and option == said]
    if len(whole) == 1:
        return whole[0]
    inside = [letter for letter, option in plain.items() if option and _holds(said, option)]
    longest = [
        letter
        for letter in inside
        if not any(plain[o] != plain[letter] and _holds(plain[o], plain[letter]) for o in inside)
    ]
    return longest[0] if len(longest) == 1 else None


def _holds(text: str, part: str) -> bool:
    return re.search(rf"\b{re.escape(part)}\b", text) is not None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())
