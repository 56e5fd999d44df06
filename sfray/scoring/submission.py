"""EgoSchema's full set has no public answers: its server scores a file of choices."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from sfray.errors import SpecError
from sfray.scoring.metrics import Row


def submission_csv(rows: Sequence[Row]) -> tuple[str, int]:
    """The file's text, and how many of its questions have no choice (-1).

    Raises:
        SpecError: the rows aren't EgoSchema's, or come from several configurations.
    """
    asked = [row for row in rows if row["benchmark"] == "egoschema"]
    if not asked:
        raise SpecError("this output holds no answers to egoschema")
    if len({row["fingerprint"] for row in asked}) > 1:
        raise SpecError("this output holds answers of several configurations")
    choices = {
        row["prompt_id"]: ascii_uppercase.index(row["choice"]) if row["choice"] else -1
        for row in asked
    }
    lines = [f"{question},{choice}" for question, choice in sorted(choices.items())]
    num_open = sum(choice < 0 for choice in choices.values())
    return "\n".join(["q_uid,answer", *lines]) + "\n", num_open
