"""Ray's Job API: a job is sent to a cluster over HTTP, followed and stopped there.

A token is Ray's own affair: with RAY_AUTH_MODE=token its client sends the one of RAY_AUTH_TOKEN,
RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token along.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import aiohttp
import requests
from packaging.requirements import Requirement
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from sfray.errors import ClusterError, SpecError
from sfray.process import environment, quieted
from sfray.redaction import redact, redact_text
from sfray.submission.shipment import JOB_FILE, Shipment

# After a wish to stop a driver has so long to write what it holds; Ray's own default is 3 s.
_STOP_SECONDS = 60
# A follower bears a head that is away for so long, such as while it is replaced.
_PATIENCE_SECONDS = 300
# A cluster that has just started may have nobody to take a job yet.
_START_SECONDS = 120
# How a run's last lines begin, which say what to type next.
_ADVICE = "next: "
# To tell a missing token from a missing server.
_ANSWER_SECONDS = 5
_STOPPED_EXIT_CODE = 143
_NO_TOKEN = "couldn't find an authentication token"  # noqa: S105 - words of Ray's
_STATUS_CODE = re.compile(r"^Request failed with status code \d+: ")


class _NoAnswerError(ClusterError):
    """Nobody answered at all; somebody may later."""


class _NotReadyError(ClusterError):
    """A cluster that has just started takes no jobs yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A submitted job as its cluster tells of it.

    Attributes:
        exit_code: None until it has ended.
        message: Ray's, its first line.
        reason: of one that failed, the last that it said; empty of others.
    """

    submission_id: str
    status: str
    exit_code: int | None
    started: datetime | None
    ended: datetime | None
    message: str
    reason: str
    metadata: dict[str, str]


class JobServer:
    """The job server of a cluster."""

    def __init__(self, address: str, *, seconds_between_looks: float = 1.0) -> None:
        """Connects to the dashboard's address, such as `http://head:8265`.

        Args:
            seconds_between_looks: at a job that is followed or stopped.

        Raises:
            SpecError: it is no such address.
            ClusterError: nobody answers there, or refuses.
        """
        self.address = redact(address)
        self._pause_seconds = seconds_between_looks
        self._address = address
        if not address.startswith(("http://", "https://")):
            raise SpecError(
                f"--address {self.address!r} is no http:// or https:// address of a Ray dashboard, "
                "such as http://head:8265"
            )
        # Ray takes this variable before an address that it is given.
        with self._faults(), environment(RAY_API_SERVER_ADDRESS=address):
            self._client = JobSubmissionClient(address)

    def submit(self, shipment: Shipment, *, limit: int | None, ship: bool, pip: bool) -> str:
        """Sends a job and returns its submission id.

        Args:
            limit: only the first so many requests.
            ship: take this machine's sfray along, for clusters that have none or another one.
            pip: have Ray install what sfray needs on the nodes.
        """
        spec = shipment.spec
        command = ["python", "-m", "sfray", "run", JOB_FILE]
        if limit is not None:
            command += ["--limit", str(limit)]
        with tempfile.TemporaryDirectory() as folder:
            shipment.write_to(Path(folder))
            return self._send(
                entrypoint=shlex.join(command),
                submission_id=_submission_id(spec.name),
                runtime_env=runtime_env(Path(folder), ship=ship, pip=pip),
                metadata={
                    "job_name": spec.name,
                    "task": spec.task,
                    "model": spec.model.id,
                    "output": redact(spec.output.uri),
                    "sfray": metadata.version("sfray"),
                },
            )

    def state(self, submission_id: str) -> JobState:
        """How a job stands."""
        with self._faults():
            return _state(submission_id, self._client.get_job_info(submission_id))

    def logs(self, submission_id: str) -> str:
        """All that a job has written so far."""
        with self._faults():
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, write: Callable[[str], None]) -> JobState:
        """Writes a job's log as it grows, until the job has ended.

        A connection that breaks is taken up again where it broke.
        """
        log = _Growing(write)
        while True:
            state = self._patient_state(submission_id)
            if state.exit_code is None:
                log.from_its_beginning()
                asyncio.run(self._tail(submission_id, log))
                time.sleep(self._pause_seconds)
                continue
            log.from_its_beginning()
            log.add(self.logs(submission_id))
            return state

    def stop(self, submission_id: str) -> JobState:
        """Has a job write what it holds and end; returns how it ended."""
        with self._faults():
            self._client.stop_job(submission_id)
        deadline = time.monotonic() + 2 * _STOP_SECONDS
        while (state := self.state(submission_id)).exit_code is None:
            if time.monotonic() > deadline:
                raise ClusterError(f"{submission_id} has been told to stop, but goes on")
            time.sleep(self._pause_seconds)
        return state

    @retry(
        retry=retry_if_exception_type(_NotReadyError),
        stop=stop_after_delay(_START_SECONDS),
        wait=wait_fixed(2),
        reraise=True,
    )
    def _send(self, **request: Any) -> str:
        with self._faults():
            return self._client.submit_job(**request)

    async def _tail(self, submission_id: str, log: _Growing) -> None:
        try:
            async for text in self._client.tail_job_logs(submission_id):
                log.add(text)
        except (RuntimeError, aiohttp.ClientError):
            # A connection that broke: whether the job did, its state tells.
            return

    @retry(
        retry=retry_if_exception_type(_NoAnswerError),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        wait=wait_fixed(5),
        reraise=True,
    )
    def _patient_state(self, submission_id: str) -> JobState:
        return self.state(submission_id)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns what Ray's client raises into one sentence."""
        try:
            # It would tell of every upload and connection.
            with quieted(logging.getLogger("ray").handlers, logging.ERROR):
                yield
        except AuthenticationError as error:
            # Ray's client looks for its token before it asks anybody.
            if _NO_TOKEN in str(error) and not _answers(self._address):
                raise _NoAnswerError(f"no Ray dashboard answers at {self.address}") from error
            raise ClusterError(self._refusal(str(error))) from error
        except (ConnectionError, requests.RequestException) as error:
            raise _NoAnswerError(f"no Ray dashboard answers at {self.address}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ClusterError(
                f"{self.address} answers, but not as a Ray dashboard does ({type(error).__name__})"
            ) from error
        except RuntimeError as error:  # any other answer of the server
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            answer = redact_text(_STATUS_CODE.sub("", lines[-1])).rstrip(".")
            kind = _NotReadyError if answer.startswith("No available agent") else ClusterError
            raise kind(f"the cluster at {self.address}: {answer}") from error

    def _refusal(self, answer: str) -> str:
        if _NO_TOKEN in answer:
            return (
                f"RAY_AUTH_MODE is token, but there is no token for the cluster at {self.address}: "
                "put it into RAY_AUTH_TOKEN, or its file into RAY_AUTH_TOKEN_PATH or at "
                "~/.ray/auth_token"
            )
        if "Missing" in answer:
            return (
                f"the cluster at {self.address} wants a token: set RAY_AUTH_MODE=token, and the "
                "token in RAY_AUTH_TOKEN or its file in RAY_AUTH_TOKEN_PATH"
            )
        return (
            f"the cluster at {self.address} refuses the token, which Ray takes from "
            "RAY_AUTH_TOKEN, else from the file RAY_AUTH_TOKEN_PATH, else from ~/.ray/auth_token"
        )


class _Growing:
    """A log that is read from its beginning again and again, and written once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._num_written = 0
        self._position = 0

    def from_its_beginning(self) -> None:
        self._position = 0

    def add(self, text: str) -> None:
        new = text[max(0, self._num_written - self._position) :]
        self._position += len(text)
        if new:
            self._write(new)
            self._num_written = self._position


def _answers(address: str) -> bool:
    """Whether anybody answers at an address, whatever it says."""
    try:
        requests.get(address, timeout=_ANSWER_SECONDS)
    except requests.RequestException:
        return False
    return True


def runtime_env(folder: Path, *, ship: bool, pip: bool) -> dict[str, Any]:
    """What Ray sets up for a job. No credentials: the dashboard shows it to everyone."""
    env: dict[str, Any] = {
        "working_dir": str(folder),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)},
    }
    if ship:
        env["py_modules"] = [str(Path(__file__).parents[1])]
    if pip:
        needed = [Requirement(text) for text in metadata.requires("sfray") or ()]
        # The nodes tell by the other markers what is for their platform.
        own = [r for r in needed if r.name != "ray" and "extra" not in str(r.marker)]
        env["pip"] = [str(r) for r in own]
    return env


def _submission_id(name: str) -> str:
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _state(submission_id: str, details: JobDetails) -> JobState:
    return JobState(
        submission_id=submission_id,
        status=details.status.value,
        exit_code=_exit_code(details),
        started=_time(details.start_time),
        ended=_time(details.end_time),
        message=redact_text((details.message or "").partition("\n")[0]),
        reason=redact_text(_reason(details)),
        metadata=dict(details.metadata or {}),
    )


def _reason(details: JobDetails) -> str:
    """The last line of a failed driver's log, which Ray's message ends with, but for advice."""
    if details.status != JobStatus.FAILED:
        return ""
    lines = [line.strip() for line in (details.message or "").splitlines()]
    told = [line for line in lines if line and not line.startswith(_ADVICE)]
    return told[-1] if told else ""


def _exit_code(details: JobDetails) -> int | None:
    """That of the driver; one that a signal ended has 128 and the signal's number, as in shells."""
    if not details.status.is_terminal():
        return None
    if details.status == JobStatus.STOPPED:
        return _STOPPED_EXIT_CODE
    code = details.driver_exit_code
    if code is None:
        return 0 if details.status == JobStatus.SUCCEEDED else 1
    return 128 - code if code < 0 else code


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
