"""Scores of chosen options: the parsed letter against the right one."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase


def right_letter(reference: str, options: Sequence[str]) -> str | None:
    """The letter of the right option, given as a letter or as the option's text."""
    letters = ascii_uppercase[: len(options)]
    plain = reference.strip()
    if len(plain) == 1 and plain.upper() in letters:
        return plain.upper()
    same = [letter for letter, o in zip(letters, options, strict=True) if o.strip() == plain]
    return same[0] if same else None


def is_right(choice: str | None, reference: str, options: Sequence[str]) -> bool:
    """Whether the choice is the right option, or one that reads the same.

    No choice, because the answer named none or several options, is wrong.
    """
    right = right_letter(reference, options)
    if choice is None or right is None or choice not in ascii_uppercase[: len(options)]:
        return False
    chosen = options[ascii_uppercase.index(choice)]
    return choice == right or chosen == options[ascii_uppercase.index(right)]
