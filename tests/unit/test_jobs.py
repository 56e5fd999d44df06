"""Every job file that the project ships plans.

`sfray plan` runs on each with its own settings but for two addresses: the manifest is a small local
one with the columns that the job file names, and the output a local folder. What lies on S3 or on
the model hub is not looked at: whether buckets, weights and machines are there is not checked.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import JobSpec, load_job_spec
from sfray.model.checkpoints.find import find_checkpoint
from sfray.model.presets import resolve_sampling_and_pooling

JOBS = Path(__file__).parents[2] / "jobs"
SPECS = sorted((JOBS / "specs").rglob("*.yaml"))


def manifest_row(spec: JobSpec) -> dict[str, Any]:
    """A row as the job file says that its manifest has them."""
    row: dict[str, Any] = {"video_uri": "a.mp4"}
    if spec.task != "caption":
        row |= {"question_id": "q1", "question": "What is shown?"}
    if spec.task == "multiple_choice":
        row["options"] = ["a cat", "a dog"]
    named = {spec.manifest.columns.get(name, name): value for name, value in row.items()}
    return named | dict.fromkeys(spec.manifest.passthrough, "x")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_job_file_plans(path: Path, tmp_path: Path) -> None:
    spec = load_job_spec(path)
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist([manifest_row(spec)]), manifest)
    settings = [f"manifest.uri={manifest}", f"output.uri={tmp_path}/out"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = CliRunner().invoke(app, ["plan", str(path), *arguments], env={"COLUMNS": "160"})
    assert done.exception is None, done.exception
    assert "1 requests on 1 videos" in done.output
    assert "problem" not in done.output


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_frames_and_answer_of_a_shipped_job_file_fit_the_model(path: Path) -> None:
    spec = load_job_spec(path)
    profile = find_checkpoint(spec.model, spec.storage).profile
    num_frames, pooling = resolve_sampling_and_pooling(spec, profile)
    num_tokens = pooling.num_visual_tokens(num_frames, profile.patch_grid)
    assert num_tokens + spec.generation.max_new_tokens < profile.max_position_embeddings


def test_job_files_are_named_for_task_model_and_hardware() -> None:
    named = {path.stem for path in SPECS}
    assert {"caption_7b_1xa10g", "caption_34b_8xh100", "qa_7b_cpu_demo"} <= named


@pytest.mark.parametrize("name", ["caption", "question"])
def test_an_entry_point_for_a_task_needs_no_job_file(name: str, tmp_path: Path) -> None:
    """It comes as far as looking for the manifest that it is told."""
    settings = [f"manifest.uri={tmp_path}/none.parquet", f"output.uri={tmp_path}/out"]
    options = [part for setting in [*settings, "model.id=demo"] for part in ("--set", setting)]
    done = entry_point(name, *options)
    assert done.returncode == 2
    assert done.stderr == f"error: the manifest {tmp_path}/none.parquet does not exist\n"


def test_the_entry_point_for_scores_has_the_commands_of_eval() -> None:
    done = entry_point("score", "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("judge", "report", "compare", "submission"))


def entry_point(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, JOBS / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
