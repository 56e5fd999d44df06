"""The judge's verdicts beside the results: Parquet parts, whole or absent, never rewritten."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("pair_request_id", pa.string()),
        pa.field("aspect", pa.string(), nullable=False),
        pa.field("judge_model", pa.string(), nullable=False),
        pa.field("answering_model", pa.string()),
        pa.field("prompt_fingerprint", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("verdict", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("raw_reply", pa.string(), nullable=False),
        pa.field("num_replies", pa.int32(), nullable=False),
        pa.field("num_prompt_tokens", pa.int64(), nullable=False),
        pa.field("num_completion_tokens", pa.int64(), nullable=False),
    ]
)
_PREFIX = "verdicts/"


class _Object(Protocol):
    @property
    def key(self) -> str: ...


class VerdictFolder(Protocol):
    """The folder that holds the log: objects are put once and never changed."""

    def put_new(self, key: str, body: bytes, writer: str) -> None: ...

    def list_objects(self, prefix: str) -> Sequence[_Object]: ...

    def read(self, key: str) -> bytes | None: ...


class JudgeLog:
    """What was judged; the one who writes must hold the folder's lease."""

    def __init__(self, folder: VerdictFolder) -> None:
        self._folder = folder
        self._writer = uuid.uuid4().hex
        keys = [info.key for info in folder.list_objects(_PREFIX) if info.key.endswith(".parquet")]
        self._next = 1 + max((int(key[-16:-8]) for key in keys), default=-1)
        bodies = [body for key in keys if (body := folder.read(key)) is not None]
        self._rows = [
            row for body in bodies for row in pq.read_table(pa.BufferReader(body)).to_pylist()
        ]

    def rows(self) -> list[dict[str, Any]]:
        """All verdicts, in the order in which they came."""
        return self._rows

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Puts the rows as one part; they are durable when this returns."""
        if not rows:
            return
        body = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA), body)
        self._folder.put_new(
            f"{_PREFIX}part-{self._next:08d}.parquet", body.getvalue(), self._writer
        )
        self._next += 1
        self._rows = [*self._rows, *rows]
