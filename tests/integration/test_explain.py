"""`sfray explain` on what a real job with the demonstration model left, local and on S3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import StorageSpec, parse_job_spec
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.results.read import current_state
from sfray.runs.run import run_job
from tests.integration.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[str]]:
    """The output of a job with one good and one bad video, and the options that reach it."""
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    with good.open("wb") as file:
        write_video(file, render(make_scene(720_000)))
    bad.write_text("no video")
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"video_uri\n{good}\n{bad}\n")
    values = {
        "manifest": {"uri": str(manifest)},
        "task": "caption",
        "prompts": [{"prompt_id": "c", "text": "Describe the video."}],
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 16},
        "output": {"uri": str(tmp_path / "out")},
    }
    options: list[str] = []
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        values["output"] = {"uri": f"s3://{server.new_bucket()}/explain"}
        values["storage"] = {"endpoint_url": server.endpoint_url}
        options = ["--endpoint-url", server.endpoint_url]
    run_job(parse_job_spec(values))
    return values["output"]["uri"], options


def test_all_that_decided_a_row_and_the_row_again(
    output: tuple[str, list[str]], tmp_path: Path
) -> None:
    uri, options = output
    storage = StorageSpec(endpoint_url=options[1] if options else None)
    state = {row["code"]: row for row in current_state(uri, storage).to_pylist()}
    answer, failure = state[None], state["not_a_video"]
    sheet = tmp_path / "frames.png"

    asked = ["explain", uri, answer["request_id"][:12], *options]
    done = CliRunner().invoke(app, [*asked, "--json", "--replay", "--thumbnails", str(sheet)])
    assert done.exit_code == 0, done.output
    assert "replayed: the same" in done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {
        *("row", "earlier_failures", "num_lone_attempts", "spec", "versions", "prompt_as_sent"),
        *("decides", "changed_since"),
    }
    assert told["row"]["frame_indices"] == answer["frame_indices"]
    assert "Describe the video." in told["prompt_as_sent"] and "<image>" in told["prompt_as_sent"]
    assert told["decides"]["generation"]["max_new_tokens"] == 16
    assert told["changed_since"] is None
    assert {"sfray", "torch", "transformers", "av", "python"} <= told["versions"].keys()
    assert Image.open(sheet).size[0] == 1600

    bad = CliRunner().invoke(app, ["explain", uri, failure["request_id"], *options, "--replay"])
    assert bad.exit_code == 0, bad.output
    assert "not_a_video" in bad.stdout and "replayed: the same" in bad.stderr

    unknown = CliRunner().invoke(app, ["explain", uri, "nothing", *options])
    assert "begins with 'nothing'" in str(unknown.exception)
