"""Where the relative paths of a job file lead."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.errors import RunError
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.planning.job_file import load_job
from sfray.planning.plan import make_plan
from tests.unit.planning.test_outlook import SMALL


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, beside the folder `job` with the job file and all that it names."""
    monkeypatch.setattr(logging.getLogger("sfray"), "propagate", True)
    folder = tmp_path / "job"
    (folder / "videos").mkdir(parents=True)
    rows = [{"video_uri": "v.mp4", "question_id": "q", "question": "What?"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "m.parquet")
    (folder / "t.txt").write_text("<image>Q: {question} A:\n")
    shutil.copytree(demo_folder(), folder / "weights")
    (folder / "job.yaml").write_text(
        "manifest:\n  uri: m.parquet\nvideos:\n  root: videos\ntask: qa\ntemplate: t.txt\n"
        "model:\n  id: weights\noutput:\n  uri: out\n"
        f"sampling: {SMALL['sampling']}\ngeneration: {SMALL['generation']}\n".replace("'", "")
    )
    working = tmp_path / "here"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


def test_what_is_only_beside_the_job_file_is_taken_from_there_and_told_once(
    here: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, logger="sfray"):
        away = load_job("../job/job.yaml")
    (line,) = caplog.messages
    assert f"the job file's folder {here}/../job: " in line
    for told in ("manifest.uri m.parquet", "videos.root videos", "template t.txt", "model.id weig"):
        assert told in line
    assert away.output.uri == "out", "the output stays where it was"
    away_plan = make_plan(away)
    monkeypatch.chdir(here.parent / "job")
    caplog.clear()
    at_home = load_job("job.yaml")
    assert not caplog.messages
    home_plan = make_plan(at_home)
    assert home_plan.requests.table.drop("fetch_uri") == away_plan.requests.table.drop("fetch_uri")


def test_the_working_directory_comes_first(here: Path) -> None:
    (here / "videos").mkdir()
    shutil.copy(here.parent / "job" / "m.parquet", here)
    spec = load_job("../job/job.yaml")
    assert (spec.manifest.uri, spec.videos.root) == ("m.parquet", "videos")


def test_names_are_no_paths(here: Path) -> None:
    folder = here.parent / "job"
    (folder / "demo").mkdir()
    (folder / "default").touch()
    (folder / "llava-hf" / "llava-v1.6-vicuna-7b-hf").mkdir(parents=True)
    for name in ("demo", "llava-hf/llava-v1.6-vicuna-7b-hf"):
        spec = load_job("../job/job.yaml", ("template=default", f"model.id={name}"))
        assert (spec.template, spec.model.id) == ("default", name)


@pytest.mark.parametrize(
    ("override", "more"),
    [
        ("manifest.uri=gone", ""),
        ("manifest.uri='gone*.csv'", ""),
        ("template=gone", "none of: default, "),
        ("model.id=gone", "none of: demo, "),
    ],
)
def test_an_error_says_where_it_looked(here: Path, override: str, more: str) -> None:
    with pytest.raises(RunError) as caught:
        load_job("../job/job.yaml", (override,))
    message = str(caught.value)
    assert f"{here}/gone" in message and f"{here}/../job/gone" in message and more in message


def test_a_folder_of_videos_may_be_where_only_the_cluster_sees_it(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_job("../job/job.yaml", ("videos.root=gone",)).videos.root == "gone"
    assert f"videos.root 'gone' does not exist, looked for at {here}/gone" in caplog.text
