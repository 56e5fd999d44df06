"""A driver in a process of its own, to be killed and stopped: `python -m tests.chaos.driver FILE`.

The file is JSON of a `Told`. Exit codes are those of `sfray run`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sfray.config import JobSpec, parse_job_spec
from sfray.errors import RunError
from sfray.pipeline.actors import DecodeStage
from sfray.pipeline.job_stages import job_stages
from sfray.planning.plan import make_plan
from sfray.runs.run import run_job
from sfray.storage.s3_terms import S3Terms
from tests.chaos.stages import noting_stages
from tests.integration.fake_stages import FakeDecode, Script

# Shorter than the product's, so that a storm doesn't wait for half a minute each time.
TERMS = S3Terms(lease_seconds=3.0, read_timeout_seconds=5.0)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A run: `poison` are videos that kill their worker, `retry` failed requests to try again."""

    spec: dict[str, Any]
    address: str
    folder: str
    real_decode: bool
    seconds: float
    poison: list[str]
    retry: list[str]

    def write(self, path: Path) -> Path:
        write_whole(path, json.dumps(asdict(self)))
        return path


def write_whole(path: Path, text: str) -> None:
    """Whoever reads the file meanwhile finds what was there or what is, never a part."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _real_decode(spec: JobSpec) -> Callable[[], DecodeStage]:
    plan = make_plan(spec)
    return job_stages(plan.spec, plan.profile).make_decode


def main(path: str) -> int:
    told = Told(**json.loads(Path(path).read_text()))
    spec = parse_job_spec(told.spec)
    folder = Path(told.folder)
    script = Script(folder=folder, seconds=told.seconds)
    make_decode = _real_decode(spec) if told.real_decode else lambda: FakeDecode(script)
    try:
        summary = run_job(
            spec,
            address=told.address,
            stages=noting_stages(folder, make_decode, told.poison, told.seconds),
            retry=pa.chunked_array([told.retry], pa.string()),
            s3_terms=TERMS,
        )
    except RunError as error:
        print(f"sfray: {error}", file=sys.stderr)
        return error.exit_code
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
