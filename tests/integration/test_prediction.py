"""What a measured sample predicts for a job, and what the job then takes on the same Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import parse_job_spec
from sfray.pipeline.measure import measure, sample_clips
from sfray.planning.outlook import outlook
from sfray.planning.prediction import predict
from sfray.runs.run import run_job
from tests.integration.fake_stages import Script
from tests.integration.local_ray import own_ray

pytestmark = pytest.mark.own_ray


NUM_VIDEOS = 150


@pytest.fixture(scope="module", autouse=True)
def one_gpu() -> Iterator[None]:
    """Logical: Ray counts it, and nothing is computed on it."""
    with own_ray(num_cpus=4, num_gpus=1, include_dashboard=False):
        yield


def test_a_job_takes_what_a_sample_of_it_predicts(tmp_path: Path) -> None:
    """Within a quarter. The stages sleep, so that what else the machine does counts for little."""
    videos = [{"video_uri": f"v{number}.mp4"} for number in range(NUM_VIDEOS)]
    pq.write_table(pa.Table.from_pylist(videos), tmp_path / "manifest.parquet")
    spec = parse_job_spec(
        {
            "manifest": {"uri": str(tmp_path / "manifest.parquet")},
            "task": "caption",
            "prompts": [{"prompt_id": "caption", "text": "Describe this video."}],
            "model": {"id": "demo"},
            "output": {"uri": str(tmp_path / "out")},
        }
    )
    stages = Script(folder=tmp_path, seconds=0.8).stages()
    seen = outlook(spec)
    measured, capacity = measure(
        seen.to_do.plan, sample_clips(seen.to_do.requests, 8, seed=0), stages=stages
    )
    predicted = predict(measured, seen.to_do.num_clips, capacity).seconds
    summary = run_job(spec, stages=stages)
    assert summary.num_answers == NUM_VIDEOS
    assert predicted.middle == pytest.approx(summary.seconds, rel=0.25)
