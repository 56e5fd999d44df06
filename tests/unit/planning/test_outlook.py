"""What a run refuses before it starts, a plan refuses too, in the same words; it writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import JobSpec
from sfray.errors import RunError
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.planning.outlook import outlook
from sfray.results.log import ResultsLog
from sfray.runs.run import run_job
from tests.unit.planning.test_plan import job

# Room for a prompt in a copy of the demonstration model, which has no preset of its own.
SMALL = {"sampling": {"num_frames": 2}, "generation": {"max_new_tokens": 8}}


def begun(spec: JobSpec, columns: tuple[str, ...] = ()) -> Path:
    """The output of a job with these passthrough columns."""
    ResultsLog.open(
        spec.output.uri,
        spec.storage,
        passthrough=pa.schema([(name, pa.string()) for name in columns]),
        run_id="r",
        flush_rows=10,
        flush_seconds=30,
    ).close()
    return Path(spec.output.uri)


def other_passthrough(folder: Path) -> dict[str, Any]:
    begun(job(folder), ("source",))
    return {}


def foreign_part(folder: Path) -> dict[str, Any]:
    out = begun(job(folder))
    pq.write_table(pa.table({"x": [1]}), out / "answers" / "part-00000001.parquet")
    return {}


def foreign_folder(folder: Path) -> dict[str, Any]:
    (folder / "out" / "failures").mkdir(parents=True)
    pq.write_table(pa.table({"request_id": [1]}), folder / "out/failures/part-00000000.parquet")
    return {}


def newer_format(folder: Path) -> dict[str, Any]:
    (begun(job(folder)) / "_sfray" / "format.json").write_text('{"format": 99}')
    return {}


def whole_job(folder: Path) -> dict[str, Any]:
    return {"output": {"uri": str(begun(job(folder))), "partition": "0/2"}}


def damaged_partitioning(folder: Path) -> dict[str, Any]:
    (begun(job(folder)) / "_sfray" / "partitioning.json").write_text("{")
    return {}


def below_a_file(folder: Path) -> dict[str, Any]:
    (folder / "file").touch()
    return {"output": {"uri": str(folder / "file" / "a" / "b")}}


def no_tokenizer(folder: Path) -> dict[str, Any]:
    shutil.copytree(demo_folder(), folder / "model")
    (folder / "model" / "tokenizer.json").unlink()
    return SMALL | {"model": {"id": str(folder / "model")}}


def cut_weights(folder: Path) -> dict[str, Any]:
    shutil.copytree(demo_folder(), folder / "model")
    with (folder / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    return SMALL | {"model": {"id": str(folder / "model")}}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (other_passthrough, "has the column 'source', this job not"),
        (foreign_part, r"answers/part-00000001\.parquet is no part of sfray's results"),
        (foreign_folder, r"failures/part-00000000\.parquet is no part of sfray's results"),
        (newer_format, "has the format 99"),
        (whole_job, "was begun as a job in one piece"),
        (damaged_partitioning, r"partitioning\.json is damaged"),
        (below_a_file, "a part of its path is a file|a file is where a folder"),
        (no_tokenizer, r"holds no tokenizer\.json"),
        (cut_weights, "no whole file in the safetensors format"),
    ],
)
def test_a_plan_refuses_what_a_run_refuses(
    tmp_path: Path, prepare: Callable[[Path], dict[str, Any]], words: str
) -> None:
    spec = job(tmp_path, **prepare(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(RunError, match=words) as planned:
        outlook(spec)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(type(planned.value), match=words):
        run_job(spec)


def test_an_output_in_a_folder_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may all
    with pytest.raises(RunError, match="can't be written: permission denied"):
        outlook(job(tmp_path))


def test_a_plan_of_a_good_job_writes_nothing(tmp_path: Path) -> None:
    spec = job(tmp_path, output={"uri": str(tmp_path / "new" / "out")})
    assert outlook(spec).to_do.num_open == 1
    assert not (tmp_path / "new").exists()
