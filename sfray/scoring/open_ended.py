"""Scores of free answers without a judge: exact match after normalisation, token F1, counts.

These are other metrics than a judge's accuracy and are always labelled so.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_ARTICLES = {"a", "an", "the"}
_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen", "twenty"),
)
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_TIMES = {"once": 1, "twice": 2, "thrice": 3}
_NUMBER = re.compile(r"\d+")


def normalised_tokens(text: str) -> list[str]:
    """Lower-case words without punctuation and articles, numbers to twenty as digits."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("'", "")
    words = re.sub(r"[^\w\s]", " ", plain).split()
    return [_DIGITS.get(word, word) for word in words if word not in _ARTICLES]


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same after normalisation; empty answers never are."""
    said = normalised_tokens(answer)
    return float(bool(said) and said == normalised_tokens(reference))


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of the shares of tokens in common, counted with repetition."""
    said, wanted = normalised_tokens(answer), normalised_tokens(reference)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def counted(text: str) -> int | None:
    """The first number that a text names, in digits or as a word; None if it names none."""
    tokens = normalised_tokens(text)
    numbers = [int(match[0]) for token in tokens if (match := _NUMBER.match(token))]
    times = [_TIMES[token] for token in tokens if token in _TIMES]
    return next(iter((*numbers, *times)), None)
