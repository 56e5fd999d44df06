"""`sfray retry`: failures of an output once more, permanent ones too."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from sfray.config import StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.pipeline.run import run_job
from sfray.pipeline.summary import RunSummary
from sfray.storage.read_results import read_progress
from sfray.storage.retry import ids_to_retry
from sfray.storage.run_files import read_run_file, run_ids


def retry_output(
    uri: str, storage: StorageSpec, codes: Sequence[str], transient: bool, address: str | None
) -> RunSummary:
    """Runs the last job of an output again, with the chosen failures among what is to do.

    Raises:
        SpecError: no run left a job file, or a code doesn't exist.
    """
    ids = ids_to_retry(read_progress(uri, storage).latest_failures, codes, transient=transient)
    for run_id in reversed(run_ids(uri, storage)):
        text = read_run_file(uri, storage, run_id, "spec.yaml")
        if text is not None:
            spec = parse_job_spec(yaml.safe_load(text))
            return run_job(spec, address=address, retry=ids)
    raise SpecError(f"the output {uri} holds no job file of a run to try again with")
