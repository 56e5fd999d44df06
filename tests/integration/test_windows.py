"""Jobs that cut clips into windows, on a real local Ray: found, logged, answered, each once."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.commands.forecast import forecast
from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.planning.outlook import outlook
from sfray.records import ClipWindows, RequestFailure, WorkItem
from sfray.results.compact import compact
from sfray.results.read import current_state, read_answers
from sfray.results.verify import verify
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from tests.integration.fake_stages import Script
from tests.resources.scenes import FPS, write_scenes

pytestmark = pytest.mark.usefixtures("local_ray")


def job(
    folder: Path, windows: dict[str, Any], rows: list[dict[str, Any]], **changes: Any
) -> JobSpec:
    manifest = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    base: dict[str, Any] = {
        "manifest": {"uri": str(manifest)},
        "task": "caption",
        "prompts": [
            {"prompt_id": "what", "text": "what is there"},
            {"prompt_id": "who", "text": "who is there"},
        ],
        "model": {"id": "demo"},
        "sampling": {"windows": windows},
        "limits": {"max_failure_ratio": 1.0},
        "output": {"uri": str(folder / "out")},
    }
    return parse_job_spec(base | changes)


def asked(spec: JobSpec) -> list[tuple[str, float | None, float | None, str]]:
    """What has an outcome now, and which."""
    state = current_state(spec.output.uri, StorageSpec()).to_pylist()
    return sorted(
        (r["video_id"], r["start_seconds"], r["end_seconds"], r["code"] or r["prompt_id"])
        for r in state
    )


def failed_ids(spec: JobSpec) -> pa.ChunkedArray:
    state = current_state(spec.output.uri, StorageSpec(), ["request_id", "code"])
    return state.filter(pc.is_valid(state["code"]))["request_id"]


def complete(spec: JobSpec) -> bool:
    return not verify(spec.output.uri, StorageSpec()).problems


@pytest.mark.parametrize(
    ("windows", "bounds"),
    [
        ({"seconds": 6, "overlap_seconds": 1}, [(0, 6), (5, 11), (10, 13)]),
        ({"scenes": True}, [(0, 4), (4, 10), (10, 13)]),
        ({"scenes": True, "min_seconds": 5}, [(0, 13)]),
    ],
    ids=["seconds", "scenes", "long-scenes"],
)
def test_a_real_video_is_answered_window_by_window(
    tmp_path: Path, windows: dict[str, Any], bounds: list[tuple[float, float]]
) -> None:
    """Through the whole product, with the demonstration model."""
    video = write_scenes(tmp_path / "v.mp4", (4.0, 6.0, 3.0))
    spec = job(tmp_path, windows, [{"video_uri": str(video), "video_id": "v"}])
    summary = run_job(spec)
    assert asked(spec) == sorted(("v", *window, p) for window in bounds for p in ("what", "who"))
    assert (summary.num_answers, summary.exit_code) == (2 * len(bounds), 0)
    assert complete(spec)
    for row in read_answers(spec.output.uri, StorageSpec()).to_table().to_pylist():
        # The first frame of a window may have come up before it.
        assert row["frame_pts_seconds"][0] >= row["start_seconds"] - 1 / FPS
        assert row["frame_pts_seconds"][-1] < row["end_seconds"]


@dataclass(frozen=True)
class FakeWindows:
    """Windows of ten seconds, three a clip; what goes wrong is by video id.

    `folder` is where it leaves notes; `transient` and `broken` fail, the one for a while.
    """

    folder: Path
    transient: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()

    def __call__(self, item: WorkItem) -> ClipWindows | RequestFailure:
        with (self.folder / "found").open("a") as notes:
            notes.write(f"{item.video_id}\n")
        if item.video_id in self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        for code, videos in (("fetch_failed", self.transient), ("not_a_video", self.broken)):
            if item.video_id in videos:
                return RequestFailure(code=code, message="a test")
        begin = item.start_seconds or 0.0
        return tuple((begin + 10 * n, begin + 10 * n + 10) for n in range(3))

    def notes(self) -> list[str]:
        """The videos that were looked at since the last call, in order of name."""
        path = self.folder / "found"
        seen = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return seen


def run(spec: JobSpec, windows: FakeWindows, **arguments: Any) -> RunSummary:
    stages = Script(folder=windows.folder).stages()
    return run_job(spec, stages=replace(stages, make_find_windows=lambda: windows), **arguments)


def rows(*video_ids: str) -> list[dict[str, Any]]:
    return [{"video_uri": f"/{video_id}.mp4", "video_id": video_id} for video_id in video_ids]


def all_windows(video_id: str) -> list[tuple[str, float, float, str]]:
    return [(video_id, 10 * n, 10 * n + 10, p) for n in range(3) for p in ("what", "who")]


TENS = {"seconds": 10}


def test_what_can_not_be_cut_fails_and_is_cut_later(tmp_path: Path) -> None:
    """A failure stands for all windows of its clip, and is gone once there are some."""
    spec = job(tmp_path, TENS, rows("a", "b", "c"))
    fake = FakeWindows(tmp_path, transient=("b",), broken=("c",))
    summary = run(spec, fake)
    assert fake.notes() == ["a", "b", "c"]
    failed = [("b", None, None, "fetch_failed")] * 2 + [("c", None, None, "not_a_video")] * 2
    assert asked(spec) == all_windows("a") + failed
    assert (summary.num_requests, summary.num_answers, summary.num_failures) == (10, 6, 4)
    assert complete(spec)
    # Only what can pass by itself is tried again.
    fake = FakeWindows(tmp_path, broken=("c",))
    run(spec, fake)
    assert fake.notes() == ["b"]
    assert asked(spec) == all_windows("a") + all_windows("b") + failed[2:]
    # All on demand.
    run(spec, FakeWindows(tmp_path), retry=failed_ids(spec))
    assert asked(spec) == all_windows("a") + all_windows("b") + all_windows("c")
    assert complete(spec)


def test_what_failed_for_good_is_cut_once_another_prompt_finds_windows(tmp_path: Path) -> None:
    """The file was repaired meanwhile."""
    first = {"prompt_id": "what", "text": "what is there"}
    run(job(tmp_path, TENS, rows("a"), prompts=[first]), FakeWindows(tmp_path, broken=("a",)))
    spec = job(tmp_path, TENS, rows("a"))
    assert asked(spec) == [("a", None, None, "not_a_video")]
    run(spec, FakeWindows(tmp_path))
    assert asked(spec) == all_windows("a")
    assert complete(spec)


def test_windows_are_found_once(tmp_path: Path) -> None:
    """Not by a later night, another prompt or model, nor after a copy."""
    spec = job(tmp_path, TENS, rows("a", "b"))
    fake = FakeWindows(tmp_path)
    run(spec, fake)
    assert fake.notes() == ["a", "b"]
    spec = job(tmp_path, TENS, rows("a", "b", "c"))
    run(spec, fake)
    assert fake.notes() == ["c"]
    warmer = job(tmp_path, TENS, rows("a", "b", "c"), generation={"temperature": 0.5})
    assert run(warmer, fake).num_answers == 18
    assert fake.notes() == []
    compact(spec.output.uri, str(tmp_path / "copy"), StorageSpec())
    moved = job(tmp_path, TENS, rows("a", "b", "c"), output={"uri": str(tmp_path / "copy")})
    assert run(moved, fake).num_answers == 0
    other = job(tmp_path, {"seconds": 10, "overlap_seconds": 1}, rows("a"))
    run(other, fake)
    assert fake.notes() == ["a"]


def test_clips_of_the_manifest_are_cut_each(tmp_path: Path) -> None:
    clips = [row | {"start_seconds": start} for row in rows("a") for start in (5.0, 100.0)]
    spec = job(tmp_path, TENS, clips)
    run(spec, FakeWindows(tmp_path))
    starts = sorted({start for _, start, _, _ in asked(spec)})
    assert starts == [5, 15, 25, 100, 110, 120]


def test_a_search_that_kills_its_worker_costs_its_own_video(tmp_path: Path) -> None:
    spec = job(tmp_path, TENS, rows("a", "b"))
    run(spec, FakeWindows(tmp_path, kill=("b",)))
    assert asked(spec) == all_windows("a") + [("b", None, None, "worker_lost")] * 2
    assert complete(spec)
    # Tried anew on demand, however often it was tried before.
    ids = failed_ids(spec)
    for fake in (FakeWindows(tmp_path, kill=("b",)), FakeWindows(tmp_path)):
        fake.notes()
        run(spec, fake, retry=ids)
        assert set(fake.notes()) == {"b"}
    assert asked(spec) == all_windows("a") + all_windows("b")


def test_a_plan_counts_known_windows_and_proofs_know_them(tmp_path: Path) -> None:
    spec = job(tmp_path, TENS, rows("a", "b"))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    seen = outlook(spec)
    assert (seen.num_uncut, seen.to_do.requests.num_rows) == (2, 4)
    with pytest.raises(SpecError, match="windows of 2 clips are not known"):
        forecast(seen, 1, 0, (None, None), None, None)
    run(spec, FakeWindows(tmp_path), limit=2)
    assert outlook(spec, limit=2).to_do.requests.num_rows == 0
    seen = outlook(spec)
    assert (seen.num_uncut, seen.to_do.num_answered, seen.to_do.requests.num_rows) == (1, 2, 6)
    proof = ["verify", spec.output.uri, "--spec", str(path)]
    told = CliRunner().invoke(app, proof)
    assert "6 requests of the manifest have no outcome yet" in told.output
    run(spec, FakeWindows(tmp_path))
    assert CliRunner().invoke(app, proof).exit_code == 0
    shown = CliRunner().invoke(app, ["plan", str(path)])
    assert "all windows are found" in shown.output
