"""A whole job on a real S3 server: manifest, videos and output there, the real stages."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from sfray.config import JobSpec, ModelSpec, PoolingSpec, SamplingSpec, parse_job_spec
from sfray.demo import preset as demo
from sfray.demo.questions import CAPTION_PROMPT
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.errors import ManifestError, StorageError
from sfray.model.checkpoints.find import find_checkpoint
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.planning.outlook import outlook
from sfray.prompts.templates import load_template
from sfray.results.read import current_state
from sfray.results.verify import verify
from sfray.runs.run import run_job
from tests.integration.local_ray import leave_ray
from tests.integration.s3_server import S3Server

SEEDS = (900_000, 900_001)


@pytest.fixture
def ray_with_cache(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder that this process and its workers keep checkpoints in."""
    monkeypatch.setenv("SFRAY_CACHE", str(tmp_path))
    variables = {"SFRAY_CACHE": str(tmp_path)}
    leave_ray()
    ray.init(address=ray_address, runtime_env={"env_vars": variables}, log_to_driver=False)
    yield tmp_path
    leave_ray()


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


@pytest.mark.usefixtures("ray_at_hand")
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


def test_a_model_on_s3(
    s3_server: S3Server, bucket: str, tmp_path: Path, ray_with_cache: Path
) -> None:
    """The replica fetches what the driver only planned with."""
    for path in demo_folder().iterdir():
        key = f"models/small/{path.name}"
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    spec = job(s3_server, bucket)
    pooling = PoolingSpec(
        num_slow_frames=demo.POOLING.num_slow_frames,
        slow_pool=str(demo.POOLING.slow_pool),
        fast_grid=demo.POOLING.fast_grid,
    )
    template = tmp_path / "demo.txt"
    template.write_text(load_template("default", demo.TEMPLATE, "caption").text)
    spec = spec.model_copy(
        update={
            "model": ModelSpec(id=f"s3://{bucket}/models/small"),
            "sampling": SamplingSpec(num_frames=demo.NUM_FRAMES),
            "pooling": pooling,
            "template": str(template),
            "output": spec.output.model_copy(update={"uri": f"s3://{bucket}/by-small/"}),
        }
    )
    assert outlook(spec).to_do.requests.num_rows == 3
    assert not list(ray_with_cache.rglob("*.safetensors"))
    assert run_job(spec).num_answers == 2
    assert len(list(ray_with_cache.rglob("*.safetensors"))) == 1
    rows = [r for r in current_state(spec.output.uri, spec.storage).to_pylist() if r["text"]]
    assert {r["text"] for r in rows} == {make_scene(seed).caption for seed in SEEDS}
    digest = find_checkpoint(ModelSpec(id="demo"), spec.storage).identity[1]
    assert {(r["model_id"], r["model_revision"]) for r in rows} == {("small", digest)}


def test_a_wrong_key_stops_the_job_at_once(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + os.environ["AWS_SECRET_ACCESS_KEY"])
    # Whichever is read first with it.
    with pytest.raises((ManifestError, StorageError)) as caught:
        run_job(job(s3_server, bucket))
    assert "wrong-" not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_bucket_stops_the_job_at_once(s3_server: S3Server, bucket: str) -> None:
    spec = job(s3_server, bucket)
    output = spec.output.model_copy(update={"uri": "s3://no-such-bucket-here/out"})
    with pytest.raises(StorageError, match="no-such-bucket-here"):
        run_job(spec.model_copy(update={"output": output}))
