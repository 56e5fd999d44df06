"""The formats that sfray reads and writes, as documents for other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sfray.columns import COLUMNS, TABLES, TableName
from sfray.config import JobSpec
from sfray.errors import FAILURE_KINDS, SpecError


def _columns(table: TableName) -> dict[str, Any]:
    columns = [
        {
            "name": column.name,
            "type": str(column.type),
            "nullable": column.nullable,
            "meaning": column.meaning,
        }
        for column in map(COLUMNS.__getitem__, TABLES[table])
    ]
    return {"version": 1, "columns": columns, "passthrough": "the manifest's columns, last"}


def _codes() -> dict[str, Any]:
    return {"version": 1, "codes": {code: asdict(kind) for code, kind in FAILURE_KINDS.items()}}


def codes_table() -> str:
    """The failure codes as Markdown."""
    lines = ["| code | stage | tried again by the next run | meaning |", "|---|---|---|---|"]
    for code, kind in FAILURE_KINDS.items():
        again = "yes" if kind.transient else "no, only by `sfray retry`"
        lines.append(f"| `{code}` | {kind.stage} | {again} | {kind.meaning} |")
    return "\n".join(["# Failure codes", "", *lines]) + "\n"


_DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "job": JobSpec.model_json_schema,
    "requests": lambda: _columns("requests"),
    "answers": lambda: _columns("answers"),
    "failures": lambda: _columns("failures"),
    "codes": _codes,
}


def schema_names() -> tuple[str, ...]:
    """The names that `schema_document` takes."""
    return tuple(_DOCUMENTS)


def schema_document(name: str) -> dict[str, Any]:
    """The document `name`: JSON Schema for job files, else columns or codes by name."""
    if name not in _DOCUMENTS:
        raise SpecError(f"schema {name!r} is not one of: {', '.join(_DOCUMENTS)}")
    return _DOCUMENTS[name]()
