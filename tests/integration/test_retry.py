"""`sfray retry` on what a real job with the demonstration model left, local and on S3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import StorageSpec, parse_job_spec
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.results.compact import compact
from sfray.results.read import current_state, read_failures
from sfray.results.verify import verify
from sfray.runs.run import run_job
from tests.integration.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.mark.parametrize("place", ["local", "s3"])
def test_failures_are_answered_again_and_history_stays(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    late, bad = tmp_path / "late.mp4", tmp_path / "bad.mp4"
    bad.write_text("no video")
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"video_uri\n{late}\n{bad}\n")
    uri, options, storage = str(tmp_path / "out"), [], StorageSpec()
    if place == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        uri, storage = f"s3://{server.new_bucket()}/out", server.storage
        options = ["--endpoint-url", server.endpoint_url]
    values = {
        "manifest": {"uri": str(manifest)},
        "task": "caption",
        "prompts": [{"prompt_id": "c", "text": "Describe the video."}],
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 4},
        "limits": {"max_failure_ratio": 1.0},
        "output": {"uri": uri},
        "storage": storage.model_dump(),
    }
    first = run_job(parse_job_spec(values))
    assert first.failures_by_code == {"not_found": 1, "not_a_video": 1}
    with late.open("wb") as file:
        write_video(file, render(make_scene(720_000)))
    if place == "local":  # the job file names the place where the output was
        moved = shutil.move(uri, tmp_path / "moved")
        assert run_again(str(moved), "--transient") == [0, 0]
        uri = str(moved)
        assert not (tmp_path / "out").exists()

    assert run_again(uri, "--code", "not_found", *options) == [1, 0]
    state = {row["video_uri"]: row for row in current_state(uri, storage).to_pylist()}
    assert {path: row["code"] for path, row in state.items()} == {
        str(late): None,
        str(bad): "not_a_video",
    }
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(values | {"decode": {"timeout_seconds": 60}}))
    assert run_again(uri, "--spec", str(job)) == [0, 1]  # which says how storage is reached, too
    history = read_failures(uri, storage).to_table()["code"].to_pylist()
    assert sorted(history) == ["not_a_video", "not_a_video", "not_found"]
    assert verify(uri, storage).ok

    copy = f"{uri}-copy"
    compact(uri, copy, storage)
    assert run_again(copy, *options) == [0, 1]
    assert verify(copy, storage).ok
    assert read_failures(uri, storage).to_table().num_rows == 3


def run_again(uri: str, *options: str) -> list[int]:
    """How many answers and failures `sfray retry` added."""
    done = CliRunner().invoke(app, ["retry", uri, *options, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    return [told[name] for name in ("num_answers", "num_failures")]
