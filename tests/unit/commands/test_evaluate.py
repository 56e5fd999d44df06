"""What an evaluation asks and reads back, without Ray."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sfray.cli.evaluation import app
from sfray.columns import outcomes_schema
from sfray.commands.evaluate import (
    ablation_jobs,
    asked_rows,
    demo_world_manifests,
    evaluation_job,
    found_again,
    manifest_scorers,
    report_on,
)
from sfray.config import JobSpec, StorageSpec
from sfray.demo.questions import questions
from sfray.demo.world import make_scene
from sfray.errors import ManifestError, RunError, SpecError
from sfray.planning.plan import make_plan
from sfray.results.log import ResultsLog
from tests.unit.commands.outputs import PASSTHROUGH, outcome, write_output

ABLATIONS = Path(__file__).parents[3] / "jobs" / "specs" / "ablations"


def test_what_was_asked_and_never_came_back_is_unfinished(tmp_path: Path) -> None:
    failed = outcome(
        1,
        text=None,
        finish_reason=None,
        stage="fetch",
        code="not_found",
        message="no such file",
        transient=False,
    )
    write_output(tmp_path, [outcome(0), failed], asked=[0, 1, 2])
    rows = {row["request_id"]: row for row in asked_rows(str(tmp_path), StorageSpec())}
    assert {i: row["code"] for i, row in rows.items()} == {
        "r0": None,
        "r1": "not_found",
        "r2": "unfinished",
    }
    (section,) = report_on([str(tmp_path)], StorageSpec())
    exact = next(line for line in section.lines if line.metric == "exact_match")
    assert exact.value == pytest.approx(100 / 3)
    assert section.coverage.failures == {"not_found": 1, "unfinished": 1}


def test_the_report_and_comparison_commands(tmp_path: Path) -> None:
    write_output(tmp_path / "a", [outcome(0)], asked=[0])
    write_output(tmp_path / "b", [outcome(0, text="cat", fingerprint="g")], asked=[0])
    runner = CliRunner()
    for chosen in ("markdown", "json", "csv"):
        done = runner.invoke(app, ["report", str(tmp_path / "a"), "--format", chosen])
        assert done.exit_code == 0, done.output
        assert "MSVD-QA" in done.output or "msvd-qa" in done.output
    done = runner.invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert json.loads(done.output)[0]["difference"] == -100.0


def test_the_convert_command_accounts_for_rows_and_videos(tmp_path: Path) -> None:
    questions = tmp_path / "q.csv"
    questions.write_text('video_name,question,answer,question_id\nv_a,"\n12,q?",x,1\nv_b,q?,x,2\n')
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    (videos / "deep" / "v_a.mp4").touch()
    target = tmp_path / "new" / "m.parquet"
    command = ["convert", "activitynet-qa", str(questions), "--output", str(target)]
    done = CliRunner().invoke(app, [*command, "--videos", str(videos)])
    assert done.exit_code == 0, done.output
    for line in (
        "rows read: 2",
        "rows kept: 2",
        "identical rows collapsed: 0",
        "  a row number inside the text removed: 1 (q.csv:1)",
        "videos found: 1",
        "videos missing: 1 (v_b)",
    ):
        assert line in done.output
    uris = pq.read_table(target)["video_uri"].to_pylist()
    assert uris == [f"{videos}/deep/v_a.mp4", f"{videos}/v_b.mp4"]
    account = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert account["videos_missing"] is None


def test_a_job_for_a_converted_manifest(tmp_path: Path) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(pa.table({"scorer": ["multiple_choice", "multiple_choice"]}), path)
    job = evaluation_job("next-qa", path, "out", "demo", manifest_scorers(path))
    assert job.task == "multiple_choice"
    assert set(PASSTHROUGH.names) == set(job.manifest.passthrough)
    assert job.limits.max_failure_ratio == 1.0
    overridden = ("generation.max_new_tokens=3", "videos.root=/v")
    job = evaluation_job("msvd-qa", path, "out", "demo", ["open_ended", "count"], overridden)
    assert (job.task, job.generation.max_new_tokens, job.videos.root) == ("qa", 3, "/v")
    with pytest.raises(ManifestError, match="mixes"):
        evaluation_job("tgif-qa", path, "out", "demo", ["multiple_choice", "count"])
    pq.write_table(pa.table({"video_uri": ["v"]}), path)
    with pytest.raises(ManifestError, match="sfray eval convert"):
        manifest_scorers(path)


def test_the_toy_worlds_videos_are_made_once(tmp_path: Path) -> None:
    manifests = demo_world_manifests(tmp_path, 2, 5)
    videos = sorted(tmp_path.glob("*.mp4"))
    assert len(videos) == 2
    videos[0].unlink()
    assert demo_world_manifests(tmp_path, 2, 5) == manifests
    assert len(list(tmp_path.glob("*.mp4"))) == 1
    scorers = Counter(pq.read_table(manifests["qa"])["scorer"].to_pylist())
    assert scorers["count"] == 4
    facts = [q for seed in (5, 6) for q in questions(make_scene(seed), seed=0) if not q.options]
    assert scorers.total() == len(facts)
    assert scorers["open_ended"] == len(facts) - 4
    assert manifest_scorers(str(manifests["multiple_choice"])) == ["multiple_choice"]


def test_each_ablation_has_an_output_of_its_own(tmp_path: Path) -> None:
    manifest = str(tmp_path / "m.parquet")
    folders = [folder for folder in ABLATIONS.iterdir() if folder.is_dir()]
    assert len(folders) == 8
    for folder in folders:
        jobs = ablation_jobs(folder, manifest, "s3://b/out", ("model.id=demo",))
        assert len({job.output.uri for job in jobs}) == len(jobs) > 1
        assert {job.manifest.uri for job in jobs} == {manifest}
        assert {job.model.id for job in jobs} == {"demo"}
    with pytest.raises(ManifestError, match="holds no job files"):
        ablation_jobs(ABLATIONS, "m.parquet", "out", ())


def test_the_prompt_ablations_leave_parts_of_the_default_prompts_out() -> None:
    built_in = resources.files("sfray.prompts") / "templates"
    for folder, name in (("prompts_choice", "multiple_choice"), ("prompts_open", "qa")):
        whole = (ABLATIONS / folder / "all_parts.txt").read_text()
        assert whole == (built_in / f"vicuna_v1.{name}.txt").read_text()
        for part in ("no_task", "no_input", "no_answer"):
            assert 0 < len((ABLATIONS / folder / f"{part}.txt").read_text()) < len(whole)


def benchmark(folder: Path, *videos: str) -> Path:
    """A converted manifest of questions on videos, of which none is there."""
    lines = [f"{name},q?,x,{number}" for number, name in enumerate(videos)]
    questions = folder / "q.csv"
    questions.write_text("video_name,question,answer,question_id\n" + "\n".join(lines))
    target = folder / "m.parquet"
    (folder / "videos").mkdir(exist_ok=True)
    (folder / "videos" / "another.mp4").touch()
    words = ["convert", "activitynet-qa", str(questions), "--output", str(target)]
    done = CliRunner().invoke(app, [*words, "--videos", str(folder / "videos")])
    assert done.exit_code == 0, done.output
    return target


def log_outcomes(job: JobSpec, answered: bool) -> list[str]:
    """Answers, or failures of videos that are not there, to all that a job asks."""
    plan = make_plan(job)
    requests = plan.requests.table
    values: dict[str, object] = {"run_id": "r", "attempts": 1, "model_id": "m"}
    values |= (
        {"text": "x", "finish_reason": "stop"}
        if answered
        else {"stage": "fetch", "code": "not_found", "message": "no", "transient": False}
    )
    rows = [row | values for row in requests.to_pylist()]
    schema = outcomes_schema(plan.requests.passthrough)
    with ResultsLog.open(
        job.output.uri,
        job.storage,
        passthrough=plan.requests.passthrough,
        run_id=plan.run.run_id,
        flush_rows=10,
        flush_seconds=30,
    ) as log:
        log.append(pa.Table.from_pylist(rows, schema=schema))
    return [row["request_id"] for row in rows]


def test_only_videos_that_came_back_are_asked_for_again(tmp_path: Path) -> None:
    manifest = str(benchmark(tmp_path, "a", "b"))
    job = evaluation_job("activitynet-qa", manifest, str(tmp_path / "out"), "demo", ["open_ended"])
    assert found_again(job) is None
    first, _ = log_outcomes(job, answered=False)
    again = found_again(job)
    assert again is not None and again.to_pylist() == []
    (tmp_path / "videos" / "deep").mkdir()
    (tmp_path / "videos" / "deep" / "v_a.mp4").touch()
    benchmark(tmp_path, "a", "b")
    again = found_again(job)
    assert again is not None and again.to_pylist() == [first]


def run_without_ray(monkeypatch: pytest.MonkeyPatch, *, answered: bool) -> list[object]:
    """Has `eval run` answer all questions, or none; returns what it was to retry."""
    retried: list[object] = []

    def run_job(job: JobSpec, retry: object = None, **_: object) -> SimpleNamespace:
        retried.append(retry)
        number = len(log_outcomes(job, answered))
        return SimpleNamespace(
            num_answered=number if answered else 0,
            exit_code=0,
            stopped_by=None,
            print_to=lambda console: None,
        )

    monkeypatch.setattr("sfray.runs.run.run_job", run_job)
    monkeypatch.setattr("sfray.pipeline.cluster.connected", lambda address: nullcontext())
    return retried


def test_no_answer_at_all_is_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run", "activitynet-qa", "--manifest", str(benchmark(tmp_path, "a", "b"))]
    words += ["--model", "demo", "--output", str(tmp_path / "out")]
    run_without_ray(monkeypatch, answered=False)
    done = CliRunner().invoke(app, words)
    assert "no question of" in str(done.exception) and "2 not_found" in str(done.exception)
    assert isinstance(done.exception, RunError) and done.exception.exit_code != 0
    assert "0.00" not in done.output
    (tmp_path / "videos" / "v_b.mp4").touch()
    retried = run_without_ray(monkeypatch, answered=True)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert "ActivityNet-QA" in done.output
    assert isinstance(retried[0], pa.ChunkedArray) and len(retried[0]) == 1


def test_a_real_benchmark_wants_a_model(tmp_path: Path) -> None:
    words = ["run", "activitynet-qa", "--manifest", str(benchmark(tmp_path, "a"))]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SpecError) and "--model is missing" in str(done.exception)


@pytest.mark.parametrize("extra", [[], ["--base-url", "https://api.openai.com/v1/"]])
def test_openais_own_endpoint_wants_a_key_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_output(tmp_path, [outcome(0)], asked=[0])
    done = CliRunner().invoke(app, ["judge", str(tmp_path), "--model", "gpt-4o-mini", *extra])
    assert isinstance(done.exception, SpecError) and "OPENAI_API_KEY" in str(done.exception)
