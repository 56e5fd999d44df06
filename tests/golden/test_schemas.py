"""Published schemas grow in ways that old readers survive, and in no other.

`schemas/` here holds the documents as they were when formats were frozen; what is added to them
later is added here too, once it is published.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = sorted((Path(__file__).parent / "schemas").glob("*.json"))
# Words for people: they may be said better.
PROSE = {"description", "title", "meaning", "passthrough"}


def broken(before: Any, now: Any, where: str) -> list[str]:
    """What a reader of `before` doesn't find in `now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key, value in before.items():
            if key in PROSE and isinstance(value, str):
                continue
            if key not in now:
                found.append(f"{where}.{key} is gone")
            elif key == "required":
                found += [f"{where}: {k} is required now" for k in now[key] if k not in value]
            else:
                found += broken(value, now[key], f"{where}.{key}")
        if "required" in now and "required" not in before:
            found.append(f"{where}: {now['required']} are required now")
        return found
    if isinstance(before, list) and isinstance(now, list):
        if before and isinstance(before[0], dict) and "name" in before[0]:
            return broken_columns(before, now, where)
        return [f"{where}: {item} is gone" for item in before if item not in now]
    return [] if before == now else [f"{where} was {before!r} and is {now!r}"]


def broken_columns(
    before: list[dict[str, Any]], now: list[dict[str, Any]], where: str
) -> list[str]:
    """Columns keep name, type and order; those that are added come later and may be null."""
    kept = [column for column in now if column["name"] in {c["name"] for c in before}]
    found = [
        f"{where}: {column} must be nullable"
        for column in now[len(before) :]
        if not column["nullable"]
    ]
    if now[: len(before)] != kept or len(kept) != len(before):
        found.append(f"{where}: columns are gone, or have others between them")
    for old, new in zip(before, kept, strict=False):
        found += broken(old, new, f"{where}.{old['name']}")
    return found


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_schema_only_grows(path: Path) -> None:
    now = json.loads((ROOT / "schemas" / path.name).read_text(encoding="utf-8"))
    before = json.loads(path.read_text(encoding="utf-8"))
    assert not broken(before, now, path.stem), "whoever reads sfray's files relies on it"


def test_all_published_schemas_are_held() -> None:
    assert {p.name for p in PUBLISHED} == {p.name for p in (ROOT / "schemas").glob("*.json")}


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns.pop(3),
        lambda columns: columns.insert(3, {"name": "x", "type": "string", "nullable": True}),
        lambda columns: columns.append({"name": "x", "type": "string", "nullable": False}),
        lambda columns: columns[0].update(type="binary"),
        lambda columns: columns.reverse(),
    ],
    ids=["taken away", "put between", "never null", "another type", "another order"],
)
def test_what_breaks_a_reader_is_found(change: Any) -> None:
    path = next(p for p in PUBLISHED if p.stem == "answers.v1")
    before = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(path.read_text(encoding="utf-8"))
    assert not broken(before, now, "answers")
    change(now["columns"])
    assert broken(before, now, "answers")
