"""The same job night after night over a folder that grows, then with another prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import load_job_spec
from sfray.planning.outlook import outlook
from sfray.results.read import read_answers
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from tests.integration.fake_stages import Script
from tests.integration.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("local_ray")


class Nights:
    """A job over the folder `manifests`, of this machine or on S3."""

    def __init__(self, folder: Path, server: S3Server | None) -> None:
        self.spec = folder / "job.yaml"
        self.script = Script(folder=folder)
        self._manifests = folder / "manifests"
        self._server = server
        self._bucket = server.new_bucket() if server else ""
        base = f"s3://{self._bucket}" if server else str(folder)
        self.output = f"{base}/out"
        self.options = ["--endpoint-url", server.endpoint_url] if server else []
        self._values: dict[str, Any] = {
            "manifest": {"uri": f"{base}/manifests/night-*.csv"},
            "task": "caption",
            "model": {"id": "demo"},
            "output": {"uri": self.output},
            "storage": server.storage.model_dump() if server else {},
        }

    def deliver(self, night: int, *videos: str) -> None:
        """One more file of the manifest."""
        name, body = f"night-{night}.csv", "\n".join(["video_uri", *videos, ""])
        if self._server is None:
            self._manifests.mkdir(exist_ok=True)
            (self._manifests / name).write_text(body)
        else:
            key = f"manifests/{name}"
            self._server.client().put_object(Bucket=self._bucket, Key=key, Body=body.encode())

    def ask(self, prompt: str) -> None:
        prompts = [{"prompt_id": "caption", "text": prompt}]
        self.spec.write_text(yaml.safe_dump(self._values | {"prompts": prompts}))

    def planned(self) -> tuple[int, int]:
        """What `sfray plan` says: how many are answered, how many are to do."""
        done = CliRunner().invoke(app, ["plan", str(self.spec)])
        assert done.exit_code == 0, (done.output, done.exception)
        seen = outlook(load_job_spec(self.spec))
        assert (
            f"{seen.to_do.requests.num_rows} requests on {seen.to_do.num_clips} videos"
            in done.output
        )
        return seen.to_do.num_answered, seen.to_do.requests.num_rows

    def run(self) -> RunSummary:
        return run_job(load_job_spec(self.spec), stages=self.script.stages())


@pytest.mark.parametrize("place", ["local", "s3"])
def test_only_what_is_new_is_done_and_a_changed_prompt_stands_beside(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    server = request.getfixturevalue("s3_server") if place == "s3" else None
    nights = Nights(tmp_path, server)
    nights.ask("what")
    nights.deliver(1, "a.mp4", "b.mp4")
    assert nights.planned() == (0, 2)
    first = nights.run()
    nights.deliver(2, "c.mp4", "a.mp4")
    assert nights.planned() == (2, 1)
    assert nights.run().num_answers == 1
    assert nights.planned() == (3, 0)
    assert nights.run().num_answers == 0

    nights.ask("what now")
    assert nights.planned() == (0, 3)
    other = nights.run()
    assert other.num_answers == 3
    texts = read_answers(nights.output, load_job_spec(nights.spec).storage).to_table()
    by_fingerprint = texts.group_by("fingerprint").aggregate([([], "count_all")]).to_pylist()
    assert {row["fingerprint"]: row["count_all"] for row in by_fingerprint} == {
        first.fingerprints[0]: 3,
        other.fingerprints[0]: 3,
    }
    words = ["diff", nights.output, *first.fingerprints, *other.fingerprints, *nights.options]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, (told.output, told.exception)
    assert "3 changed" in told.output
    assert "WHAT NOW" in told.output and "a.mp4" in told.output
