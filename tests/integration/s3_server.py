"""A real S3 server (SeaweedFS) on loopback, with keys, for the tests of one session."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.config
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from sfray.config import StorageSpec

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"  # noqa: S105
START_SECONDS = 60
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. Clients of this process find the keys in the AWS variables."""

    endpoint_url: str
    pid: int

    @property
    def storage(self) -> StorageSpec:
        return StorageSpec(endpoint_url=self.endpoint_url, region="us-east-1")

    def client(self):
        """A plain boto3 client with the right keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(
                retries={"max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )

    def new_bucket(self) -> str:
        """A fresh bucket's name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """Starts a server that keeps its data in `folder` and stops it at the end."""
    for attempt in range(ATTEMPTS):
        process, endpoint_url, log = _start(folder / str(attempt))
        server = S3Server(endpoint_url, process.pid)
        try:
            if _answers(server, process):
                yield server
                return
        finally:
            process.kill()  # a clean stop waits half a minute, and the data goes away anyway
            process.wait(timeout=30)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str, Path]:
    (folder / "data").mkdir(parents=True)
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {
        "name": "test",
        "credentials": [keys],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # Every bucket has volumes of its own: one at a time instead of seven, of as many as it takes.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    names = [
        f"{part}.port{kind}"
        for part in ("master", "volume", "filer", "s3")
        for kind in ("", ".grpc")
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sys.executable).parent / "weed"),
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-volume.max=4000",
        "-master.volumeSizeLimitMB=64",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=folder)  # noqa: S603
    return process, f"http://127.0.0.1:{ports['s3.port']}", log


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server takes an object before its time is up; false where it died."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.client().put_object(Bucket=server.new_bucket(), Key="ready", Body=b"x")
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
        else:
            return True
    return False


@pytest.fixture(scope="session")
def s3_keys() -> Iterator[None]:
    """The keys of the tests' server, and no others, are in the environment of all processes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory, s3_keys: None) -> Iterator[S3Server]:
    """A server for the whole session."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
