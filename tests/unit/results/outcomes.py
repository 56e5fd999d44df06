"""Outcomes for tests of the log."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from sfray.columns import outcomes_schema
from sfray.errors import FAILURE_KINDS

PASSTHROUGH = pa.schema([("source", pa.string())])


def outcomes(
    answered: Iterable[str] = (),
    failed: Iterable[str] = (),
    code: str = "fetch_failed",
    attempts: int = 1,
    run_id: str = "r",
) -> pa.Table:
    """Rows of `outcomes_schema` for these request ids."""
    rows = [
        {
            "request_id": request_id,
            "video_id": f"v-{request_id}",
            "video_uri": f"{request_id}.mp4",
            "prompt_id": "p",
            "task": "caption",
            "prompt": "What?",
            "fingerprint": "f",
            "model_id": "demo",
            "run_id": run_id,
            "attempts": attempts,
            "source": "s",
        }
        for request_id in (*answered, *failed)
    ]
    num_answered = len(rows) - len(list(failed))
    for row in rows[:num_answered]:
        row |= {
            "text": f"text of {row['request_id']}",
            "finish_reason": "stop",
            "token_ids": [1, 2],
        }
    kind = FAILURE_KINDS[code]
    for row in rows[num_answered:]:
        row |= {"code": code, "stage": kind.stage, "transient": kind.transient, "message": "no"}
    return pa.Table.from_pylist(rows, schema=outcomes_schema(PASSTHROUGH))
