"""Jobs on a real cluster of three nodes with token authentication, over HTTP.

The lines of docs/how-to/laptop-cluster.md start it, with ports and a folder of Ray's that are free
here in place of those written there; what `make demo` leaves is made by the function that it calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from sfray.config import StorageSpec
from sfray.demo.videos import write_sample_set
from sfray.results.read import current_state
from sfray.results.verify import verify
from tests.integration.held_videos import HeldVideos, held_videos
from tests.integration.s3_server import free_ports
from tests.waiting import wait_for_parts

ROOT = Path(__file__).parents[2]
# Three nodes on one machine that does other things too.
pytestmark = pytest.mark.timeout(1500)
PATIENCE_SECONDS = 600

NUM_VIDEOS = 3
NUM_COPIES = 4
MARK = "SFRAY_TEST_CLUSTER"
SECRET = "no-secret-but-must-not-be-shown"  # noqa: S105 - a word to look for


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Somebody who has run `make demo` in `folder` and followed the documentation."""

    folder: Path
    env: dict[str, str]
    output: str

    @property
    def address(self) -> str:
        return self.env["RAY_API_SERVER_ADDRESS"]

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            command,
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def sfray(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "sfray", *arguments, **env)

    def token(self) -> str:
        return (self.folder / "home/.ray/auth_token").read_text()


def documented_lines() -> str:
    """The block from a demonstration to a submitted job."""
    page = (ROOT / "docs/how-to/laptop-cluster.md").read_text()
    return re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "home").mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "jobs").symlink_to(ROOT / "jobs")
    with contextlib.chdir(folder):
        write_sample_set(Path("demo-output/videos"), NUM_VIDEOS, first_seed=1_000_000)
    mark = uuid.uuid4().hex
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        MARK: mark,
    }
    # Short, since it holds Unix sockets, whose paths have room for 107 bytes.
    ray_folder = tempfile.mkdtemp(prefix="sfray-")
    port, dashboard_port = map(str, free_ports(2))
    lines = documented_lines()
    here = {"26379": port, "28265": dashboard_port, "/tmp/sfray-ray": ray_folder}  # noqa: S108
    for written, ours in here.items():
        assert written in lines
        lines = lines.replace(written, ours)
    log = folder / "lines.log"
    try:
        with log.open("w") as stream:  # a pipe would stay open as long as the nodes run
            done = subprocess.run(  # noqa: S603 - the documentation's lines
                ["bash", "-euc", lines],  # noqa: S607 - any bash
                cwd=folder,
                env=env,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        assert done.returncode == 0, log.read_text()
        env |= {
            "RAY_AUTH_MODE": "token",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard_port}",
        }
        yield Newcomer(folder, env, log.read_text())
    finally:
        end_marked(mark)
        shutil.rmtree(ray_folder)


def end_marked(mark: str) -> None:
    """Ends the processes that carry the mark in their environment, and their children."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found |= {process, *process.children(recursive=True)}
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=30)


@pytest.fixture
def videos(newcomer: Newcomer) -> Iterator[HeldVideos]:
    with held_videos(newcomer.folder) as held:
        yield held


@pytest.fixture
def long_job(newcomer: Newcomer, videos: HeldVideos) -> Path:
    """A job that doesn't end before it is stopped: its last videos are held back until then."""
    rows = pq.read_table(newcomer.folder / "demo-output/videos/qa.parquet").to_pylist()
    places = [str(newcomer.folder)] * (NUM_COPIES - 1) + [videos.url]
    manifest = [
        {
            **row,
            "video_uri": f"{place}/{row['video_uri']}",
            "video_id": f"{copy}-{row['video_id']}",
            "question_id": f"{copy}-{row['question_id']}",
        }
        for copy, place in enumerate(places)
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(manifest), newcomer.folder / "long.parquet")
    spec = {
        "name": "long",
        "manifest": {"uri": str(newcomer.folder / "long.parquet")},
        "task": "qa",
        "videos": {"allowed_schemes": ["file", "http"], "allowed_hosts": ["127.0.0.1"]},
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 32},
        "output": {"uri": str(newcomer.folder / "long"), "flush_rows": 1},
    }
    path = newcomer.folder / "long.yaml"
    path.write_text(json.dumps(spec))
    return path


def texts(output: Path) -> dict[str, str]:
    rows: list[dict[str, Any]] = current_state(str(output), StorageSpec()).to_pylist()
    assert all(row["code"] is None for row in rows)
    return {row["request_id"]: row["text"] for row in rows}


def test_the_readme_leads_from_the_demonstration_to_answers_of_a_cluster(
    newcomer: Newcomer,
) -> None:
    assert "status: SUCCEEDED" in newcomer.output
    assert "finished: every request is an answer" in newcomer.output
    assert len(texts(newcomer.folder / "demo-output/cluster")) == NUM_VIDEOS
    nodes = requests.get(
        f"{newcomer.address}/nodes?view=summary",
        headers={"Authorization": f"Bearer {newcomer.token()}"},
        timeout=30,
    ).json()["data"]["summary"]
    assert [node["raylet"]["state"] for node in nodes] == ["ALIVE"] * 3


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["submit", "jobs/specs/caption_demo_cpu.yaml", "--shared-paths"],
        ["status", "some-job"],
        ["logs", "some-job"],
        ["stop", "some-job"],
    ],
    ids=lambda command: command[0],
)
def test_without_the_token_all_is_refused_in_one_sentence(
    newcomer: Newcomer, command: list[str], env: dict[str, str], words: str
) -> None:
    done = newcomer.sfray(*command, **env)
    assert done.returncode == 2
    assert words in done.stderr and newcomer.address in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_a_stopped_job_goes_on_when_it_is_submitted_again_by_rays_own_command(
    newcomer: Newcomer, long_job: Path, videos: HeldVideos
) -> None:
    output = newcomer.folder / "long"
    sent = newcomer.sfray("submit", str(long_job), "--shared-paths", AWS_SECRET_ACCESS_KEY=SECRET)
    assert sent.returncode == 0, sent.stderr
    submission_id = sent.stdout.strip()
    wait_for_parts(output / "answers", 2)
    stopped = newcomer.sfray("stop", submission_id)
    assert stopped.returncode == 0, stopped.stderr
    status = newcomer.sfray("status", submission_id).stdout
    assert "status: STOPPED" in status and "exit code: 143" in status
    written = newcomer.sfray("logs", submission_id).stdout
    assert "stopped by SIGTERM" in written
    followed = newcomer.sfray("logs", submission_id, "--follow")
    assert followed.returncode == 143 and followed.stdout == written
    before = texts(output)
    [summary] = [json.loads(p.read_text()) for p in output.glob("_sfray/runs/*/summary.json")]
    num_requests = pq.read_table(newcomer.folder / "long.parquet").num_rows
    assert 0 < len(before) == summary["num_answers"] < num_requests
    assert_nothing_secret_is_shown(newcomer, submission_id)

    videos.opened.set()
    shutil.copytree(ROOT / "jobs", newcomer.folder / "checkout/jobs")
    shutil.copy(long_job, newcomer.folder / "checkout")
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "job", "submit", "--working-dir", "checkout", "--"]
    resumed = newcomer.run(*command, "python", "jobs/run.py", "long.yaml")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"{num_requests} ({len(before)} done before)" in resumed.stdout
    after = texts(output)
    assert len(after) == num_requests and before.items() <= after.items()
    assert verify(str(output), StorageSpec()).ok


def test_the_exit_code_of_a_job_comes_back(newcomer: Newcomer) -> None:
    """Of a job that is refused only when its manifest is read, on the cluster."""
    (newcomer.folder / "none.csv").write_text("column\n1\n")
    spec = "jobs/specs/caption_demo_cpu.yaml"
    done = newcomer.sfray(
        "submit", spec, "--shared-paths", "--follow", "--set", "manifest.uri=none.csv"
    )
    assert done.returncode == 2
    assert "error: " in done.stdout and "video_uri" in done.stdout
    assert "exit code: 2" in done.stderr


def assert_nothing_secret_is_shown(newcomer: Newcomer, submission_id: str) -> None:
    shown = requests.get(
        f"{newcomer.address}/api/jobs/{submission_id}",
        headers={"Authorization": f"Bearer {newcomer.token()}"},
        timeout=30,
    ).text
    assert json.loads(shown)["metadata"]["job_name"] == "long"
    assert SECRET not in shown and newcomer.token() not in shown
