"""A real Prometheus that scrapes what Ray exports, for tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

BINARY = shutil.which("prometheus")


class Prometheus:
    """Asks a server by its HTTP API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now: `metric` (labels) and `value` (time, text)."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of an expression from second to second: `metric` and `values`."""
        return self._ask("query_range", query=expression, start=start, end=end, step="1")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=5):  # noqa: S310 - our own server
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def _ask(self, endpoint: str, **parameters: Any) -> list[dict[str, Any]]:
        body = urllib.parse.urlencode(parameters).encode()
        url = f"{self._address}/api/v1/{endpoint}"
        try:
            with urllib.request.urlopen(url, body, timeout=30) as reply:  # noqa: S310 - our own server
                return json.load(reply)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from error


@contextmanager
def prometheus(folder: Path, service_discovery: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every second what a service discovery file names."""
    if BINARY is None:
        raise FileNotFoundError("prometheus is not installed")
    config = {
        "scrape_configs": [
            {
                "job_name": "ray",
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "file_sd_configs": [
                    {"files": [str(service_discovery)], "refresh_interval": "1s"},
                ],
            }
        ]
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        BINARY,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    process = subprocess.Popen(command)  # noqa: S603 - our own command
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 60
        while not server.is_ready():
            assert process.poll() is None, "prometheus ended"
            assert time.monotonic() < deadline, "prometheus didn't start"
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
