"""`sfray explain`: everything that decided one row, and the row answered once more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.errors import SpecError
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.find import Place, find_checkpoint, place_of
from sfray.pipeline.actors import Stages
from sfray.pipeline.job_stages import job_stages
from sfray.planning.plan import fingerprint_of, prompt_fingerprints, what_decides
from sfray.prompts.templates import IMAGE, load_template
from sfray.records import (
    DecodedItem,
    Outcome,
    Request,
    RunIdentity,
    WorkItem,
    outcome_row,
)
from sfray.results.partitioning import log_uris
from sfray.results.read import ANSWERS, ATTEMPTS, ATTEMPTS_SCHEMA, FAILURES, read_sequence
from sfray.results.run_files import read_run_file
from sfray.results.schema import columns_of
from sfray.storage.folders import open_folder
from sfray.storage.uris import from_here, join

_ID = pa.schema([("request_id", pa.string())])
# What a replay must give again; times and the run's id differ by nature.
_REPLAYED = ("frame_indices", "reader", "token_ids", "text", "code", "message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One request's state and what led to it.

    Attributes:
        row: the answer, or the latest failure, without empty columns.
        earlier_failures: those that were logged before it, oldest first.
        num_lone_attempts: how often its video ran alone after it had been lost with its worker.
        spec: the resolved job file of the run that logged the row; None where it left none.
        checkpoint: the model that it names, as it is now.
        versions: the packages of that run.
        prompt_as_sent: the whole prompt; `<image>` stands for the visual tokens.
        decides: what the row's fingerprint is made of.
        changed_since: the fingerprint of the same job file now, where it is another one: its
            template or the model's files have changed.
    """

    row: dict[str, Any]
    earlier_failures: list[dict[str, Any]]
    num_lone_attempts: int
    spec: JobSpec | None
    checkpoint: Checkpoint | None
    versions: dict[str, str] | None
    prompt_as_sent: str | None
    decides: dict[str, Any] | None
    changed_since: str | None


def explain(uri: str, storage: StorageSpec, request_id: str) -> Explanation:
    """Explains the request whose id begins with `request_id`.

    Raises:
        SpecError: there is none, or there are several.
        StorageError: the output can't be read.
    """
    log, full_id = _found(uri, storage, request_id)
    folder = open_folder(log, storage)
    columns = columns_of(folder).fields
    history = [
        _shown(row)
        for name in (FAILURES, ANSWERS)
        for row in _rows(read_sequence(folder, name, columns), full_id)
    ]
    row = history[-1]
    attempts = read_sequence(folder, ATTEMPTS, ATTEMPTS_SCHEMA)
    spec_text = read_run_file(log, storage, row["run_id"], "spec.yaml")
    versions = read_run_file(log, storage, row["run_id"], "versions.yaml")
    spec, checkpoint, sent, decides, now = None, None, None, None, None
    if spec_text is not None:
        spec = _with_model_of_now(parse_job_spec(yaml.safe_load(spec_text)))
        spec = spec.model_copy(update={"storage": storage.over(spec.storage)})
        checkpoint = find_checkpoint(spec.model, spec.storage)
        template = load_template(spec.template, checkpoint.profile.chat_format, spec.task)
        rendered = template.render(row["prompt"], row.get("options") or ())
        sent = f"{rendered.before_image}{IMAGE}{rendered.after_image}"
        decides = what_decides(spec, template, *checkpoint.identity)
        now = fingerprint_of(decides)
        now = prompt_fingerprints(spec, now).get(row["prompt_id"], now)
    return Explanation(
        row=row,
        earlier_failures=history[:-1],
        num_lone_attempts=len(_rows(attempts, full_id)),
        spec=spec,
        checkpoint=checkpoint,
        versions=None if versions is None else yaml.safe_load(versions),
        prompt_as_sent=sent,
        decides=decides,
        changed_since=now if now != row["fingerprint"] else None,
    )


def decode_again(explanation: Explanation) -> DecodedItem:
    """Fetches and decodes the row's clip as its run did.

    Raises:
        SpecError: the run left no job file.
    """
    stage = _stages(explanation).make_decode()
    return stage(_work_item(explanation))


def replay(explanation: Explanation, decoded: DecodedItem) -> dict[str, tuple[Any, Any]]:
    """Answers the row once more, alone, and tells what differs: (logged, now) by column."""
    answer = _stages(explanation).make_answer()

    async def answered() -> Outcome:
        (outcome,) = await answer(decoded)
        return outcome

    names = ("run_id", "task", "fingerprint", "model_id", "model_revision")
    identity: dict[str, Any] = {name: explanation.row.get(name) for name in names}
    now = _shown(outcome_row(asyncio.run(answered()), RunIdentity(**identity)))
    pairs = {name: (explanation.row.get(name), now.get(name)) for name in _REPLAYED}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _with_model_of_now(spec: JobSpec) -> JobSpec:
    """A checkpoint on S3 is compared as it is now with the row, as one in a folder is."""
    if place_of(spec.model.id) is not Place.S3:
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"revision": None})})


def _stages(explanation: Explanation) -> Stages:
    if explanation.spec is None or explanation.checkpoint is None:
        raise SpecError(
            f"the run {explanation.row['run_id']} left no job file here, so that its rows can't be "
            "decoded or answered again"
        )
    return job_stages(explanation.spec, explanation.checkpoint.profile)


def _work_item(explanation: Explanation) -> WorkItem:
    row = explanation.row
    request = Request(
        request_id=row["request_id"],
        prompt_id=row["prompt_id"],
        prompt=row["prompt"],
        options=tuple(row.get("options") or ()),
    )
    root = None if explanation.spec is None else explanation.spec.videos.root
    return WorkItem(
        video_id=row["video_id"],
        video_uri=row["video_uri"],
        fetch_uri=from_here(row["video_uri"] if root is None else join(root, row["video_uri"])),
        start_seconds=row.get("start_seconds"),
        end_seconds=row.get("end_seconds"),
        requests=(request,),
    )


def _found(uri: str, storage: StorageSpec, beginning: str) -> tuple[str, str]:
    """The log that holds the request, and its whole id."""
    found = set()
    for log in log_uris(uri, storage):
        folder = open_folder(log, storage)
        for name in (ANSWERS, FAILURES):
            ids = read_sequence(folder, name, _ID)["request_id"]
            begins = pc.starts_with(ids, beginning)
            found |= {(log, request_id) for request_id in ids.filter(begins).to_pylist()}
    if not found:
        raise SpecError(f"no answer or failure in {uri} has an id that begins with {beginning!r}")
    if len(found) > 1:
        some = ", ".join(sorted(request_id for _, request_id in found)[:3])
        raise SpecError(f"{len(found)} ids in {uri} begin with {beginning!r}, such as {some}")
    return found.pop()


def _rows(table: pa.Table, request_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["request_id"], request_id)).to_pylist()
    return rows


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row without empty columns, in the types that a table gives back."""
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in row.items()}
    return {name: value for name, value in plain.items() if value is not None}
