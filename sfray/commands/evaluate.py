"""Benchmarks as ordinary jobs: what is asked, run, and read back for scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.demo.videos import write_sample_set
from sfray.errors import ManifestError, StorageError
from sfray.planning.job_file import load_job
from sfray.planning.plan import make_plan
from sfray.results.partitioning import log_uris
from sfray.results.read import current_state, read_progress
from sfray.results.run_files import run_requests
from sfray.results.schema import read_columns
from sfray.scoring.benchmarks.benchmark import Scorer
from sfray.scoring.benchmarks.convert import REPORT_COLUMNS
from sfray.scoring.judge_log import JudgeLog
from sfray.scoring.report import Section, make_report
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder
from sfray.storage.uris import is_remote, join, local_path

DEMO_WORLD = "demo-world"
JUDGE_FOLDER = "_sfray/judge"
_UNFINISHED = "unfinished"
_COUNTED_KINDS = ("count", "flashes")
_ROW_COLUMNS = (
    *("request_id", "video_id", "start_seconds", "end_seconds", "prompt_id", "prompt", "options"),
    *("reference_answer", "fingerprint", "text", "choice", "code", "model_id"),
    *REPORT_COLUMNS,
)
# Room for a letter, a phrase, or a paragraph.
_MAX_NEW_TOKENS = {
    Scorer.MULTIPLE_CHOICE: 16,
    Scorer.COUNT: 32,
    Scorer.OPEN_ENDED: 64,
    Scorer.GENERATION: 256,
}


def evaluation_job(
    name: str,
    manifest: str,
    output: str,
    model: str,
    scorers: Sequence[str],
    overrides: Sequence[str] = (),
) -> JobSpec:
    """The job that asks a benchmark's questions.

    Failures never make it fail: they count as wrong and stand in the report.

    Args:
        manifest: made by `sfray eval convert`.
        scorers: those of its rows; all multiple choice, or none.
        overrides: `key.path=value` each.
    """
    kinds = {Scorer(scorer) for scorer in scorers}
    is_choice = Scorer.MULTIPLE_CHOICE in kinds
    if is_choice and len(kinds) > 1:
        raise ManifestError(f"{manifest} mixes questions with options and without")
    return parse_job_spec(
        {
            "name": name,
            "manifest": {"uri": manifest, "passthrough": list(REPORT_COLUMNS)},
            "task": "multiple_choice" if is_choice else "qa",
            "model": {"id": model},
            "generation": {"max_new_tokens": max(_MAX_NEW_TOKENS[kind] for kind in kinds)},
            "limits": {"max_failure_ratio": 1.0},
            "output": {"uri": output},
        },
        tuple(overrides),
    )


def manifest_scorers(manifest: str) -> list[str]:
    """The scorers that the rows of a converted manifest have."""
    try:
        table = ds.dataset(manifest, format="parquet").to_table(columns=["scorer"])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ManifestError(
            f"{manifest} is no manifest of `sfray eval convert`: {error}"
        ) from error
    return sorted(table["scorer"].unique().to_pylist())


def demo_world_manifests(folder: Path, num_videos: int, seed: int) -> dict[str, Path]:
    """The manifests of the toy world's benchmark by task; made where the folder holds none.

    Videos that were deleted from a folder stay deleted, so that their questions count as
    unanswered.
    """
    manifests = {
        task: folder / f"{DEMO_WORLD}.{seed}.{num_videos}.{task}.parquet"
        for task in ("multiple_choice", "qa")
    }
    if all(path.exists() for path in manifests.values()):
        return manifests
    made = write_sample_set(folder, num_videos, seed)
    for task, path in manifests.items():
        table = pq.read_table(made[task])
        kinds = table["kind"].to_pylist()
        scorers = [_demo_scorer(task, kind) for kind in kinds]
        table = table.append_column("benchmark", pa.array([DEMO_WORLD] * len(kinds)))
        table = table.append_column("scorer", pa.array(scorers))
        table = table.append_column("question_type", pa.array(kinds))
        table = table.append_column("pair_id", pa.nulls(len(kinds), pa.string()))
        table = table.append_column("source_question_id", table["question_id"])
        pq.write_table(table, path)
    return manifests


def _demo_scorer(task: str, kind: str) -> str:
    if task == "multiple_choice":
        return Scorer.MULTIPLE_CHOICE.value
    return (Scorer.COUNT if kind in _COUNTED_KINDS else Scorer.OPEN_ENDED).value


def ablation_jobs(folder: Path, manifest: str, output: str, extra: Sequence[str]) -> list[JobSpec]:
    """The job files of a folder, each with an output of its own name below `output`."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ManifestError(f"{folder} holds no job files (*.yaml)")
    return [
        load_job(
            file,
            (f"manifest.uri={manifest}", f"output.uri={join(output, file.stem)}", *extra),
        )
        for file in files
    ]


def found_again(job: JobSpec) -> pa.ChunkedArray | None:
    """The ids of requests whose video wasn't there, but is now; what isn't on this machine may be.

    None where nothing was missing.
    """
    failures = read_progress(job.output.log_uri, job.storage).latest_failures
    missing = failures.filter(pc.equal(failures["code"], "not_found"))["request_id"]
    if not len(missing):
        return None
    asked = make_plan(job).requests.table
    asked = asked.filter(pc.is_in(asked["request_id"], value_set=missing))
    there = [is_remote(uri) or local_path(uri).exists() for uri in asked["fetch_uri"].to_pylist()]
    return asked["request_id"].filter(pa.array(there, pa.bool_()))


def why_nothing_is_answered(job: JobSpec) -> str:
    """A sentence on a job none of whose questions has an answer."""
    codes = read_progress(job.output.log_uri, job.storage).latest_failures["code"]
    counts = ", ".join(f"{number} {code}" for code, number in Counter(codes.to_pylist()).items())
    return f"no question of {job.output.log_uri} has an answer, so there is nothing to score: " + (
        counts or "none was asked"
    )


def asked_rows(output: str, storage: StorageSpec) -> list[dict[str, Any]]:
    """One row for each request ever asked of an output.

    Its answer, its latest failure, or, where a run was stopped before either, the code
    `unfinished`.
    """
    tables = [current_state(output, storage)]
    known = set(tables[0]["request_id"].to_pylist())
    folders = [open_folder(log, storage) for log in log_uris(output, storage)]
    for asked in chain.from_iterable(map(run_requests, folders)):
        ids = asked["request_id"].to_pylist()
        fresh = asked.filter(pa.array([i not in known for i in ids], pa.bool_()))
        known.update(ids)
        codes = pa.array([_UNFINISHED] * fresh.num_rows, pa.string())
        tables.append(fresh.append_column("code", codes))
    return [row for table in tables for row in _with_all_columns(table).to_pylist()]


def _with_all_columns(table: pa.Table) -> pa.Table:
    """The columns that scoring reads; those that a plain job doesn't have are null."""
    columns = {
        name: table[name] if name in table.column_names else pa.nulls(table.num_rows)
        for name in _ROW_COLUMNS
    }
    return pa.table(columns)


def outputs_in(uris: Sequence[str], storage: StorageSpec) -> list[str]:
    """The outputs that are named: a folder without results stands for those right below it, as
    `sfray eval run` leaves them.

    Raises:
        StorageError: there are none.
    """
    return [output for uri in uris for output in _outputs_in(uri, storage)]


def _outputs_in(uri: str, storage: StorageSpec) -> list[str]:
    folder = open_folder(uri, storage)
    if read_columns(folder) is not None:
        return [uri]
    below = [join(uri, name) for name in folder.list_folders("")]
    found = [one for one in below if read_columns(open_folder(one, storage)) is not None]
    if not found:
        raise StorageError(f"{folder.uri} holds no results, nor does a folder right below it")
    return found


def judge_folder(output: str, storage: StorageSpec) -> Folder:
    """Where the verdicts on an output are."""
    return open_folder(join(output, JUDGE_FOLDER), storage)


def report_on(outputs: Sequence[str], storage: StorageSpec) -> list[Section]:
    """The report's sections of all outputs."""
    return [
        section
        for output in outputs
        for section in make_report(
            output, asked_rows(output, storage), JudgeLog(judge_folder(output, storage)).rows()
        )
    ]
