"""`sfray retry`: failures of an output once more, permanent ones too."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.model.checkpoints.find import find_checkpoint
from sfray.partition import Partition
from sfray.planning.plan import fingerprint_of, prompt_fingerprints, resolve, what_decides
from sfray.results.partitioning import num_partitions
from sfray.results.read import read_progress
from sfray.results.retry import ids_to_retry
from sfray.results.run_files import read_run_file, run_ids
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from sfray.storage.folders import open_folder
from sfray.storage.uris import join


def retry_output(
    uri: str,
    storage: StorageSpec,
    codes: Sequence[str],
    transient: bool,
    address: str | None,
    job: JobSpec | None = None,
) -> RunSummary:
    """Runs the last job of an output again, with the chosen failures among what is to do.

    The output is the one that is named here, whatever the job file calls it: a relative path, or
    where it was before it was moved.

    Args:
        storage: what of it is set goes before what the job file says.
        job: a job file in place of the last run's, which asks the same.

    Raises:
        SpecError: no run left a job file, `job` asks something else, a code doesn't exist, or the
            output has partitions.
    """
    own = storage if job is None else storage.over(job.storage)
    folder = open_folder(uri, own)
    if (number := num_partitions(folder)) is not None:
        first = Partition(index=0, num_partitions=number).folder
        raise SpecError(
            f"the output {folder.uri} is of a job in {number} partitions: retry them one by one, "
            f"such as {join(uri, first)}"
        )
    ids = ids_to_retry(read_progress(uri, own).latest_failures, codes, transient=transient)
    run_id, last = _last_run(uri, own)
    spec = last
    if job is not None:
        spec = _in_place_of(last, job)
        _check_that_it_asks_the_same(spec, uri, run_id, own)
    spec = spec.model_copy(update={"storage": storage.over(spec.storage)})
    return run_job(_writing_to(uri, spec), address=address, retry=ids)


def _last_run(uri: str, storage: StorageSpec) -> tuple[str, JobSpec]:
    """The last run that left a job file, and that."""
    for run_id in reversed(run_ids(uri, storage)):
        text = read_run_file(uri, storage, run_id, "spec.yaml")
        if text is not None:
            return run_id, parse_job_spec(yaml.safe_load(text))
    raise SpecError(f"the output {uri} holds no job file of a run to try again with")


def _in_place_of(last: JobSpec, job: JobSpec) -> JobSpec:
    """The job with the partition of the last one, and with its version of the same model, unless
    it names another."""
    model = job.model
    if model.revision is None and model.id == last.model.id:
        model = model.model_copy(update={"revision": last.model.revision})
    output = job.output.model_copy(update={"partition": last.output.partition})
    return job.model_copy(update={"model": model, "output": output})


def _check_that_it_asks_the_same(job: JobSpec, uri: str, run_id: str, storage: StorageSpec) -> None:
    body = read_run_file(uri, storage, run_id, "requests.parquet")
    if body is None:  # it ended before it asked anything
        return
    asked = set(pq.read_table(pa.BufferReader(body), columns=["fingerprint"])[0].to_pylist())
    checkpoint = find_checkpoint(job.model, job.storage)
    spec, template = resolve(job, checkpoint)
    fingerprint = fingerprint_of(what_decides(spec, template, *checkpoint.identity))
    asks = set(prompt_fingerprints(spec, fingerprint).values()) or {fingerprint}
    if not asked <= asks:
        raise SpecError(
            f"the job file has the fingerprint {' '.join(sorted(asks))}, but the last run of {uri} "
            f"asked with {' '.join(sorted(asked - asks))}: a retry may change resources, limits, "
            "decode, videos or the manifest's place; what decides answers is for `sfray run`"
        )


def _writing_to(log_uri: str, spec: JobSpec) -> JobSpec:
    part, place = spec.output.part, log_uri.rstrip("/")
    if part is None or not place.endswith(part.folder):  # a compacted copy is in one piece
        output = {"uri": place, "partition": None}
    else:
        output = {"uri": place.removesuffix(part.folder) or "."}
    return spec.model_copy(update={"output": spec.output.model_copy(update=output)})
