"""Two partitions of one job, run at the same time, are one output."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from typer.testing import CliRunner

from sfray.cli import app
from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SchemaError, SpecError
from sfray.pipeline.evaluate import asked_rows
from sfray.pipeline.outlook import outlook
from sfray.pipeline.plan import make_plan
from sfray.pipeline.retry import retry_output
from sfray.pipeline.run import run_job
from sfray.pipeline.summary import RunSummary
from sfray.storage.compact import compact
from sfray.storage.read_results import current_state
from sfray.storage.verify import verify
from tests.integration.fake_stages import Script

LOCAL = StorageSpec()
MISSING = "v3.mp4"


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def job(folder: Path, output: str, partition: str | None = None) -> dict[str, Any]:
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        rows = [
            {"video_uri": f"v{video}.mp4", "question_id": f"q{n}", "question": f"what {n}"}
            for n in range(3)
            for video in range(16)
        ]
        pq.write_table(pa.Table.from_pylist(rows), manifest)
    return {
        "manifest": {"uri": str(manifest)},
        "task": "qa",
        "model": {"id": "demo"},
        "resources": {"decode_workers": {"max": 1}},
        "limits": {"max_failure_ratio": 1.0},
        "output": {"uri": str(folder / output), "partition": partition, "flush_rows": 5},
    }


def run(folder: Path, output: str, partition: str | None) -> RunSummary:
    spec = parse_job_spec(job(folder, output, partition))
    return run_job(spec, stages=Script(folder=folder, missing=(MISSING,)).stages())


def states(output: str) -> dict[str, str]:
    rows = current_state(output, LOCAL).to_pylist()
    found = {row["request_id"]: row["text"] or row["code"] for row in rows}
    assert len(found) == len(rows)
    return found


def spec_of(folder: Path, partition: str | None = None) -> JobSpec:
    return parse_job_spec(job(folder, "halves", partition))


def test_two_partitions_at_the_same_time_are_one_output(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(lambda p: run(tmp_path, "halves", p), ("0/2", "1/2")))
    assert all(summary.num_answers for summary in summaries)
    assert sum(summary.num_requests for summary in summaries) == 48
    run(tmp_path, "whole", None)
    halves, whole = str(tmp_path / "halves"), str(tmp_path / "whole")
    assert states(halves) == states(whole)

    ids = make_plan(spec_of(tmp_path)).requests.table["request_id"]
    report = verify(halves, LOCAL, ids)
    assert report.ok, report.problems
    assert (report.num_requested, report.num_answered, report.num_failed) == (48, 45, 3)

    again = run(tmp_path, "halves", "1/2")
    assert (again.num_answers, again.num_done_before) == (0, again.num_requests)
    assert outlook(spec_of(tmp_path, "0/2")).num_to_do == 0
    for other in ("0/3", None):
        with pytest.raises(SchemaError, match="in 2 partitions"):
            run(tmp_path, "halves", other)
        with pytest.raises(SchemaError, match="in 2 partitions"):
            outlook(spec_of(tmp_path, other))

    assert len(asked_rows(halves, LOCAL)) == 48
    copied = compact(halves, str(tmp_path / "copy"), LOCAL)
    assert (copied.num_copied, copied.proof.num_requested) == (48, 48)
    assert states(str(tmp_path / "copy")) == states(whole)
    with pytest.raises(SpecError, match=r"2 partitions: retry them one by one, such as .*00000-of"):
        retry_output(halves, LOCAL, (), False, None)

    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job(tmp_path, "halves")))
    done = CliRunner().invoke(app, ["verify", halves, "--manifest", str(path)])
    assert done.exit_code == 0, done.output


def test_what_a_partition_lacks_or_has_too_much_is_told(tmp_path: Path) -> None:
    run(tmp_path, "halves", "0/2")
    halves = tmp_path / "halves"
    one = make_plan(spec_of(tmp_path, "1/2")).requests.table["request_id"]
    problems = verify(str(halves), LOCAL, one).problems
    assert len(problems) == 2
    assert "1 of the 2 partitions" in problems[0]
    assert f"{len(one)} requests of the manifest have no outcome yet" in problems[1]

    (halves / "partition-00000-of-00002").rename(halves / "partition-00001-of-00002")
    run(tmp_path, "halves", "0/2")
    problems = verify(str(halves), LOCAL).problems
    assert len(problems) == 1
    assert f"{48 - len(one)} requests are in more than one partition" in problems[0]
