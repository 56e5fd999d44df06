"""Options of a multiple-choice question: how they are shown, how an answer names one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from string import ascii_uppercase

# What may follow a letter that stands for an option. Before another word, `a` is an article, and
# `C` the camera's wearer of EgoSchema.
_RIGHT = r"is\s+(?:the\s+)?(?:right|correct)"
_END = rf"(?=\s*$|\s*(?:[^\w\s']|'(?!\w))|\s+(?:because|since|as|and|or|{_RIGHT})\b)"
_BRACKETED = re.compile(r"(?:[(\[{<]|\*\*)\s*([A-Z])\s*(?:[)\]}>]|[).:]?\s*\*\*)", re.IGNORECASE)
_LEADING = re.compile(
    r"^[^\w\n]*([A-Z])(?:\s*[).:]|\s+[-\u2013\u2014]\s|[^\w\n]*$)", re.IGNORECASE | re.MULTILINE
)
_SAID = re.compile(
    r"(?:\b(?:(?:answer|option|choice)(?:\s+is)?|choose|pick|select|it\s+is|it's)\s*:?\W*"
    rf"|^\W*(?=[A-Z]\s+{_RIGHT}\b))([A-Z]){_END}",
    re.IGNORECASE,
)
_ANOTHER = re.compile(rf"\s*(?:,|/|&|\+|\band\b|\bor\b)+\s*\(?([A-Z]){_END}")


def option_lines(options: Sequence[str]) -> str:
    """`(A) red` and so on, one a line."""
    return "\n".join(
        f"({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)
    )


def parse_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer names, or None if it names none or several.

    Tried in this order, the first that is found decides:

    1. letters in brackets (`(B)`, `[B]`, `**B**`);
    2. a letter that leads a line (`B`, `B.`, `B) blue`, `B - blue`);
    3. a letter that is said to be the answer (`the answer is B`, `option B`, `B is correct`), but
       not a word of a sentence (`the answer is a dog`);
    4. the text of an option, in full or anywhere in the answer. An option whose text is part of
       another named one (`blue` in `dark blue`) doesn't count, nor one behind `not`; options
       that read the same are one, and the first of them is named.

    Several letters in one of the steps (`A or B`, `(A) and (C)`), and several texts, are no choice.
    """
    answer = unicodedata.normalize("NFKC", text).strip()
    letters = ascii_uppercase[: len(options)]
    for find in (_BRACKETED.findall, _LEADING.findall, _said):
        named = {found.upper() for found in find(answer)} & set(letters)
        if named:
            return named.pop() if len(named) == 1 else None
    for places in (_whole(answer, options, _folded), _whole(answer, options, _plain)):
        if places:
            return _one_of(places, options)
    return _one_of(_inside(answer, options), options)


def _said(answer: str) -> list[str]:
    """The letters that are said to be the answer, with those that a list goes on with."""
    found = []
    for match in _SAID.finditer(answer):
        found.append(match[1])
        end = match.end(1)
        while another := _ANOTHER.match(answer, end):
            found.append(another[1])
            end = another.end(1)
    return found


def _whole(answer: str, options: Sequence[str], reduced: Callable[[str], str]) -> list[int]:
    """The places of the options whose text is the answer."""
    said = reduced(answer)
    return [i for i, option in enumerate(options) if said and reduced(option) == said]


def _inside(answer: str, options: Sequence[str]) -> list[int]:
    """The places of the options whose text is in the answer, but in no longer one that is."""
    said = _plain(answer)
    plain = [_plain(option) for option in options]
    held = [i for i, option in enumerate(plain) if option and _holds(said, option)]
    return [
        i
        for i in held
        if not any(plain[j] != plain[i] and _holds(plain[j], plain[i]) for j in held)
    ]


def _one_of(places: list[int], options: Sequence[str]) -> str | None:
    """The letter of the first, if all read the same."""
    same = len({options[i].strip() for i in places}) == 1
    return ascii_uppercase[places[0]] if same else None


def _holds(text: str, part: str) -> bool:
    return re.search(rf"(?<!\bnot )\b{re.escape(part)}\b", text) is not None


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())
