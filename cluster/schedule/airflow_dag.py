"""The nightly job in Airflow 3: sends it to the Ray cluster, follows it, and goes by its exit code.

The worker needs sfray and, in its environment, RAY_API_SERVER_ADDRESS, RAY_AUTH_MODE=token and
RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH. The Airflow variable `sfray_job` names the job file.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

THE_NIGHT_BEFORE_STILL_RUNS = 4

with DAG(
    dag_id="sfray_captions",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # what a missed night left, the next one does
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
):
    BashOperator(
        task_id="captions",
        bash_command="exec sfray submit {{ var.value.sfray_job }} --follow",
        skip_on_exit_code=THE_NIGHT_BEFORE_STILL_RUNS,
    )
