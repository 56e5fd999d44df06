"""The DAG in a real Airflow, its task run with a `sfray` that ends with each exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "cluster" / "schedule"
# Airflow reads these when it is first imported.
HOME = tempfile.TemporaryDirectory(prefix="airflow-")
os.environ |= {
    "AIRFLOW_HOME": HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW_VAR_SFRAY_JOB": "/etc/sfray/captions.yaml",
}
pytest.importorskip("airflow", reason="`make test-airflow` runs these in Airflow's environment")


@pytest.fixture(scope="module")
def dag() -> Any:
    migrate = [Path(sys.executable).with_name("airflow"), "db", "migrate"]
    subprocess.run(migrate, check=True, capture_output=True)  # noqa: S603
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(FOLDER)
    assert bag.import_errors == {}
    return bag.dags["sfray_captions"]


def test_nights_are_one_at_a_time_and_none_is_made_up_for(dag: Any) -> None:
    assert dag.max_active_runs == 1 and dag.catchup is False
    assert dag.schedule == "0 1 * * *"


@pytest.mark.parametrize(
    ("code", "state"), [(0, "success"), (4, "skipped"), (3, "failed"), (2, "failed")]
)
def test_the_task_goes_by_the_exit_code(
    dag: Any, code: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sfray = tmp_path / "sfray"
    sfray.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nexit {code}\n')
    sfray.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(dag.task_dict["captions"], "retries", 0)  # they are ten minutes apart
    (task,) = dag.test().get_task_instances()
    assert task.state == state
    assert (tmp_path / "arguments").read_text() == "submit /etc/sfray/captions.yaml --follow\n"
