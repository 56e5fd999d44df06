"""Reads question files as they are in the wild: CSV, tab-separated, JSON and JSON lines.

Nothing is dropped: a row that is damaged is repaired where its meaning is certain, and every
repair is counted by kind with the rows that it touched.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sfray.errors import ManifestError

_DAMAGE = (
    ("control characters removed", re.compile(r"[\x00-\x08\x0e-\x1f\x7f]"), ""),
    ("a row number inside the text removed", re.compile(r"^\s*\n\s*\d+,"), ""),
    ("line breaks around a text removed", re.compile(r"^\s*[\r\n]\s*|\s*[\r\n]\s*$"), ""),
    ("line breaks inside a text made spaces", re.compile(r"\s*[\r\n\t\v\f]+\s*"), " "),
    ("spaces around a text removed", re.compile(r"^\s+|\s+$"), ""),
)
_JSON_SUFFIXES = (".json", ".jsonl")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(slots=True)
class Repairs:
    """What was repaired: for each kind, where (`file:row`, rows counted from 1)."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, place: str) -> None:
        self.places.setdefault(kind, []).append(place)

    def clean(self, text: str, place: str) -> str:
        """The text without what got into it by accident."""
        clean = text
        for kind, pattern, put in _DAMAGE:
            if pattern.search(clean):
                self.note(kind, place)
                clean = pattern.sub(put, clean)
        return clean


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a file: its values by column, texts as they are, and where it stands."""

    values: dict[str, Any]
    file: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"

    def first(self, columns: tuple[str, ...]) -> Any:
        """The value of the first column that the row has; None where it has none of them."""
        return next((self.values[c] for c in columns if c in self.values), None)


def read_rows(path: Path, repairs: Repairs) -> list[SourceRow]:
    """All rows of a question file.

    Raises:
        ManifestError: it can't be read, or holds no table.
    """
    text = read_text(path, repairs)
    read = _json_rows if path.suffix.lower() in _JSON_SUFFIXES else _delimited_rows
    rows = [SourceRow(values, path.name, n) for n, values in read(text, path, repairs)]
    if not rows:
        raise ManifestError(f"{path} holds no rows")
    return rows


def read_text(path: Path, repairs: Repairs) -> str:
    """The text of a file, whatever it is encoded in; raises `ManifestError`."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} can't be read: {error.strerror}") from error
    if body.startswith(_UTF16_MARKS):  # spreadsheets save "Unicode text" so
        return body.decode("utf-16", errors="replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        repairs.note("read as Windows-1252, not being UTF-8", path.name)
        return body.decode("cp1252", errors="replace")


def _json_rows(text: str, path: Path, repairs: Repairs) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        if path.suffix.lower() != ".jsonl" and "Extra data" not in str(error):
            raise ManifestError(f"{path} is not valid JSON: {error}") from error
        value = [_json_line(line, path) for line in text.splitlines() if line.strip()]
    if isinstance(value, dict):
        value = _listed(value)
    if not isinstance(value, list):
        raise ManifestError(f"{path} must hold a list of objects")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise ManifestError(f"{path}: entry {number} is {type(row).__name__}, not an object")
        yield number, row


def _json_line(line: str, path: Path) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ManifestError(f"{path}: a line is not valid JSON: {error}") from error


def _listed(value: dict[str, Any]) -> Any:
    """The rows of an object: its one list of objects, or its values with their keys as ids."""
    lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if len(lists) == 1:
        return lists[0]
    if value and all(isinstance(v, dict) for v in value.values()):
        return [{"question_id": key, **row} for key, row in value.items()]
    return [value]


def _delimited_rows(
    text: str, path: Path, repairs: Repairs
) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    head = text.split("\n", 1)[0]
    delimiter = "\t" if head.count("\t") > head.count(",") else ","
    lines = list(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(csv.reader(lines, delimiter=delimiter), [])]
    if len(header) < 2 or len(set(header)) != len(header):
        raise ManifestError(f"{path} has no usable header of column names: {head[:80]!r}")
    records: Iterator[list[str]]
    if delimiter == "\t" and '""' not in text:
        # Tab-separated files hold bare quotes; only where some are doubled do they quote.
        records = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        records = _quoted_records(lines, delimiter, len(header), path.name, repairs)
    for number, cells in enumerate(islice(records, 1, None), start=1):
        if not any(cell.strip() for cell in cells):
            repairs.note("blank lines skipped", f"{path.name}:{number}")
            continue
        place = f"{path.name}:{number}"
        cells = _fit(cells, header, delimiter, place, repairs)
        # A column without a name counts the rows; it tells nothing of the question.
        yield number, {k: v for k, v in zip(header, cells, strict=False) if k}


def _quoted_records(
    lines: list[str], delimiter: str, width: int, name: str, repairs: Repairs
) -> Iterator[list[str]]:
    """The records of a file with quotes; a quote that is never closed swallows no rows."""
    start = number = 0
    while start < len(lines):
        reader = csv.reader(islice(lines, start, None), delimiter=delimiter)
        begun = start
        for cells in reader:
            record = lines[begun : start + reader.line_num]
            if _is_swallowed(record, len(cells), delimiter, width):
                repairs.note("a quote that is never closed removed", f"{name}:{number}")
                plain = csv.reader(record[:1], delimiter=delimiter, quoting=csv.QUOTE_NONE)
                yield [cell.strip('"').replace('""', '"') for cell in next(plain)]
                begun += 1
                number += 1
                break
            yield cells
            begun += len(record)
            number += 1
        start = begun


def _is_swallowed(record: list[str], num_cells: int, delimiter: str, width: int) -> bool:
    """Whether the lines of a record are rows of their own behind a quote without an end.

    The first line must have a row's cells if quotes mean nothing and, with those that they
    close, a following one too. A text with line breaks in it fails on its first line.
    """
    first, *others = record
    if first.count('"') % 2 == 0 or first.count(delimiter) < width - 1:
        return False
    if not others:
        return num_cells != width
    return any(
        line.count('"') % 2 == 0 and len(next(csv.reader([line], delimiter=delimiter))) == width
        for line in others
    )


def _fit(
    cells: list[str], header: list[str], delimiter: str, place: str, repairs: Repairs
) -> list[str]:
    """A row with as many cells as the header, or fewer if some are lost."""
    extra = len(cells) - len(header)
    if extra < 0:
        repairs.note("cells missing at the end of the row", place)
    if extra <= 0:
        return cells
    if not any(cells[len(header) :]):
        repairs.note("empty cells at the end of the row removed", place)
        return cells[: len(header)]
    at = header.index("question") if "question" in header else len(header) - 1
    repairs.note("a question with unquoted separators put together", place)
    return [*cells[:at], delimiter.join(cells[at : at + extra + 1]), *cells[at + extra + 1 :]]
