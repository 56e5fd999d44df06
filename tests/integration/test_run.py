"""The driver on a real local Ray, with stages that need no pixels."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import CheckpointError, OutputInUseError, TooManyErrorsError
from sfray.pipeline.cluster import cluster_share
from sfray.pipeline.ray_data import EndOfStream, StageStream, answering
from sfray.planning.outlook import outlook
from sfray.planning.plan import make_plan
from sfray.planning.work_items import work_item_blocks
from sfray.results.log import ResultsLog
from sfray.results.read import current_state, read_progress
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from sfray.telemetry.logs import LogFormat, configure_logs
from sfray.telemetry.stage_load import StageLoad
from tests.integration.fake_stages import Script
from tests.unit.results.outcomes import PASSTHROUGH, outcomes
from tests.waiting import wait_for_parts

pytestmark = pytest.mark.usefixtures("local_ray")


def write_manifest(path: Path, num_videos: int, num_questions: int = 2) -> Path:
    rows = [
        {
            "video_uri": f"v{video}.mp4",
            "question_id": f"q{number}",
            "question": f"what {number}",
            "answer": "x",
            "source": f"s{video}",
        }
        for number in range(num_questions)
        for video in range(num_videos)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def job(folder: Path, num_videos: int = 12, **changes: Any) -> JobSpec:
    manifest = write_manifest(folder / "manifest.parquet", num_videos)
    base: dict[str, Any] = {
        "manifest": {"uri": str(manifest), "passthrough": ["source"]},
        "task": "qa",
        "model": {"id": "demo"},
        "output": {"uri": str(folder / "out"), "flush_rows": 5},
        "limits": {"max_failure_ratio": 0.5},
    }
    return parse_job_spec(base | changes)


def run(spec: JobSpec, script: Script) -> RunSummary:
    return run_job(spec, stages=script.stages())


def states(spec: JobSpec) -> dict[tuple[str, str], str]:
    """text or code by (video_id, prompt_id); fails on a request that is there twice."""
    rows = current_state(spec.output.uri, StorageSpec()).to_pylist()
    found = {(r["video_id"], r["prompt_id"]): r["text"] or r["code"] for r in rows}
    assert len(found) == len(rows)
    return found


def v(number: int) -> str:
    return f"v{number}.mp4"


def test_every_request_becomes_an_answer_or_a_failure(tmp_path: Path) -> None:
    spec = job(tmp_path, videos={"root": "https://me:s3cret@host/videos/"})
    summary = run(spec, Script(folder=tmp_path, missing=(v(3),)))
    assert (summary.num_answers, summary.num_failures, summary.exit_code) == (22, 2, 0)
    assert summary.failures_by_code == {"not_found": 2}
    found = states(spec)
    assert len(found) == 24
    assert found[v(0), "q1"] == "WHAT 1" and found[v(3), "q0"] == "not_found"
    answers = duckdb.sql(  # the folder is the test's own
        f"select source, count(*) from '{tmp_path}/out/answers/*.parquet' group by 1"
    )
    assert sorted(answers.fetchall())[:2] == [("s0", 2), ("s1", 2)]
    run_folder = tmp_path / "out" / "_sfray" / "runs" / summary.run_id
    assert pq.read_table(run_folder / "requests.parquet").num_rows == 24
    assert "root: https://host/videos/\n" in (run_folder / "spec.yaml").read_text()
    assert {"spec.yaml", "requests.parquet", "summary.json"} <= {
        p.name for p in run_folder.iterdir()
    }


def test_a_second_run_does_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=4)
    run(spec, Script(folder=tmp_path))
    again = run(spec, Script(folder=tmp_path, broken_model=True))
    assert (again.num_answers, again.num_failures, again.num_done_before) == (0, 0, 8)
    grown = job(tmp_path, num_videos=6)
    third = run(grown, Script(folder=tmp_path))
    assert (third.num_requests, third.num_done_before, third.num_answers) == (12, 8, 4)
    assert set(states(grown).values()) == {"WHAT 0", "WHAT 1"}


def test_transient_failures_are_tried_again_and_permanent_ones_are_not(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=4)
    first = run(spec, Script(folder=tmp_path, missing=(v(0),), broken_model=True))
    assert first.failures_by_code == {"not_found": 2, "engine_error": 6}
    assert first.exit_code == 3
    second = run(spec, Script(folder=tmp_path))
    assert (second.num_done_before, second.num_answers, second.exit_code) == (2, 6, 0)


def test_a_limit_runs_the_first_requests_only(tmp_path: Path) -> None:
    spec = job(tmp_path)
    summary = run_job(spec, limit=3, stages=Script(folder=tmp_path).stages())
    assert (summary.num_requests, summary.num_answers) == (3, 3)
    assert run_job(spec, limit=3, stages=Script(folder=tmp_path).stages()).num_answers == 0


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    spec = job(tmp_path)
    summary = run(spec, Script(folder=tmp_path, kill_once=(v(5),)))
    assert (summary.num_answers, summary.num_failures, summary.exit_code) == (24, 0, 0)
    assert len(states(spec)) == 24


def test_a_poison_video_costs_itself_only_and_is_not_tried_for_ever(tmp_path: Path) -> None:
    spec = job(tmp_path)
    script = Script(folder=tmp_path, kill_decode=(v(2),))
    summary = run(spec, script)
    assert summary.failures_by_code == {"worker_lost": 2}
    assert summary.num_answers == 22
    killed = len((tmp_path / f"killed-{v(2)}").read_text().splitlines())
    assert killed <= 12
    assert run(spec, script).num_failures == 0, "a permanent failure isn't tried again"


def test_workers_are_replaced_however_often_they_die(tmp_path: Path) -> None:
    """Six deaths of the only decode worker: more than it is started again."""
    spec = job(tmp_path, num_videos=8, resources={"decode_workers": {"min": 1, "max": 1}})
    summary = run(spec, Script(folder=tmp_path, kill_decode=(v(2), v(4), v(6))))
    assert summary.failures_by_code == {"worker_lost": 6}
    assert summary.num_answers == 10


def test_a_bug_in_a_stage_costs_its_requests_only(tmp_path: Path) -> None:
    spec = job(tmp_path)
    summary = run(spec, Script(folder=tmp_path, raise_in_decode=(v(2), v(7))))
    assert summary.failures_by_code == {"worker_lost": 4}
    assert summary.num_answers == 20


def test_a_broken_model_stops_the_run(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=150)
    with pytest.raises(TooManyErrorsError, match="the model is broken"):
        run(spec, Script(folder=tmp_path, broken_model=True))


def test_a_model_that_does_not_load_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights at 'nowhere'"):
        run(job(tmp_path), Script(folder=tmp_path, no_checkpoint=True))


def test_failures_of_the_manifest_are_logged_once(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=3)
    table = pq.read_table(tmp_path / "manifest.parquet")
    extra = table.slice(0, 1).set_column(0, "video_uri", pa.array([None], pa.string()))
    pq.write_table(pa.concat_tables([table, extra]), tmp_path / "manifest.parquet")
    first = run(spec, Script(folder=tmp_path))
    assert (first.num_answers, first.failures_by_code) == (6, {"invalid_row": 1})
    assert run(spec, Script(folder=tmp_path)).num_failures == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_next_run_goes_on(tmp_path: Path, number: int) -> None:
    spec = job(tmp_path, num_videos=40)
    slow = Script(folder=tmp_path, seconds=0.2)

    def interrupt() -> None:
        wait_for_parts(tmp_path / "out" / "answers", 3)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    stopped = run(spec, slow)
    assert stopped.exit_code == 128 + number
    assert 0 < stopped.num_answers < 80
    assert stopped.num_unfinished == 80 - stopped.num_answers
    finished = run(spec, Script(folder=tmp_path))
    assert finished.num_done_before == stopped.num_answers
    assert finished.exit_code == 0 and len(states(spec)) == 80


def test_plan_summary_show_and_verify_count_alike(tmp_path: Path) -> None:
    """A row is equal to another, can't be asked, can't be asked and is equal to another, is in
    conflict, in conflict twice, too long, fails for good, fails for now."""
    row = {"video_uri": v(0), "question_id": "q", "question": "what", "answer": "x", "source": "s"}
    rows = [
        *[row] * 2,
        *[row | {"question": " "}] * 3,
        row | {"question": " ", "source": "t"},
        *[row | {"video_uri": None}] * 2,
        *[row | {"question_id": "c"}] * 2,
        row | {"question_id": "c", "question": "why"},
        row | {"question_id": "long", "question": "how " * 2000},
        *[row | {"video_uri": v(n)} for n in (1, 2, 3)],
    ]
    spec = job(tmp_path)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))

    def counts() -> tuple[int, int, int, int]:
        to_do = outlook(spec).to_do
        planned = (to_do.plan.num_requests, to_do.num_answered, to_do.num_failed, to_do.num_open)
        words = "{} requests, {} answers, {} failures, {} to do".format(*planned)
        shown = CliRunner().invoke(app, ["show", spec.output.uri])
        proven = CliRunner().invoke(app, ["verify", spec.output.uri, "--manifest", str(path)])
        assert words in shown.output and words in proven.output
        assert proven.exit_code == 0, proven.output
        state = current_state(spec.output.uri, StorageSpec()).num_rows
        assert state == planned[0] == sum(planned[1:])
        return planned

    def told(summary: RunSummary) -> tuple[int, int, int, int]:
        numbers = (summary.num_answered, summary.num_failed, summary.num_unfinished)
        assert summary.num_requests == sum(numbers)
        return summary.num_requests, *numbers

    broken = run(spec, Script(folder=tmp_path, missing=(v(1),), broken_model=True))
    assert told(broken) == counts() == (10, 0, 10, 0)
    mended = run(spec, Script(folder=tmp_path, missing=(v(1),)))
    assert told(mended) == counts() == (10, 3, 7, 0)
    assert broken.num_failures == 10 and (mended.num_answers, mended.num_failures) == (3, 0)


def test_stages_that_have_hardly_begun_end_without_an_answer(tmp_path: Path) -> None:
    plan = make_plan(job(tmp_path, num_videos=4))
    passthrough = plan.requests.passthrough
    stages = Script(folder=tmp_path, seconds=1000).stages()
    share = cluster_share(plan.spec.resources)
    stream = StageStream(
        work_item_blocks(plan.requests.table, passthrough, 1, attempt=1),
        answering(stages, share, plan.run, passthrough),
        StageLoad(),
    )
    stream.close()


def test_blocks_are_made_as_the_stages_take_them(tmp_path: Path) -> None:
    plan = make_plan(job(tmp_path, num_videos=200))
    passthrough = plan.requests.passthrough
    made = 0

    def blocks() -> Iterator[pa.Table]:
        nonlocal made
        for block in work_item_blocks(plan.requests.table, passthrough, 1, attempt=1):
            made += 1
            yield block

    stages = Script(folder=tmp_path).stages()
    share = cluster_share(plan.spec.resources)
    stream = StageStream(blocks(), answering(stages, share, plan.run, passthrough), StageLoad())
    num_outcomes = 0
    try:
        while True:
            outcomes = stream.poll(timeout_seconds=1)
            if outcomes is not None and num_outcomes == 0:
                assert made < 100
            num_outcomes += 0 if outcomes is None else outcomes.num_rows
    except EndOfStream:
        assert (made, num_outcomes) == (200, plan.requests.table.num_rows)
    finally:
        stream.close()


def test_an_output_has_one_writer(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=40)
    first = threading.Thread(target=run, args=(spec, Script(folder=tmp_path, seconds=0.1)))
    first.start()
    try:
        wait_for_parts(tmp_path / "out" / "answers", 1)
        with pytest.raises(OutputInUseError):
            run(spec, Script(folder=tmp_path))
    finally:
        first.join()
    assert len(states(spec)) == 80


def test_a_permanent_failure_is_tried_again_on_request(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=3)
    run(spec, Script(folder=tmp_path, missing=(v(1),)))
    failed = read_progress(spec.output.uri, StorageSpec()).latest_failures["request_id"]
    again = run_job(spec, stages=Script(folder=tmp_path).stages(), retry=failed)
    assert (again.num_answers, again.num_failures) == (2, 0)
    assert set(states(spec).values()) == {"WHAT 0", "WHAT 1"}


@pytest.mark.parametrize(("attempts", "answered"), [(1, 2), (2, 0)])
def test_what_was_alone_when_the_driver_was_lost_is_tried_alone_again_but_not_for_ever(
    tmp_path: Path, attempts: int, answered: int
) -> None:
    spec = job(tmp_path, num_videos=3)
    table = make_plan(spec).requests.table
    suspect = table.filter(pa.compute.equal(table["video_id"], v(1)))["request_id"]
    for number in range(attempts):
        with ResultsLog.open(
            spec.output.uri,
            spec.storage,
            passthrough=pa.schema([("source", pa.string())]),
            run_id=f"lost-{number}",
            flush_rows=1,
            flush_seconds=1,
        ) as log:
            log.log_attempt(suspect)
    summary = run(spec, Script(folder=tmp_path))
    assert summary.num_answers == 4 + answered
    assert summary.failures_by_code == ({} if answered else {"worker_lost": 2})


def test_what_the_run_before_took_in_but_did_not_write_is_counted(tmp_path: Path) -> None:
    spec = job(tmp_path, num_videos=3)
    asked = make_plan(spec).requests.table["request_id"].to_pylist()
    lost = ResultsLog.open(
        spec.output.uri,
        spec.storage,
        passthrough=PASSTHROUGH,
        run_id="lost",
        flush_rows=10,
        flush_seconds=30,
    )
    lost.append(outcomes(asked[:2]))
    lost._lease.release()  # what the system does when a process dies
    summary = run(spec, Script(folder=tmp_path))
    assert (summary.num_answers, summary.num_recomputed) == (6, 2)
    assert "answered twice" in dict(summary._lines())
    assert run(spec, Script(folder=tmp_path)).num_recomputed == 0


def test_driver_and_actors_log_events_that_name_the_run_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(LogFormat.JSON)
    summary = run(job(tmp_path, num_videos=3), Script(folder=tmp_path, missing=(v(1),), warns=True))
    told = [
        json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")
    ]
    assert {event["run_id"] for event in told} == {summary.run_id}
    failed = [event for event in told if event.get("code") == "not_found"]
    assert len({event["request_id"] for event in failed}) == 2
    assert {event["video_id"] for event in failed} == {v(1)}
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    lines = [
        line
        for path in logs.glob("worker-*.err")
        for line in path.read_text().splitlines()
        if summary.run_id in line
    ]
    events = [json.loads(line) for line in lines]
    assert {event["video_id"] for event in events} == {v(0), v(1), v(2)}
    assert all(len(event["request_ids"]) == 2 for event in events)
    assert "slow: s3://b/k" in lines[0] and "s3cret" not in "".join(lines)
