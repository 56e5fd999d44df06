"""The benchmark of the toy world from videos to its report, and what missing videos do to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sfray.cli.app import app as sfray
from sfray.cli.evaluation import app
from sfray.commands.evaluate import (
    asked_rows,
    demo_world_manifests,
    evaluation_job,
    report_on,
)
from sfray.config import StorageSpec
from sfray.runs.run import run_job

pytestmark = pytest.mark.usefixtures("local_ray")


NUM_VIDEOS = 4
NUM_DELETED = 3
SEED = 7


def _run(videos: Path, output: Path) -> dict[str, dict[str, Any]]:
    """The report's sections by scorer."""
    arguments = ["run", "demo-world", "--num-videos", str(NUM_VIDEOS), "--json"]
    arguments += ["--videos", str(videos), "--output", str(output), "--seed", str(SEED)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return {section["scorer"]: section for section in json.loads(done.stdout)}


def _run_choices(videos: Path, output: Path) -> dict[str, dict[str, Any]]:
    """The same for the questions with options only."""
    manifest = str(demo_world_manifests(videos, NUM_VIDEOS, SEED)["multiple_choice"])
    run_job(evaluation_job("demo-world", manifest, str(output), "demo", ["multiple_choice"]))
    (section,) = report_on([str(output)], StorageSpec())
    return {section.scorer: section.as_dict()}


def _accuracy(sections: dict[str, dict[str, Any]]) -> float:
    (line,) = sections["multiple_choice"]["lines"]
    return line["value"]


@pytest.mark.timeout(900)
def test_missing_videos_lower_coverage_and_score(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    whole = _run(videos, tmp_path / "whole")
    assert set(whole) == {"multiple_choice", "open_ended", "count"}
    assert {section["coverage"]["share"] for section in whole.values()} == {1.0}
    again = CliRunner().invoke(app, ["report", str(tmp_path / "whole"), "--format", "json"])
    assert json.loads(again.stdout) == list(whole.values())
    rows = asked_rows(str(tmp_path / "whole" / "multiple_choice"), StorageSpec())
    right = {row["video_id"]: 0 for row in rows}
    for row in rows:
        right[row["video_id"]] += row["choice"] == row["reference_answer"]
    assert _accuracy(whole) == pytest.approx(100 * sum(right.values()) / len(rows))

    deleted = sorted(videos.glob("*.mp4"))[:NUM_DELETED]
    for path in deleted:
        path.unlink()
    left = _run_choices(videos, tmp_path / "left")
    lost = {path.stem for path in deleted}
    num_answered = sum(row["video_id"] not in lost for row in rows)
    cover = left["multiple_choice"]["coverage"]
    assert (cover["num_asked"], cover["num_answered"]) == (len(rows), num_answered)
    assert (cover["num_videos"], cover["num_videos_missing"]) == (NUM_VIDEOS, NUM_DELETED)
    assert cover["failures"] == {"not_found": len(rows) - num_answered}
    still_right = sum(number for video, number in right.items() if video not in lost)
    assert _accuracy(left) == pytest.approx(100 * still_right / len(rows))


def test_the_demonstration_is_one_array_of_answers(tmp_path: Path) -> None:
    arguments = ["demo", "--output", str(tmp_path), "--num-videos", "1", "--json"]
    done = CliRunner().invoke(sfray, arguments, catch_exceptions=False)
    rows = json.loads(done.stdout)
    assert {row["task"] for row in rows} == {"caption", "qa", "multiple_choice"}
    assert all(row["answer"] and row["reference_answer"] for row in rows)
    assert "Scores" in done.stderr
