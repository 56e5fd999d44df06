"""The commands as functions, for notebooks and programs; `sfray` has them under these names.

Each takes what its command takes, in the command's words, and returns what the command prints.
Where the command ends with a sentence, a `RunError` is raised with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.planning.job_file import load_job as load_job_spec

if TYPE_CHECKING:
    from rich.console import Console

    from sfray.planning.outlook import Outlook
    from sfray.results.verify import VerifyReport
    from sfray.runs.summary import RunSummary


def plan(
    spec: JobSpec | str | Path,
    *,
    set: Sequence[str] = (),
    partition: str | None = None,
    limit: int | None = None,
) -> Outlook:
    """What a job would do now; starts neither Ray nor the model, opens no video, writes nothing.

    Args:
        spec: a job, or the path of a job file.
        set: `key.path=value` each, in place of what the job says.
        partition: `i/n`, one shard of the job.
        limit: only the first so many requests, in the order of work.

    Returns:
        The requests and what of them is to do, tokens, problems; `print_to` shows it as a table.

    Raises:
        RunError: the job, its manifest, its model or its output is wrong.
    """
    from sfray.planning.outlook import outlook

    return outlook(job(spec, set, partition), limit)


def run(
    spec: JobSpec | str | Path,
    *,
    set: Sequence[str] = (),
    partition: str | None = None,
    limit: int | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> RunSummary:
    """Runs a job until every request is an answer or a failure with a code.

    Idempotent: the same call resumes a run that was stopped, asks only what has no answer yet, and
    retries transient failures.

    Args:
        spec: a job, or the path of a job file.
        set: `key.path=value` each, in place of what the job says.
        partition: `i/n`, one shard of the job.
        limit: only the first so many requests, in the order of work.
        address: a Ray cluster; None takes the one at hand, else starts a local one.
        console: where progress goes; None for standard error.

    Returns:
        Counts, failures by code, times; `exit_code` is what the command would end with.

    Raises:
        RunError: what stops a run.
    """
    from sfray.runs.run import run_job

    return run_job(job(spec, set, partition), limit=limit, address=address, console=console)


def retry(
    output: str | Path,
    *,
    code: Sequence[str] = (),
    transient: bool = False,
    spec: JobSpec | str | Path | None = None,
    address: str | None = None,
    storage: StorageSpec | None = None,
) -> RunSummary:
    """Asks failed requests again, permanent failures too, with the job file of the last run.

    Args:
        output: a folder or an `s3://` prefix.
        code: only failures with one of these codes; none for all.
        transient: only failures that can pass by themselves.
        spec: a job, or the path of a job file, that asks the same: what else it says holds.
        address: a Ray cluster; None takes the one at hand, else starts a local one.
        storage: how S3 is reached, where not by its defaults.

    Returns:
        As `run`.

    Raises:
        RunError: no run left a job file, a code doesn't exist, or what stops a run.
    """
    from sfray.commands.retry import retry_output

    return retry_output(
        str(output),
        storage or StorageSpec(),
        _several(code, "code"),
        transient,
        address,
        None if spec is None else job(spec),
    )


def verify(
    output: str | Path,
    *,
    spec: JobSpec | str | Path | None = None,
    storage: StorageSpec | None = None,
) -> VerifyReport:
    """Reads an output back and proves that it is complete and intact.

    Args:
        output: a folder or an `s3://` prefix.
        spec: a job, or the path of a job file: what it asks for now must have an outcome too.
        storage: how S3 is reached, where not by its defaults.

    Returns:
        Counts, and `problems` in sentences; `ok` where there are none.

    Raises:
        RunError: no results are there, they can't be read, or the job is wrong.
    """
    from sfray.results.verify import verify as verify_output

    storage = storage or StorageSpec()
    wanted = None
    if spec is not None:
        from sfray.planning.plan import make_plan
        from sfray.planning.windows import asked_ids

        wanted = asked_ids(make_plan(job(spec)), str(output), storage)
    return verify_output(str(output), storage, wanted)


def job(
    spec: JobSpec | str | Path, changes: Sequence[str] = (), partition: str | None = None
) -> JobSpec:
    """A job with changes, `key.path=value` each, and as a partition; raises `SpecError`."""
    # Quoted, so that nothing that is given here means no partition.
    split = [] if partition is None else [f"output.partition={json.dumps(partition)}"]
    changes = (*_several(changes, "set"), *split)
    if not isinstance(spec, JobSpec):
        return load_job_spec(spec, changes)
    return parse_job_spec(spec.model_dump(mode="json"), changes) if changes else spec


def _several(values: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(values, str):  # it is a sequence too, of letters
        raise TypeError(f"{name} is {values!r}, but should be a list: [{values!r}]")
    return tuple(values)
