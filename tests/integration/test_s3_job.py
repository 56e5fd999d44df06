"""A whole job on a real S3 server: manifest, videos and output there, the real stages."""

from __future__ import annotations

import io
import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from sfray.config import JobSpec, parse_job_spec
from sfray.demo.questions import CAPTION_PROMPT
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.errors import StorageError
from sfray.pipeline.run import run_job
from sfray.storage.read_results import current_state
from sfray.storage.verify import verify
from tests.integration.s3_server import S3Server

SEEDS = (900_000, 900_001)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    bucket, client = s3_server.new_bucket(), s3_server.client()
    rows = []
    for seed in SEEDS:
        video = io.BytesIO()
        write_video(video, render(make_scene(seed)))
        client.put_object(Bucket=bucket, Key=f"videos/{seed}.mp4", Body=video.getvalue())
        rows.append({"path": f"{seed}.mp4", "source": f"seed {seed}"})
    rows.append({"path": "gone.mp4", "source": "nowhere"})
    manifest = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    client.put_object(Bucket=bucket, Key="manifests/a.parquet", Body=manifest.getvalue())
    return bucket


def job(server: S3Server, bucket: str) -> JobSpec:
    values: dict[str, Any] = {
        "manifest": {
            "uri": f"s3://{bucket}/manifests/*.parquet",
            "columns": {"video_uri": "path"},
            "passthrough": ["source"],
        },
        "videos": {"root": f"s3://{bucket}/videos/"},
        "task": "caption",
        "prompts": [{"prompt_id": "caption", "text": CAPTION_PROMPT}],
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 24},
        "limits": {"max_failure_ratio": 0.5},
        "output": {"uri": f"s3://{bucket}/captions/"},
        "storage": server.storage.model_dump(),
    }
    return parse_job_spec(values)


def test_the_job_of_the_readme(s3_server: S3Server, bucket: str) -> None:
    spec = job(s3_server, bucket)
    summary = run_job(spec)
    assert (summary.num_answers, summary.failures_by_code) == (2, {"not_found": 1})
    rows = current_state(spec.output.uri, spec.storage).to_pylist()
    said = {row["source"]: row["text"] or row["code"] for row in rows}
    right = {f"seed {seed}": make_scene(seed).caption for seed in SEEDS}
    assert said == right | {"nowhere": "not_found"}
    assert verify(spec.output.uri, spec.storage).ok
    assert run_job(spec).num_answers == 0
    assert not ray.is_initialized()


def test_a_wrong_key_stops_the_job_at_once(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + os.environ["AWS_SECRET_ACCESS_KEY"])
    with pytest.raises(StorageError) as caught:
        run_job(job(s3_server, bucket))
    assert "wrong-" not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_bucket_stops_the_job_at_once(s3_server: S3Server, bucket: str) -> None:
    spec = job(s3_server, bucket)
    output = spec.output.model_copy(update={"uri": "s3://no-such-bucket-here/out"})
    with pytest.raises(StorageError, match="no-such-bucket-here"):
        run_job(spec.model_copy(update={"output": output}))
