"""Manifest columns brought to one flat form: names, types, one row a question."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from sfray.errors import ManifestError

ROW_FIELDS: tuple[pa.Field, ...] = (
    pa.field("row_number", pa.int64(), nullable=False),
    pa.field("video_uri", pa.string()),
    pa.field("video_id", pa.string()),
    pa.field("start_seconds", pa.float64()),
    pa.field("end_seconds", pa.float64()),
    pa.field("question_id", pa.string()),
    pa.field("question", pa.string()),
    pa.field("options", pa.list_(pa.string())),
    pa.field("answer", pa.string()),
)
# What a nested question is called inside `prompts`, by the flat column that it becomes.
_NESTED = {"question_id": "prompt_id", "question": "text", "options": "options", "answer": "answer"}


def plain_type(data_type: pa.DataType) -> pa.DataType:
    """A passthrough column's type in the results: the same for every writer of the manifest."""
    if pa.types.is_dictionary(data_type):
        return plain_type(data_type.value_type)
    if isinstance(data_type, pa.BaseExtensionType):
        return plain_type(data_type.storage_type)
    if is_text(data_type) or pa.types.is_null(data_type):
        return pa.string()
    if pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return pa.binary()
    if pa.types.is_large_list(data_type):
        return pa.list_(plain_type(data_type.value_type))
    return data_type


def is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        return is_text(data_type.value_type)
    return (
        pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or pa.types.is_string_view(data_type)
    )


def explode_prompts(table: pa.Table, name: str, file_name: str) -> pa.Table:
    """One row a question for a table whose column `prompts` holds lists of questions.

    Args:
        name: how the manifest calls that column.


    A row without questions stays as one row without a question, so that it is accounted for.
    """
    prompts = table["prompts"].combine_chunks()
    kind = prompts.type
    if pa.types.is_null(kind) or (_is_list(kind) and pa.types.is_null(kind.value_type)):
        return table.drop_columns("prompts")
    if not (_is_list(kind) and pa.types.is_struct(kind.value_type)):
        raise ManifestError(
            f"the column {name!r} of {file_name} has the type {kind}; it must be a list of "
            "struct of prompt_id, text, options, answer"
        )
    if "text" not in {f.name for f in kind.value_type}:
        raise ManifestError(f"the questions in the column {name!r} of {file_name} lack 'text'")
    parents = pc.list_parent_indices(prompts).cast(pa.int64())
    questions = pc.list_flatten(prompts)
    lengths = pc.fill_null(pc.list_value_length(prompts), 0)
    empty = pc.indices_nonzero(pc.equal(lengths, 0)).cast(pa.int64())
    order = pc.sort_indices(pa.concat_arrays([parents, empty]))
    rows = pa.concat_arrays([parents, empty]).take(order)
    exploded = table.drop_columns("prompts").take(rows)
    for flat, nested in _NESTED.items():
        if (index := questions.type.get_field_index(nested)) >= 0:
            values = pc.struct_field(questions, index)
            values = pa.concat_arrays([values, pa.nulls(len(empty), values.type)])
            exploded = exploded.append_column(flat, values.take(order))
    return exploded


def _is_list(data_type: pa.DataType) -> bool:
    return (
        pa.types.is_list(data_type)
        or pa.types.is_large_list(data_type)
        or pa.types.is_fixed_size_list(data_type)
    )


def as_text(column: pa.ChunkedArray, name: str, file_name: str) -> pa.ChunkedArray:
    """A column of text."""
    if not (is_text(column.type) or pa.types.is_null(column.type)):
        raise _wrong_type(column.type, name, file_name, "text")
    return column.cast(pa.string())


def as_label(column: pa.ChunkedArray, name: str, file_name: str) -> pa.ChunkedArray:
    """A column of ids or answers: text, or numbers as text."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if not (is_text(kind) or pa.types.is_null(kind)):
        raise _wrong_type(kind, name, file_name, "text or a number")
    return column.cast(pa.string())


def as_id(column: pa.ChunkedArray, name: str, file_name: str) -> pa.ChunkedArray:
    """A label in which empty text means that there is none."""
    labels = as_label(column, name, file_name)
    return pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)


def as_seconds(column: pa.ChunkedArray, name: str, file_name: str) -> pa.ChunkedArray:
    """A column of seconds: numbers, or text that holds numbers."""
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (numeric or is_text(kind) or pa.types.is_null(kind)):
        raise _wrong_type(kind, name, file_name, "a number of seconds")
    if is_text(kind):
        trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
        column = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise ManifestError(
            f"the column {name!r} of {file_name} must hold numbers of seconds: {error}"
        ) from error


def as_options(column: pa.ChunkedArray, name: str, file_name: str) -> pa.ChunkedArray:
    """A column of lists of text: lists, or JSON lists in text."""
    kind = column.type
    wanted = pa.list_(pa.string())
    if is_text(kind):
        cells = column.to_pylist()
        return pa.chunked_array([pa.array([_json_list(c, name, file_name) for c in cells], wanted)])
    if not (pa.types.is_null(kind) or _is_list(kind)):
        raise _wrong_type(kind, name, file_name, "a list of texts (in CSV as JSON)")
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _wrong_type(kind, name, file_name, "a list of texts") from error


def _json_list(cell: str | None, name: str, file_name: str) -> list[str] | None:
    if cell is None or not cell.strip():
        return None
    try:
        values = json.loads(cell)
    except ValueError:
        values = None
    if not isinstance(values, list) or any(isinstance(v, list | dict) for v in values):
        raise ManifestError(
            f"the column {name!r} of {file_name} holds {cell[:80]!r}; it must be a JSON list of "
            'texts, such as ["yes", "no"]'
        )
    return [v if isinstance(v, str) else json.dumps(v) for v in values]


def _wrong_type(kind: pa.DataType, name: str, file_name: str, allowed: str) -> ManifestError:
    return ManifestError(
        f"the column {name!r} of {file_name} has the type {kind}; it must be {allowed}"
    )


AS_FLAT = {
    "video_uri": as_text,
    "video_id": as_id,
    "start_seconds": as_seconds,
    "end_seconds": as_seconds,
    "question_id": as_id,
    "question": as_text,
    "options": as_options,
    "answer": as_label,
}
