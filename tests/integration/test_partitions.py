"""Two partitions of one job, run at the same time, are one output."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.commands.evaluate import asked_rows
from sfray.commands.retry import retry_output
from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SchemaError, SpecError
from sfray.planning.outlook import outlook
from sfray.planning.plan import make_plan
from sfray.results.compact import compact
from sfray.results.read import current_state
from sfray.results.verify import verify
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from tests.integration.fake_stages import Script
from tests.integration.s3_server import S3Server

MISSING = "v3.mp4"


@dataclass(frozen=True, slots=True)
class Place:
    """Where outputs are written; the manifest lies in the local folder."""

    folder: Path
    base: str
    storage: StorageSpec


pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    write_manifest(tmp_path)
    if request.param == "local":
        return Place(tmp_path, str(tmp_path), StorageSpec())
    server: S3Server = request.getfixturevalue("s3_server")
    return Place(tmp_path, f"s3://{server.new_bucket()}", server.storage)


def write_manifest(folder: Path) -> None:
    rows = [
        {"video_uri": f"v{video}.mp4", "question_id": f"q{n}", "question": f"what {n}"}
        for n in range(3)
        for video in range(16)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")


def job(place: Place, output: str, partition: str | None = None) -> dict[str, Any]:
    manifest = place.folder / "manifest.parquet"
    return {
        "manifest": {"uri": str(manifest)},
        "task": "qa",
        "model": {"id": "demo"},
        "resources": {"decode_workers": {"max": 1}},
        "limits": {"max_failure_ratio": 1.0},
        "output": {"uri": f"{place.base}/{output}", "partition": partition, "flush_rows": 5},
        "storage": place.storage.model_dump(),
    }


def run(place: Place, output: str, partition: str | None) -> RunSummary:
    spec = parse_job_spec(job(place, output, partition))
    return run_job(spec, stages=Script(folder=place.folder, missing=(MISSING,)).stages())


def states(place: Place, output: str) -> dict[str, str]:
    rows = current_state(f"{place.base}/{output}", place.storage).to_pylist()
    found = {row["request_id"]: row["text"] or row["code"] for row in rows}
    assert len(found) == len(rows)
    return found


def spec_of(place: Place, partition: str | None = None) -> JobSpec:
    return parse_job_spec(job(place, "halves", partition))


def test_two_partitions_at_the_same_time_are_one_output(place: Place) -> None:
    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(lambda p: run(place, "halves", p), ("0/2", "1/2")))
    assert all(summary.num_answers for summary in summaries)
    assert sum(summary.num_requests for summary in summaries) == 48
    run(place, "whole", None)
    halves, storage = f"{place.base}/halves", place.storage
    assert states(place, "halves") == states(place, "whole")

    ids = make_plan(spec_of(place)).requests.table["request_id"]
    report = verify(halves, storage, ids)
    assert report.ok, report.problems
    assert (report.num_requested, report.num_answered, report.num_failed) == (48, 45, 3)

    again = run(place, "halves", "1/2")
    assert (again.num_answers, again.num_done_before) == (0, again.num_requests)
    assert outlook(spec_of(place, "0/2")).to_do.requests.num_rows == 0
    for other in ("0/3", None):
        with pytest.raises(SchemaError, match="in 2 partitions"):
            run(place, "halves", other)
        with pytest.raises(SchemaError, match="in 2 partitions"):
            outlook(spec_of(place, other))

    assert len(asked_rows(halves, storage)) == 48
    copied = compact(halves, f"{place.base}/copy", storage)
    assert (copied.num_copied, copied.proof.num_requested) == (48, 48)
    assert states(place, "copy") == states(place, "whole")
    with pytest.raises(SpecError, match=r"2 partitions: retry them one by one, such as .*00000-of"):
        retry_output(halves, storage, (), False, None)

    path = place.folder / "job.yaml"
    path.write_text(yaml.safe_dump(job(place, "halves")))
    words = ["verify", halves, "--manifest", str(path)]
    if storage.endpoint_url:
        words += ["--endpoint-url", storage.endpoint_url]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def test_what_a_partition_lacks_or_has_too_much_is_told(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    place = Place(tmp_path, str(tmp_path), StorageSpec())
    run(place, "halves", "0/2")
    halves = tmp_path / "halves"
    one = make_plan(spec_of(place, "1/2")).requests.table["request_id"]
    problems = verify(str(halves), place.storage, one).problems
    assert len(problems) == 2
    assert "1 of the 2 partitions" in problems[0]
    assert f"{len(one)} requests of the manifest have no outcome yet" in problems[1]

    (halves / "partition-00000-of-00002").rename(halves / "partition-00001-of-00002")
    run(place, "halves", "0/2")
    problems = verify(str(halves), place.storage).problems
    assert len(problems) == 1
    assert f"{48 - len(one)} requests are in more than one partition" in problems[0]
