"""The package's public names, as programs use them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import sfray
from sfray.commands import retry as retrying
from sfray.errors import SpecError, StorageError

ROOT = Path(__file__).parents[2]


def write_job(folder: Path, questions: list[str]) -> Path:
    rows = [
        {"video_uri": f"v{n}.mp4", "question_id": "q", "question": text}
        for n, text in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    path = folder / "job.yaml"
    path.write_text(
        f"manifest: {{uri: {folder}/manifest.parquet}}\ntask: qa\nmodel: {{id: demo}}\n"
        f"limits: {{max_failure_ratio: 1.0}}\noutput: {{uri: {folder}/out}}\n"
    )
    return path


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path, ["What?", "Why?", "Who?"])


@pytest.fixture
def unanswerable(tmp_path: Path) -> Path:
    """A job that is done without Ray: its rows are failures as they are."""
    return write_job(tmp_path, [" ", ""])


def test_the_public_names_are_shown_and_each_has_its_words() -> None:
    assert dir(sfray) == sorted(dir(sfray)) == sfray.__all__
    assert {"plan", "run", "retry", "verify", "__version__"} <= set(dir(sfray))
    for name in dir(sfray):
        assert name == "__version__" or inspect.getdoc(getattr(sfray, name))
    with pytest.raises(AttributeError, match="'sfray' has no attribute 'plam'"):
        _ = sfray.plam  # type: ignore[attr-defined]


def test_importing_is_quick_and_planning_needs_neither_ray_nor_torch(job: Path) -> None:
    code = (
        "import sys, sfray\n"
        "mine = {name for name in sys.modules if name.startswith('sfray')}\n"
        "assert mine == {'sfray'}, mine\n"
        "sfray.run, sfray.retry, sfray.verify\n"
        f"assert sfray.plan({str(job)!r}).to_do.requests.num_rows == 3\n"
        "heavy = {'ray', 'torch', 'transformers', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr


def test_types_are_told_and_the_version_stands_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert Path(sfray.__file__).with_name("py.typed").exists()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["sfray"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sfray.__version__"}


def test_the_licence_is_whole_and_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (name,) = project["license-files"]
    text = (ROOT / name).read_text()
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert not any("://" in str(value) for value in project.values())


def test_plan(job: Path) -> None:
    shown = Console(record=True, width=200)
    sfray.plan(job).print_to(shown)
    assert "3 requests on 3 videos" in shown.export_text()
    assert sfray.plan(sfray.load_job_spec(job), limit=2).to_do.requests.num_rows == 2
    for spec in (str(job), sfray.load_job_spec(job)):
        shards = [sfray.plan(spec, partition=f"{n}/2").to_do.requests.num_rows for n in (0, 1)]
        assert sum(shards) == 3
    changed = sfray.plan(sfray.load_job_spec(job), set=["sampling.num_frames=5", "name=other"])
    spec = changed.to_do.plan.spec
    assert (spec.sampling.num_frames, spec.name, spec.task) == (5, "other", "qa")
    same = sfray.plan(sfray.load_job_spec(job), set=["name=other"]).to_do.plan.run
    assert same.fingerprint == sfray.plan(job).to_do.plan.run.fingerprint
    with pytest.raises(SpecError, match="'fast'"):
        sfray.plan(job, set=["sampling.seek=fast"])
    with pytest.raises(TypeError, match=r"set is 'name=x', but should be a list: \['name=x'\]"):
        sfray.plan(job, set="name=x")
    assert not (job.parent / "out").exists()


def test_run(unanswerable: Path) -> None:
    summary = sfray.run(unanswerable, set=["name=other"], console=Console(quiet=True))
    assert isinstance(summary, sfray.RunSummary)
    assert (summary.num_answers, summary.failures_by_code) == (0, {"invalid_row": 2})
    assert (unanswerable.parent / "out" / "_sfray" / "runs").is_dir()
    shard = sfray.run(
        sfray.load_job_spec(unanswerable, (f"output.uri={unanswerable.parent}/two",)),
        partition="0/1",
        limit=1,
        console=Console(quiet=True),
    )
    assert shard.num_requests <= 1
    assert (unanswerable.parent / "two" / "partition-00000-of-00001").is_dir()


def test_verify(unanswerable: Path) -> None:
    out = unanswerable.parent / "out"
    with pytest.raises(StorageError):
        sfray.verify(out)
    sfray.run(unanswerable, console=Console(quiet=True))
    report = sfray.verify(out)
    assert report.ok and (report.num_answered, report.num_failed) == (0, 2)
    assert sfray.verify(str(out), spec=unanswerable).ok
    more = sfray.load_job_spec(write_job(unanswerable.parent, [" ", "", "What?"]))
    assert (
        "requests of the manifest have no outcome yet" in sfray.verify(out, spec=more).problems[0]
    )
    assert sfray.verify(out, storage=sfray.StorageSpec(region="eu-west-1")).ok


def test_retry(unanswerable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = unanswerable.parent / "out"
    sfray.run(unanswerable, console=Console(quiet=True))
    with pytest.raises(SpecError, match="holds no job file"):  # nothing was asked
        sfray.retry(out)
    (run,) = (out / "_sfray" / "runs").iterdir()
    (run / "spec.yaml").write_text(unanswerable.read_text())
    assert sfray.retry(out, code=["not_found"], transient=True).num_answers == 0
    with pytest.raises(SpecError, match="no_such_code"):
        sfray.retry(out, code=["no_such_code"])
    with pytest.raises(TypeError, match="code is 'not_found', but should be a list"):
        sfray.retry(out, code="not_found")
    asked: list[object] = []
    monkeypatch.setattr(retrying, "retry_output", lambda *arguments: asked.extend(arguments))
    sfray.retry(out, code=["not_found"], address="ray://head")
    assert asked == [str(out), sfray.StorageSpec(), ("not_found",), False, "ray://head", None]
