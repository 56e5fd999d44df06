"""Outputs of runs that never ran, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sfray.columns import outcomes_schema
from sfray.config import StorageSpec
from sfray.results.log import ResultsLog

PASSTHROUGH = pa.schema(
    [
        pa.field(name, pa.string())
        for name in ("benchmark", "scorer", "question_type", "pair_id", "source_question_id")
    ]
)

_ASKED = (
    *("request_id", "video_id", "video_uri", "prompt_id", "task", "prompt", "reference_answer"),
    *("fingerprint", "benchmark", "scorer", "question_type"),
)


def outcome(number: int, **values: object) -> dict[str, object]:
    """An answered open question."""
    return {
        "request_id": f"r{number}",
        "video_id": "v",
        "video_uri": "v.mp4",
        "prompt_id": f"q{number}",
        "task": "qa",
        "prompt": "what?",
        "reference_answer": "dog",
        "fingerprint": "f",
        "text": "a dog",
        "finish_reason": "stop",
        "model_id": "m",
        "run_id": "run",
        "attempts": 1,
        "benchmark": "msvd-qa",
        "scorer": "open_ended",
        "question_type": "what",
    } | values


def write_output(folder: Path, outcomes: list[dict[str, object]], asked: list[int]) -> None:
    """Logs outcomes, and that the requests of these numbers were asked."""
    schema = outcomes_schema(PASSTHROUGH)
    with ResultsLog.open(
        str(folder),
        StorageSpec(),
        passthrough=PASSTHROUGH,
        run_id="run",
        flush_rows=10,
        flush_seconds=10,
    ) as log:
        rows = [{k: v for k, v in outcome(n).items() if k in _ASKED} for n in asked]
        log.write_run_file("run", "requests.parquet", pa.Table.from_pylist(rows))
        log.append(pa.Table.from_pylist(outcomes, schema=schema))
