"""The control-plane benchmark on a small job."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_control import STEPS, job, write_manifest
from sfray.config import StorageSpec
from sfray.results.read import current_state

NUM_REQUESTS = 2000


pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.mark.parametrize("first", ["first", "written"])
def test_a_job_is_answered_in_its_steps_once_each(tmp_path: Path, first: str) -> None:
    write_manifest(tmp_path / "manifest.parquet", NUM_REQUESTS)
    told = [STEPS[step](tmp_path) for step in (first, "resume", "nothing", "verify")]
    answered = 0 if first == "written" else 1980
    assert [step["requests"] for step in told] == [answered, 20, 0, NUM_REQUESTS]
    state = current_state(job(tmp_path).output.uri, StorageSpec(), ["request_id", "text", "source"])
    assert len(set(state["request_id"].to_pylist())) == state.num_rows == NUM_REQUESTS
    assert len(state["text"].unique()) == 1 and len(state["source"].unique()) == 100
