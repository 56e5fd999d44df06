"""What `sfray retry` runs: the last job, or a job file that asks the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sfray.commands import retry
from sfray.commands.retry import retry_output
from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.planning.plan import make_plan
from sfray.results.log import ResultsLog


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "rows.csv").write_text("video_uri\na.mp4\n")
    return {
        "manifest": {"uri": str(tmp_path / "rows.csv")},
        "task": "caption",
        "prompts": [{"prompt_id": "c", "text": "Describe the video."}],
        "model": {"id": "demo"},
        "output": {"uri": str(tmp_path / "out"), "partition": "0/2"},
        "storage": {"region": "logged", "profile": "logged"},
    }


@pytest.fixture
def log_uri(values: dict[str, Any]) -> str:
    """One of two partitions, whose only run asked and was lost."""
    plan = make_plan(parse_job_spec(values), pin=True)
    with ResultsLog.open(
        plan.spec.output.uri,
        StorageSpec(),
        partition=plan.spec.output.part,
        passthrough=plan.requests.passthrough,
        run_id="run",
        flush_rows=10,
        flush_seconds=10,
    ) as log:
        text = yaml.safe_dump(plan.spec.model_dump(mode="json"))
        log.write_run_file("run", "spec.yaml", text.encode())
        log.write_requests(plan.requests.table)
    return plan.spec.output.log_uri


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[JobSpec]:
    """The jobs that were run."""
    jobs: list[JobSpec] = []
    monkeypatch.setattr(retry, "run_job", lambda spec, **_: jobs.append(spec))
    return jobs


def test_the_last_job_is_run_and_options_go_before_its_storage(
    log_uri: str, ran: list[JobSpec]
) -> None:
    retry_output(log_uri, StorageSpec(profile="given"), (), False, None)
    (job,) = ran
    assert job.storage == StorageSpec(region="logged", profile="given")
    assert job.output.log_uri == log_uri


def test_a_job_file_may_change_what_decides_no_answer(
    log_uri: str, values: dict[str, Any], ran: list[JobSpec]
) -> None:
    changed = values | {
        "decode": {"timeout_seconds": 7},
        "limits": {"max_failure_ratio": 0.5},
        "resources": {"decode_workers": {"max": 3}},
        "output": {"uri": "elsewhere", "flush_rows": 7},
        "storage": {"region": "of the file"},
    }
    retry_output(log_uri, StorageSpec(profile="given"), (), False, None, parse_job_spec(changed))
    (job,) = ran
    assert (job.decode.timeout_seconds, job.limits.max_failure_ratio) == (7, 0.5)
    assert (job.resources.decode_workers.max, job.output.flush_rows) == (3, 7)
    assert job.storage == StorageSpec(region="of the file", profile="given")
    assert job.output.log_uri == log_uri  # and so the partition


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": [{"prompt_id": "c", "text": "Describe it otherwise."}]},
        {"generation": {"max_new_tokens": 5}},
        {"sampling": {"num_frames": 3}},
    ],
)
def test_a_job_file_that_asks_something_else_is_refused(
    log_uri: str, values: dict[str, Any], ran: list[JobSpec], change: dict[str, Any]
) -> None:
    words = "the job file has the fingerprint .* asked with .* `sfray run`"
    with pytest.raises(SpecError, match=words) as raised:
        retry_output(log_uri, StorageSpec(), (), False, None, parse_job_spec(values | change))
    assert "\n" not in str(raised.value) and not ran


def test_a_prompt_more_is_none_of_a_retrys_business(
    log_uri: str, values: dict[str, Any], ran: list[JobSpec]
) -> None:
    more = [*values["prompts"], {"prompt_id": "d", "text": "And the colours?"}]
    retry_output(
        log_uri, StorageSpec(), (), False, None, parse_job_spec(values | {"prompts": more})
    )
    assert len(ran) == 1
