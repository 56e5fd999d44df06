"""`sfray retry`: failures of an output once more, permanent ones too."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.partition import Partition
from sfray.results.partitioning import num_partitions
from sfray.results.read import read_progress
from sfray.results.retry import ids_to_retry
from sfray.results.run_files import read_run_file, run_ids
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from sfray.storage.folders import open_folder
from sfray.storage.uris import join


def retry_output(
    uri: str, storage: StorageSpec, codes: Sequence[str], transient: bool, address: str | None
) -> RunSummary:
    """Runs the last job of an output again, with the chosen failures among what is to do.

    The output is the one that is named here, whatever the job file calls it: a relative path, or
    where it was before it was moved.

    Raises:
        SpecError: no run left a job file, a code doesn't exist, or the output has partitions.
    """
    folder = open_folder(uri, storage)
    if (number := num_partitions(folder)) is not None:
        first = Partition(index=0, num_partitions=number).folder
        raise SpecError(
            f"the output {folder.uri} is of a job in {number} partitions: retry them one by one, "
            f"such as {join(uri, first)}"
        )
    ids = ids_to_retry(read_progress(uri, storage).latest_failures, codes, transient=transient)
    for run_id in reversed(run_ids(uri, storage)):
        text = read_run_file(uri, storage, run_id, "spec.yaml")
        if text is not None:
            spec = parse_job_spec(yaml.safe_load(text))
            return run_job(_writing_to(uri, spec), address=address, retry=ids)
    raise SpecError(f"the output {uri} holds no job file of a run to try again with")


def _writing_to(log_uri: str, spec: JobSpec) -> JobSpec:
    part, place = spec.output.part, log_uri.rstrip("/")
    if part is None or not place.endswith(part.folder):  # a compacted copy is in one piece
        output = {"uri": place, "partition": None}
    else:
        output = {"uri": place.removesuffix(part.folder) or "."}
    return spec.model_copy(update={"output": spec.output.model_copy(update=output)})
