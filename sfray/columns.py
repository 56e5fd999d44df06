"""Every column of the results, declared once: name, type, meaning, and the tables that have it.

What an output holds is frozen by its first run, so that all of its parts have the same columns: a
column that is added here is in outputs that begin from then on, and in copies that `sfray compact`
makes. Added columns are nullable and stand at the end of their tables; none is ever taken away,
renamed or given another type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

TableName: TypeAlias = Literal["requests", "answers", "failures"]

# The format of outputs. Format 1 had no number and told passthrough columns by their position. A
# column more is no new format: readers take columns by name.
OUTPUT_FORMAT = 2

# Metadata of a field: of a passthrough column its name in the manifest, of all others the tables
# that have it.
_MANIFEST_NAME = b"sfray.passthrough"
_TABLES = b"sfray.tables"
_PREFIX = "passthrough_"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the results; `since` is 1 if outputs of format 1 have it, else 2."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = True
    since: int = 2

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, self.nullable)


def _first(name: str, kind: pa.DataType, meaning: str) -> Column:
    """A column of format 1 that may be null."""
    return Column(name, kind, meaning, since=1)


def _always(name: str, kind: pa.DataType, meaning: str) -> Column:
    """A column of format 1 that is never null."""
    return Column(name, kind, meaning, nullable=False, since=1)


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        _always("request_id", _TEXT, "identity of the request, equal in every run that asks it"),
        _always("video_id", _TEXT, "the manifest's, else the URI without what signs it"),
        _always("video_uri", _TEXT, "as the manifest writes it, without what signs it"),
        _first("start_seconds", pa.float64(), "where the clip begins; null: with the video"),
        _first("end_seconds", pa.float64(), "where the clip ends; null: with the video"),
        _always("prompt_id", _TEXT, "of the job file's prompt, or the manifest's question_id"),
        _always("task", _TEXT, "caption, qa or multiple_choice"),
        _always("prompt", _TEXT, "the question, before it is put into the template"),
        _first("options", _TEXTS, "of a multiple choice"),
        _first("reference_answer", _TEXT, "the manifest's answer"),
        _always("fingerprint", _TEXT, "of all that decides an answer but the request itself"),
        _always("text", _TEXT, "what the model said"),
        _first("choice", _TEXT, "the letter that the text names, of a multiple choice"),
        _always("finish_reason", _TEXT, "stop, or length where max_new_tokens cut the text"),
        _first("token_ids", pa.list_(pa.int32()), "what was generated, its end token included"),
        _first("num_visual_tokens", pa.int32(), "tokens that stand for frames"),
        _first("num_prompt_tokens", pa.int32(), "all tokens before the answer, visual ones too"),
        _first("num_generated_tokens", pa.int32(), "length of token_ids"),
        _first("mean_logprob", pa.float64(), "of the generated tokens, natural logarithm"),
        _first("frame_indices", pa.list_(pa.int64()), "sampled frames, from the video's start"),
        _first("frame_pts_seconds", pa.list_(pa.float64()), "their presentation times"),
        _first("video_container", _TEXT, "as ffmpeg calls it"),
        _first("video_codec", _TEXT, "as ffmpeg calls it"),
        _first("video_pixel_format", _TEXT, "as ffmpeg calls it"),
        _first("video_width", pa.int32(), "pixels as displayed, after rotation"),
        _first("video_height", pa.int32(), "pixels as displayed, after rotation"),
        _first("video_rotation_degrees", pa.int32(), "what was undone, clockwise"),
        _first("video_fps", pa.float64(), "frames a second"),
        _first("video_duration_seconds", pa.float64(), "from the first frame to the last's end"),
        _first("video_num_frames", pa.int64(), "displayed frames of the whole video"),
        _first("reader", _TEXT, "pyav or decord"),
        _first("reader_reason", _TEXT, "why this reader"),
        _first("num_substituted_frames", pa.int32(), "damaged frames that others stand for"),
        _always("model_id", _TEXT, "name of the checkpoint"),
        _first("model_revision", _TEXT, "commit, or digest of a folder's checkpoint"),
        _always("run_id", _TEXT, "the run that logged the row"),
        _first("bytes_fetched", pa.int64(), "of the clip, over the network; on each of its rows"),
        _first("fetch_seconds", pa.float64(), "of the clip; repeated on each of its rows"),
        _first("decode_seconds", pa.float64(), "of the clip; repeated on each of its rows"),
        _first("model_seconds", pa.float64(), "the clip's, shared equally among its requests"),
        _always("attempts", pa.int32(), "which attempt of its run this was, from 1"),
        _always("stage", _TEXT, "where it failed"),
        _always("code", _TEXT, "stable name of the failure, see codes.md"),
        _always("message", _TEXT, "one sentence"),
        _always("transient", pa.bool_(), "whether the next run tries again by itself"),
        Column("clip_id", _TEXT, "hash of video_id, start_seconds and end_seconds: joins by it"),
        Column("reference_answers", _TEXTS, "all distinct answers that the manifest gives"),
        Column("video_resolved_uri", _TEXT, "where the bytes were, without secrets"),
        Column("video_size_bytes", pa.int64(), "of the file"),
        Column("video_etag", _TEXT, "of the object or answer, where the storage gives one"),
        Column("video_sha256", _TEXT, "of the file, where all of its bytes were fetched anyway"),
        Column("flags", _TEXTS, "what is to be known of the row before it is trusted; null: none"),
        Column("answered_at", pa.timestamp("us", tz="UTC"), "when the model had answered"),
        Column(
            "video_declared_duration_seconds",
            pa.float64(),
            "what the container says of the stream, true or not",
        ),
    )
}

_KEY = (
    *("request_id", "video_id", "video_uri", "start_seconds", "end_seconds", "prompt_id", "task"),
    *("prompt", "options", "reference_answer", "fingerprint"),
)
_OF_ALL_OUTCOMES = (
    *("clip_id", "reference_answers", "video_resolved_uri", "video_size_bytes", "video_etag"),
    *("video_sha256", "flags"),
)
# The order of columns in each table; passthrough columns come last.
TABLES: dict[TableName, tuple[str, ...]] = {
    "requests": _KEY,
    "answers": (
        *_KEY,
        *("text", "choice", "finish_reason", "token_ids", "num_visual_tokens"),
        *("num_prompt_tokens", "num_generated_tokens", "mean_logprob", "frame_indices"),
        *("frame_pts_seconds", "video_container", "video_codec", "video_pixel_format"),
        *("video_width", "video_height", "video_rotation_degrees", "video_fps"),
        *("video_duration_seconds", "video_num_frames", "reader", "reader_reason"),
        *("num_substituted_frames", "model_id", "model_revision", "run_id", "bytes_fetched"),
        *("fetch_seconds", "decode_seconds", "model_seconds", "attempts"),
        *_OF_ALL_OUTCOMES,
        *("answered_at", "video_declared_duration_seconds"),
    ),
    "failures": (
        *_KEY,
        *("stage", "code", "message", "transient", "attempts", "model_id", "model_revision"),
        "run_id",
        *_OF_ALL_OUTCOMES,
    ),
}


def table_schema(table: TableName, passthrough: pa.Schema) -> pa.Schema:
    """The columns of one table in an output that begins now; passthrough columns last."""
    return pa.schema([*(COLUMNS[name].field for name in TABLES[table]), *passthrough])


def outcomes_schema(passthrough: pa.Schema) -> pa.Schema:
    """What leaves the model stage: answers and failures in one stream, told apart by `code`.

    As the columns of an output it says of each field what it is.
    """
    names = dict.fromkeys((*TABLES["answers"], *TABLES["failures"]))
    columns = [_with_tables(COLUMNS[name]) for name in names]
    return pa.schema([*columns, *(_marked(column) for column in passthrough)])


def passthrough_name(name: str) -> str:
    """What a passthrough column is called in the results.

    As in the manifest; `passthrough_NAME` where a column of the results took that name after
    people may have used it, and so again for the name that this gives, so that no two are alike.
    """
    own = name
    while own.startswith(_PREFIX):
        own = own.removeprefix(_PREFIX)
    return _PREFIX + name if own in COLUMNS and COLUMNS[own].since > 1 else name


def passthrough_field(name: str, data_type: pa.DataType) -> pa.Field:
    """The column of the results for a column of the manifest."""
    return pa.field(passthrough_name(name), data_type, metadata={_MANIFEST_NAME: name})


def manifest_name(field: pa.Field) -> str | None:
    """How the manifest calls a passthrough column; None of a column that is none."""
    name = (field.metadata or {}).get(_MANIFEST_NAME)
    return None if name is None else name.decode()


def tables_of(field: pa.Field) -> frozenset[str]:
    """The tables that have a column, as its output says: later versions have others."""
    names = (field.metadata or {}).get(_TABLES, b"")
    return frozenset(names.decode().split())


def described(columns: pa.Schema) -> pa.Schema:
    """The columns of an output of format 1 with what later ones say of each field."""
    return pa.schema(
        _with_tables(COLUMNS[f.name]) if _is_first(f.name) else _marked(f) for f in columns
    )


def _is_first(name: str) -> bool:
    return name in COLUMNS and COLUMNS[name].since == 1


def _marked(field: pa.Field) -> pa.Field:
    if manifest_name(field) is not None:
        return field
    return field.with_metadata({_MANIFEST_NAME: field.name})


def _with_tables(column: Column) -> pa.Field:
    """Nullable unless all tables have it, since of outcomes only one half has the others."""
    tables = [table for table, names in TABLES.items() if column.name in names]
    nullable = column.nullable or "requests" not in tables
    return pa.field(column.name, column.type, nullable, metadata={_TABLES: " ".join(tables)})
