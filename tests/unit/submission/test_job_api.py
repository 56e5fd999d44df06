"""The client against a small job server of Ray's protocol that can break off."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import parse_job_spec
from sfray.errors import ClusterError, SpecError
from sfray.submission.job_api import JobServer, runtime_env
from sfray.submission.shipment import pack

LOG = "first line\nsecond line\nthird line\n"


class FakeServer:
    """Tells of one job; the tail of its log breaks off at the places of `breaks`, then ends."""

    def __init__(self) -> None:
        self.breaks: list[int] = []
        self.ended: dict[str, Any] = {"status": "SUCCEEDED", "driver_exit_code": 0}
        self.refuses_tails = False
        self.num_unready = 0
        self.submitted: list[dict[str, Any]] = []
        self._num_tails = 0
        self._num_looks = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/packages/gcs/{name}", self._package)
        app.router.add_get("/api/jobs/known", self._job)
        app.router.add_get("/api/jobs/known/logs", self._logs)
        app.router.add_get("/api/jobs/known/logs/tail", self._tail)
        app.router.add_get("/api/jobs/{other}", self._unknown)
        return app

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0"})

    async def _package(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        if self.num_unready:
            self.num_unready -= 1
            text = "No available agent to submit job, please try again later."
            return web.Response(status=500, text=text)
        self.submitted.append(await request.json())
        return web.json_response({"job_id": "known", "submission_id": "known"})

    async def _job(self, request: web.Request) -> web.Response:
        self._num_looks += 1
        state = self.ended if self._num_looks > len(self.breaks) + 1 else {"status": "RUNNING"}
        return web.json_response(
            {"type": "SUBMISSION", "entrypoint": "x", "submission_id": "known", **state}
        )

    async def _logs(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": LOG})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_tails:
            return web.Response(status=502)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self._num_tails < len(self.breaks):
            end = self.breaks[self._num_tails]
            self._num_tails += 1
            await socket.send_str(LOG[:end])
            request.transport.abort()
            return socket
        for line in LOG.splitlines(keepends=True)[:-1]:
            await socket.send_str(line)
        await socket.close()
        return socket

    async def _unknown(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text=f"Job {request.match_info['other']} does not exist")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    # The address that is given counts.
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")


@pytest.fixture
def fake() -> Iterator[tuple[FakeServer, JobServer]]:
    fake = FakeServer()
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(fake.app())
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield fake, JobServer(address, seconds_between_looks=0.01)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_state_is_one_object(fake: tuple[FakeServer, JobServer]) -> None:
    for command in ("status", "status"):  # it runs, then it has ended
        arguments = [command, "known", "--address", fake[1].address, "--json"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        told = json.loads(done.stdout)
        assert told["submission_id"] == "known"
    assert (told["status"], told["exit_code"]) == ("SUCCEEDED", 0)


def test_a_job_is_sent_once_the_cluster_takes_it(fake: tuple[FakeServer, JobServer]) -> None:
    fake[0].num_unready = 1
    values = {
        "name": "nightly",
        "manifest": {"uri": "s3://b/m.parquet"},
        "task": "qa",
        "model": {"id": "demo"},
        "output": {"uri": "s3://b/out"},
    }
    packed = pack(parse_job_spec(values), shared_paths=False)
    assert fake[1].submit(packed, limit=7, ship=False, pip=False) == "known"
    [job] = fake[0].submitted
    assert job["entrypoint"] == "python -m sfray run job.yaml --limit 7"
    assert job["submission_id"].startswith("nightly-20")
    assert job["metadata"] | {"sfray": ""} == {
        "job_name": "nightly",
        "task": "qa",
        "model": "demo",
        "output": "s3://b/out",
        "sfray": "",
    }


@pytest.mark.parametrize("breaks", [[], [4], [15, 15, 20], [30, 2]])
def test_a_followed_log_is_written_once_whatever_breaks_off(
    fake: tuple[FakeServer, JobServer], breaks: list[int]
) -> None:
    fake[0].breaks = breaks
    written: list[str] = []
    state = fake[1].follow("known", written.append)
    assert "".join(written) == LOG
    assert (state.status, state.exit_code) == ("SUCCEEDED", 0)


def test_where_no_log_can_be_followed_it_comes_in_the_end(
    fake: tuple[FakeServer, JobServer],
) -> None:
    fake[0].refuses_tails = True
    written: list[str] = []
    fake[1].follow("known", written.append)
    assert written == [LOG]


@pytest.mark.parametrize(
    ("ended", "exit_code"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0),
        ({"status": "FAILED", "driver_exit_code": 3}, 3),
        ({"status": "FAILED", "driver_exit_code": -9}, 137),
        ({"status": "FAILED", "message": "runtime_env setup failed: x"}, 1),
        ({"status": "STOPPED"}, 143),
        ({"status": "RUNNING"}, None),
        ({"status": "PENDING"}, None),
    ],
)
def test_the_exit_code_is_the_drivers(
    fake: tuple[FakeServer, JobServer], ended: dict[str, Any], exit_code: int | None
) -> None:
    fake[0].ended = ended
    fake[1].state("known")
    state = fake[1].state("known")
    assert state.exit_code == exit_code
    assert state.message == ended.get("message", "")


def test_a_failed_job_says_why(fake: tuple[FakeServer, JobServer]) -> None:
    log = "error: the manifest m.csv?token=hunter2 does not exist\nnext: sfray show out\n"
    message = f"Job entrypoint command failed with exit code 2, last available logs:\n{log}"
    fake[0].ended = {"status": "FAILED", "driver_exit_code": 2, "message": message}
    fake[1].state("known")
    address = fake[1].address
    done = CliRunner().invoke(app, ["status", "known", "--address", address])
    last = done.output.splitlines()[-1]
    assert last.startswith("reason: error: the manifest m.csv") and "hunter2" not in last
    fake[0].ended = {"status": "SUCCEEDED", "message": "a\nb"}
    assert fake[1].state("known").reason == ""


def test_an_unknown_job_is_one_sentence(fake: tuple[FakeServer, JobServer]) -> None:
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:\d+: Job other does not exist$"):
        fake[1].state("other")


@pytest.mark.parametrize("address", ["head:6379", "ray://head:10001", "auto"])
def test_an_address_that_is_no_dashboards_is_refused(address: str) -> None:
    with pytest.raises(SpecError, match=address):
        JobServer(address)


def test_nobody_there_is_one_sentence_without_the_password() -> None:
    with pytest.raises(ClusterError, match=r"no Ray dashboard answers at http://127\.0\.0\.1:9$"):
        JobServer("http://user:hunter2@127.0.0.1:9")


def test_a_token_that_is_not_there_is_no_refusal(
    fake: tuple[FakeServer, JobServer], tmp_path: Path
) -> None:
    """In a process of its own: Ray reads the mode once."""

    def told(address: str) -> str:
        command = [sys.executable, "-m", "sfray", "status", "j", "--address", address]
        own = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
        own |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)  # noqa: S603 - our own command
        assert done.returncode == 2
        return done.stderr

    assert "no Ray dashboard answers at http://127.0.0.1:9" in told("http://127.0.0.1:9")
    assert "RAY_AUTH_MODE is token, but there is no token" in told(fake[1].address)


def test_what_ray_sets_up_holds_no_variable_of_the_submitter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    env = runtime_env(tmp_path, ship=True, pip=True)
    assert list(env["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]
    assert (Path(env["py_modules"][0]) / "__main__.py").is_file()
    names = {requirement.partition("<")[0].partition(">")[0] for requirement in env["pip"]}
    assert {"torch", "av"} <= names and not names & {"ray", "pytest", "vllm"}
    (decord,) = (requirement for requirement in env["pip"] if "decord" in requirement)
    assert 'platform_machine == "x86_64"' in decord, "not for all nodes"
    assert runtime_env(tmp_path, ship=False, pip=False).keys() == {"working_dir", "env_vars"}
