"""The reference pages of the documentation, as Markdown, from the code that they describe.

`make docs` makes them anew each time (`tools/site_hooks.py`); none is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from sfray.cli.app import app
from sfray.columns import COLUMNS, TABLES
from sfray.commands.schemas import codes_table
from sfray.config import JobSpec


def cli_page() -> str:
    """All commands with their arguments and options."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="sfray")
    return text.replace("# `sfray`\n", "# Commands\n", 1)


def job_file_page() -> str:
    """Every key of a job file: what it may be, its default, what it means."""
    document = JobSpec.model_json_schema()
    sections = document["$defs"]
    lines = [
        "# Keys of a job file",
        "",
        "`--set key.path=value` overrides any of them. A wrong key or value is one sentence and "
        "exit code 2, before any video is touched.",
        "",
    ]
    lines += ["## The file as a whole", "", *_keys(document, "")]
    for key, value in document["properties"].items():
        for name in _references(value):
            lines += _section(sections, name, f"{key}[]" if value.get("type") == "array" else key)
    return "\n".join(lines) + "\n"


def columns_page() -> str:
    """The columns of each table of an output."""
    lines = ["# Columns of the results", ""]
    lines += ["Columns of `manifest.passthrough` come last in each table.", ""]
    for table, names in TABLES.items():
        lines += [f"## {table}", ""]
        lines += ["| column | type | may be null | meaning |", "|---|---|---|---|"]
        for column in map(COLUMNS.__getitem__, names):
            null = "yes" if column.nullable else "no"
            lines.append(f"| `{column.name}` | `{column.type}` | {null} | {column.meaning} |")
        lines.append("")
    return "\n".join(lines)


# By their place in docs/.
PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/job-file.md": job_file_page,
    "reference/columns.md": columns_page,
    "reference/failure-codes.md": codes_table,
}


def _section(sections: dict[str, Any], name: str, path: str) -> list[str]:
    """A section with those inside it."""
    section = sections[name]
    lines = [f"## {path}", "", section["description"], "", *_keys(section, path)]
    for key, value in section["properties"].items():
        for inner in _references(value):
            lines += _section(sections, inner, f"{path}.{key}")
    return lines


def _keys(section: dict[str, Any], path: str) -> list[str]:
    lines = ["| key | may be | default | meaning |", "|---|---|---|---|"]
    for key, value in section["properties"].items():
        where = f"{path}.{key}" if path else key
        meaning = " ".join(value.get("description", "").split())
        if _references(value) and not meaning:
            meaning = f"see [{where}](#{where.replace('.', '')})"
        lines.append(f"| `{where}` | {_allowed(value)} | {_default(section, key)} | {meaning} |")
    return [*lines, ""]


def _default(section: dict[str, Any], key: str) -> str:
    value = section["properties"][key]
    if key in section.get("required", ()):
        return "must be given"
    if _references(value) and value.get("default"):
        return "its keys' own"
    return f"`{json.dumps(value.get('default'))}`"


def _references(value: dict[str, Any]) -> list[str]:
    """The names of the sections that a value may be."""
    parts = [value, *value.get("anyOf", ()), value.get("items", {})]
    return [part["$ref"].rsplit("/", 1)[1] for part in parts if "$ref" in part]


def _allowed(value: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(map(_allowed, value["anyOf"])))
    if "$ref" in value:
        return "section"
    if "const" in value or "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        items = value.get("items") or value["prefixItems"][0]
        words = {"text": "texts", "section": "sections"}
        item = _allowed(items)
        return f"list of {words.get(item, item)}"
    names = {"object": "mapping", "string": "text", "boolean": "true, false"}
    return names.get(value["type"], value["type"]) + _bounds(value)


def _bounds(value: dict[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    bounds = [word.format(f"{value[key]:g}") for key, word in words.items() if key in value]
    return f" ({', '.join(bounds)})" if bounds else ""
