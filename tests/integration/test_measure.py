"""A sample of a job measured on a real local Ray, with stages of known times."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import JobSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.pipeline.measure import measure, sample_clips
from sfray.planning.outlook import outlook
from tests.integration.fake_stages import Script

NUM_VIDEOS = 40


pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    rows = [
        {"video_uri": f"v{video}.mp4", "question_id": f"q{number}", "question": "What?"}
        for number in range(2)
        for video in range(NUM_VIDEOS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    return parse_job_spec(
        {
            "manifest": {"uri": str(tmp_path / "manifest.parquet")},
            "task": "qa",
            "model": {"id": "demo"},
            "output": {"uri": str(tmp_path / "out")},
        }
    )


def test_each_clip_of_the_sample_has_its_times_and_nothing_is_written(
    spec: JobSpec, tmp_path: Path
) -> None:
    seen = outlook(spec)
    sample = sample_clips(seen.to_do.requests, 8, seed=0)
    videos = list(dict.fromkeys(sample["video_id"].to_pylist()))
    script = Script(folder=tmp_path, seconds=0.2, missing=(videos[0],))
    measured, capacity = measure(seen.to_do.plan, sample, stages=script.stages())
    assert [clip.video_id for clip in measured.clips] == videos
    assert measured.failures_by_code == {"not_found": 1}
    answered = measured.clips[1:]
    assert {clip.fetch_seconds + clip.decode_seconds for clip in answered} == {0.2}
    # They sleep side by side in the replica: together not less than one of them.
    assert sum(clip.replica_seconds for clip in measured.clips) >= 0.2
    assert measured.replica_cores == 2 and measured.startup_seconds > 0.2
    assert (capacity.num_cpus, capacity.num_workers, capacity.num_replicas) == (2, 2, 1)
    assert not (tmp_path / "out").exists()


def test_what_was_measured_on_cpus_says_nothing_of_gpus(spec: JobSpec, tmp_path: Path) -> None:
    seen = outlook(spec)
    with pytest.raises(SpecError, match="--gpus 4: this cluster runs the model on CPUs"):
        measure(
            seen.to_do.plan, seen.to_do.requests, (64, 4), stages=Script(folder=tmp_path).stages()
        )


def test_a_job_that_is_done_has_nothing_to_measure(spec: JobSpec) -> None:
    seen = outlook(spec)
    with pytest.raises(SpecError, match="nothing is left to do"):
        measure(seen.to_do.plan, seen.to_do.requests.slice(0, 0))
