"""The whole product on real videos with the demonstration model, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfray.config import StorageSpec
from sfray.demo.videos import write_sample_set
from sfray.results.read import current_state
from tests.waiting import wait_for_parts

NUM_VIDEOS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sample_set(tmp_path_factory.mktemp("world"), NUM_VIDEOS, first_seed=700_000)


@pytest.fixture(scope="module")
def undisturbed(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    done = start(world, output)
    assert done.wait(timeout=250) == 0
    return texts(output)


def start(
    world: dict[str, Path], output: Path, address: str | None = None
) -> subprocess.Popen[bytes]:
    """Starts a job, on the Ray at an address or on one of its own."""
    spec = {
        "manifest": {"uri": str(world["qa"]), "passthrough": ["kind"]},
        "task": "qa",
        "model": {"id": "demo", "dtype": "float32"},
        "generation": {"max_new_tokens": 16},
        "output": {"uri": str(output), "flush_rows": 1},
    }
    path = output.parent / "job.yaml"
    path.write_text(json.dumps(spec))
    # A group of its own, so that a test's signal reaches this process and what it started only.
    command = [sys.executable, "-m", "sfray", "run", str(path)]
    command += ["--address", address] if address else []
    return subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own command


def texts(output: Path) -> dict[str, str]:
    rows: list[dict[str, Any]] = current_state(str(output), StorageSpec()).to_pylist()
    assert all(row["code"] is None for row in rows)
    found = {row["request_id"]: row["text"] for row in rows}
    assert len(found) == len(rows), "a request is there twice"
    return found


def wait_for_answers(output: Path, process: subprocess.Popen[bytes]) -> None:
    wait_for_parts(output / "answers", 2)
    assert process.poll() is None, "the run ended before it was interrupted"


def test_answers_are_complete_and_say_where_they_come_from(
    undisturbed: dict[str, str], world: dict[str, Path]
) -> None:
    import pyarrow.parquet as pq

    assert len(undisturbed) == pq.read_table(world["qa"]).num_rows


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_job_ends_as_an_undisturbed_one(
    tmp_path: Path,
    world: dict[str, Path],
    undisturbed: dict[str, str],
    ray_address: str,
    number: signal.Signals,
) -> None:
    """It is interrupted on a Ray of its own, which ends with it."""
    output = tmp_path / "out"
    first = start(world, output)
    wait_for_answers(output, first)
    if number == signal.SIGINT:
        os.killpg(first.pid, number)  # as a terminal does
    else:
        first.send_signal(number)
    code = first.wait(timeout=100)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    # Of a killed one there is left what a next one finds where it looks for a Ray.
    second = start(world, output, None if number == signal.SIGKILL else ray_address)
    assert second.wait(timeout=250) == 0
    assert texts(output) == undisturbed
