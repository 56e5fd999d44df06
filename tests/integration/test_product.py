"""The whole product on real videos with the demonstration model, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import StorageSpec
from sfray.demo.videos import write_sample_set
from sfray.results.read import current_state
from tests.integration.held_videos import HeldVideos, held_videos
from tests.waiting import num_parts, wait_until

NUM_VIDEOS = 6


@dataclass(frozen=True, slots=True)
class World:
    """Questions on some videos; the last one is held back, so that no job ends before it may."""

    manifest: Path
    held: HeldVideos


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    manifest = write_sample_set(folder, NUM_VIDEOS, first_seed=700_000)["qa"]
    rows = pq.read_table(manifest).to_pylist()
    last = rows[-1]["video_uri"]
    with held_videos(folder) as held:
        for row in rows:
            if row["video_uri"] == last:
                row["video_uri"] = f"{held.url}/{Path(last).name}"
        pq.write_table(pa.Table.from_pylist(rows), manifest)
        yield World(manifest, held)


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    world.held.opened.set()
    done = start(world, output)
    assert done.wait(timeout=250) == 0
    answers = texts(output)
    # Standard output is one document, also where Ray was started for it.
    summary = json.loads((output.parent / "summary.json").read_text())
    assert (summary["num_answers"], summary["exit_code"]) == (len(answers), 0)
    return answers


def start(world: World, output: Path, address: str | None = None) -> subprocess.Popen[bytes]:
    """Starts a job, on the Ray at an address or on one of its own."""
    spec = {
        "manifest": {"uri": str(world.manifest), "passthrough": ["kind"]},
        "task": "qa",
        "videos": {"allowed_schemes": ["file", "http"], "allowed_hosts": ["127.0.0.1"]},
        "model": {"id": "demo", "dtype": "float32"},
        "generation": {"max_new_tokens": 16},
        "output": {"uri": str(output), "flush_rows": 1},
    }
    path = output.parent / "job.yaml"
    path.write_text(json.dumps(spec))
    # A group of its own, so that a test's signal reaches this process and what it started only.
    command = [sys.executable, "-m", "sfray", "run", str(path), "--json"]
    command += ["--address", address] if address else []
    with (output.parent / "summary.json").open("wb") as file:
        return subprocess.Popen(command, start_new_session=True, stdout=file)  # noqa: S603 - our own command


def texts(output: Path) -> dict[str, str]:
    rows: list[dict[str, Any]] = current_state(str(output), StorageSpec()).to_pylist()
    assert all(row["code"] is None for row in rows)
    found = {row["request_id"]: row["text"] for row in rows}
    assert len(found) == len(rows), "a request is there twice"
    return found


def wait_for_answers(output: Path, process: subprocess.Popen[bytes]) -> None:
    def has_answered() -> bool:
        assert process.poll() is None, "the run ended before it was interrupted"
        return num_parts(output / "answers") >= 2

    wait_until(has_answered, "an answer")


def test_answers_are_complete_and_say_where_they_come_from(
    undisturbed: dict[str, str], world: World
) -> None:
    assert len(undisturbed) == pq.read_table(world.manifest).num_rows


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_job_ends_as_an_undisturbed_one(
    tmp_path: Path,
    world: World,
    undisturbed: dict[str, str],
    ray_address: str,
    number: signal.Signals,
) -> None:
    """It is interrupted on a Ray of its own, which ends with it."""
    output = tmp_path / "out"
    world.held.opened.clear()
    first = start(world, output)
    wait_for_answers(output, first)
    if number == signal.SIGINT:
        os.killpg(first.pid, number)  # as a terminal does
    else:
        first.send_signal(number)
    code = first.wait(timeout=100)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    world.held.opened.set()
    # Of a killed one there is left what a next one finds where it looks for a Ray.
    second = start(world, output, None if number == signal.SIGKILL else ray_address)
    assert second.wait(timeout=250) == 0
    assert texts(output) == undisturbed
