"""From manifest rows to requests: prompts, ids, deduplication, order.

Everything here works on Arrow tables, so that a million rows stay a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sfray.columns import (
    COLUMNS,
    manifest_name,
    outcomes_schema,
    passthrough_name,
    table_schema,
)
from sfray.config import JobSpec
from sfray.errors import ManifestError
from sfray.manifest.rows import read_manifest
from sfray.prompts.templates import column_names, fill_columns
from sfray.records import RequestFailure, RunIdentity, as_references, clip_id, digest
from sfray.redaction import identity_uri
from sfray.storage.uris import join

CLIP_KEY = ["video_id", "start_seconds", "end_seconds"]
# A column that no manifest has: the number of a row while tables are worked on.
_ROW = "\0row"
_NO_PASSTHROUGH = pa.schema([])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequests:
    """What a manifest asks for.

    Attributes:
        table: one row a request, in the manifest's order of videos, requests of one clip
            together: the key columns, `fetch_uri`, passthrough columns.
        failures: rows of `outcomes_schema` for manifest rows that can't become requests.
        num_rows: manifest rows read, of the job's partition where it has one.
        num_collapsed: rows that were equal to another in every column.
    """

    table: pa.Table
    failures: pa.Table
    passthrough: pa.Schema
    num_rows: int
    num_collapsed: int

    def first(self, limit: int) -> PlannedRequests:
        """The first requests in the order of work; failed rows count after them."""
        table = self.table.slice(0, limit)
        return replace(self, table=table, failures=self.failures.slice(0, limit - table.num_rows))

    def failing(self, failures: list[dict[str, Any]], kept: pa.Array) -> PlannedRequests:
        """With further failures, and only the kept requests."""
        added = pa.Table.from_pylist(failures, schema=self.failures.schema)
        return replace(
            self,
            table=self.table.filter(kept),
            failures=pa.concat_tables([self.failures, added]),
        )


def plan_requests(spec: JobSpec, run: RunIdentity) -> PlannedRequests:
    """Reads the manifest and says what it asks for.

    Raises:
        ManifestError: the manifest can't be read, or one video_id stands for two URIs.
    """
    columns = dict.fromkeys(name for prompt in spec.prompts for name in column_names(prompt.text))
    manifest = read_manifest(spec.manifest, spec.storage, extra_columns=tuple(columns))
    passthrough = manifest.passthrough_schema
    planned_schema = _planned_schema(passthrough)
    tables, failures, num_rows = [], [], 0
    for batch in manifest.batches():
        if (partition := spec.output.part) is not None:
            held = [partition.holds(video_id) for video_id in _video_ids(batch)]
            batch = batch.filter(pa.array(held, pa.bool_()))
        num_rows += batch.num_rows
        kept, rejected = _split_invalid(batch, spec, run)
        failures += [row_failure(row, "invalid_row", why, spec, run) for row, why in rejected]
        tables += [t.cast(planned_schema) for t in _expand(kept, spec, run, passthrough)]
    table = pa.concat_tables(tables) if tables else planned_schema.empty_table()
    _check_one_uri_a_video(table)
    table, num_collapsed, conflicts = _without_duplicates(table)
    for row in conflicts:
        why = (
            f"question id {row['prompt_id']!r} of video {row['video_id']!r} stands in several "
            "rows with different content"
        )
        failures.append(row_failure(row, "duplicate_request", why, spec, run))
    # Equal rows have equal ids: one that can't be asked is one failure, however often it comes.
    distinct = {row["request_id"]: row for row in failures}
    return PlannedRequests(
        table=_grouped(table),
        failures=pa.Table.from_pylist(list(distinct.values()), schema=outcomes_schema(passthrough)),
        passthrough=passthrough,
        num_rows=num_rows,
        num_collapsed=num_collapsed + len(failures) - len(distinct),
    )


def _planned_schema(passthrough: pa.Schema) -> pa.Schema:
    fetch_uri = pa.field("fetch_uri", pa.string(), nullable=False)
    return pa.schema([*table_schema("requests", _NO_PASSTHROUGH), fetch_uri, *passthrough])


def _split_invalid(
    batch: pa.Table, spec: JobSpec, run: RunIdentity
) -> tuple[pa.Table, list[tuple[dict[str, Any], str]]]:
    """The usable rows, and the others each with the reason."""
    blank_uri = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(batch["video_uri"], "")), "")
    start = pc.fill_null(batch["start_seconds"], 0.0)
    end = pc.fill_null(batch["end_seconds"], float("inf"))
    # Written so that a NaN in either bound counts as invalid too.
    good_clip = pc.and_(pc.greater_equal(start, 0.0), pc.less(start, end))
    problems = [
        (blank_uri, "the row has no video_uri"),
        (pc.invert(good_clip), "start_seconds and end_seconds are no range"),
    ]
    if spec.task != "caption":
        blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(batch["question"], "")), "")
        problems.append((blank, "the row has no question"))
    if spec.task == "multiple_choice":
        few = pc.less(pc.fill_null(pc.list_value_length(batch["options"]), 0), 2)
        problems.append((few, "the row has fewer than two options"))
    invalid = problems[0][0]
    for mask, _ in problems[1:]:
        invalid = pc.or_(invalid, mask)
    rejected = []
    if pc.any(invalid).as_py():
        counted: set[int] = set()
        for mask, why in problems:
            for index in pc.indices_nonzero(mask).to_pylist():
                if index not in counted:
                    counted.add(index)
                    rejected.append((batch.slice(index, 1).to_pylist()[0], why))
    return batch.filter(pc.invert(invalid)), rejected


def _video_ids(rows: pa.Table) -> list[str]:
    """Each row's `video_id`, or the URI that stands for it; empty for a row that has neither."""
    return [
        identity_uri(uri or "") if given is None else given
        for given, uri in zip(
            rows["video_id"].to_pylist(), rows["video_uri"].to_pylist(), strict=True
        )
    ]


def _expand(
    rows: pa.Table, spec: JobSpec, run: RunIdentity, passthrough: pa.Schema
) -> Iterator[pa.Table]:
    """One table for each prompt of a caption job, else one with the rows' own questions."""
    if rows.num_rows == 0:
        return
    public_uris = [identity_uri(uri) for uri in rows["video_uri"].to_pylist()]
    video_ids = _video_ids(rows)
    if spec.task == "caption":
        for prompt in spec.prompts:
            texts = _caption_texts(prompt.text, rows)
            ids = [prompt.prompt_id] * rows.num_rows
            own = replace(run, fingerprint=run.prompt_fingerprints[prompt.prompt_id])
            yield _request_table(
                rows, spec, own, passthrough, video_ids, public_uris, ids, texts, None
            )
        return
    questions = rows["question"].to_pylist()
    options = rows["options"].to_pylist() if spec.task == "multiple_choice" else None
    ids = [
        _content_id(question, rows["options"][i].as_py(), rows["answer"][i].as_py())
        if given is None
        else given
        for i, (given, question) in enumerate(
            zip(rows["question_id"].to_pylist(), questions, strict=True)
        )
    ]
    yield _request_table(
        rows, spec, run, passthrough, video_ids, public_uris, ids, questions, options
    )


def _caption_texts(text: str, rows: pa.Table) -> list[str]:
    names = column_names(text)
    if not names:
        return [fill_columns(text, {})] * rows.num_rows
    return [fill_columns(text, row) for row in rows.select(list(names)).to_pylist()]


def _request_table(
    rows: pa.Table,
    spec: JobSpec,
    run: RunIdentity,
    passthrough: pa.Schema,
    video_ids: list[str],
    public_uris: list[str],
    prompt_ids: list[str],
    prompts: list[str],
    options: list[list[str]] | None,
) -> pa.Table:
    starts, ends = rows["start_seconds"].to_pylist(), rows["end_seconds"].to_pylist()
    all_options: list[Any] = options if options is not None else [None] * rows.num_rows
    request_ids = [
        digest([run.fingerprint, *key])
        for key in zip(video_ids, starts, ends, prompt_ids, prompts, all_options, strict=True)
    ]
    num = rows.num_rows
    columns: dict[str, Any] = {
        "request_id": request_ids,
        "video_id": video_ids,
        "video_uri": public_uris,
        "start_seconds": rows["start_seconds"],
        "end_seconds": rows["end_seconds"],
        "prompt_id": prompt_ids,
        "task": pa.repeat(run.task, num),
        "prompt": prompts,
        "options": pa.array(all_options, pa.list_(pa.string())),
        "reference_answer": _reference_answers(rows, spec),
        "fingerprint": pa.repeat(run.fingerprint, num),
        "fetch_uri": _fetch_uris(rows["video_uri"], spec.videos.root),
    }
    columns |= {f.name: rows[str(manifest_name(f))] for f in passthrough}
    return pa.table(columns)


def _fetch_uris(uris: pa.ChunkedArray, root: str | None) -> pa.ChunkedArray | list[str]:
    """Where the bytes are: the URIs as written, relative ones under the job's root."""
    return uris if root is None else [join(root, uri) for uri in uris.to_pylist()]


def _reference_answers(rows: pa.Table, spec: JobSpec) -> pa.ChunkedArray:
    """The answers of the rows; the answer to a question is no reference for a caption."""
    if spec.task != "caption":
        return rows["answer"]
    return pc.if_else(pc.is_null(rows["question"]), rows["answer"], pa.scalar(None, pa.string()))


def _content_id(question: str, options: list[str] | None, answer: str | None) -> str:
    return "q-" + digest([question, options, answer])[:12]


def _as_in_manifest(row: dict[str, Any], passthrough: Sequence[str]) -> dict[str, Any]:
    """A row that was a request, its passthrough columns called as in the manifest.

    Without the columns that requests got later: what it is made into an id of stays.
    """
    first = {name: v for name, v in row.items() if name not in COLUMNS or COLUMNS[name].since == 1}
    values = {name: row[passthrough_name(name)] for name in passthrough}
    renamed = {passthrough_name(name) for name in passthrough} - values.keys()
    return {name: v for name, v in first.items() if name not in renamed} | values


def row_failure(
    row: dict[str, Any], code: str, why: str, spec: JobSpec, run: RunIdentity
) -> dict[str, Any]:
    """The failure row of a row of the manifest, or of a request; its id is a hash of the row."""
    failure = RequestFailure(code=code, message=why)
    passthrough = spec.manifest.passthrough
    if "request_id" in row:
        row = _as_in_manifest(row, passthrough)
    content = {k: v for k, v in row.items() if k not in ("row_number", "request_id")}
    uri = identity_uri(row["video_uri"] or "")
    reference = row.get("reference_answer") or row.get("answer")
    prompt_id = row.get("prompt_id") or row.get("question_id") or ""
    if not prompt_id and spec.prompts:
        prompt_id = spec.prompts[0].prompt_id
    return {
        **{passthrough_name(name): row[name] for name in passthrough},
        "request_id": digest([run.fingerprint, code, repr(sorted(content.items()))]),
        "video_id": row["video_id"] or uri,
        "video_uri": uri,
        "start_seconds": row["start_seconds"],
        "end_seconds": row["end_seconds"],
        "prompt_id": prompt_id,
        "task": run.task,
        "prompt": row.get("prompt") or row.get("question") or "",
        "options": row.get("options"),
        "reference_answer": reference,
        "clip_id": clip_id(row["video_id"] or uri, row["start_seconds"], row["end_seconds"]),
        "reference_answers": as_references(reference),
        "fingerprint": row.get("fingerprint")
        or run.prompt_fingerprints.get(prompt_id, run.fingerprint),
        "stage": failure.stage,
        "code": failure.code,
        "message": failure.message,
        "transient": failure.transient,
        "attempts": 1,
        "model_id": run.model_id,
        "model_revision": run.model_revision,
        "run_id": run.run_id,
    }


def _check_one_uri_a_video(table: pa.Table) -> None:
    pairs = table.select(["video_id", "video_uri"]).group_by(["video_id", "video_uri"])
    per_video = pairs.aggregate([]).group_by("video_id").aggregate([("video_uri", "count")])
    twice = per_video.filter(pc.greater(per_video["video_uri_count"], 1))
    if twice.num_rows:
        video_id = twice["video_id"][0].as_py()
        uris = table.filter(pc.equal(table["video_id"], video_id))["video_uri"].unique().to_pylist()
        more = f" ({twice.num_rows} such videos)" if twice.num_rows > 1 else ""
        raise ManifestError(
            f"video_id {video_id!r} stands for several URIs in the manifest, such as {uris[0]!r} "
            f"and {uris[1]!r}{more}; one video_id must mean one video"
        )


def _without_duplicates(table: pa.Table) -> tuple[pa.Table, int, list[dict[str, Any]]]:
    """Collapses equal rows; rows that share their key but differ otherwise are all taken out.

    Returns:
        the remaining rows, how many equal rows were collapsed, and the conflicting rows.
    """
    table = table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
    key = [*CLIP_KEY, "prompt_id"]
    counts = table.group_by(key).aggregate([(_ROW, "count"), (_ROW, "list")])
    repeated = counts.filter(pc.greater(counts[f"{_ROW}_count"], 1))
    dropped: list[int] = []
    conflicts: list[dict[str, Any]] = []
    num_collapsed = 0
    for rows in repeated[f"{_ROW}_list"].to_pylist():
        distinct: dict[str, tuple[int, dict[str, Any]]] = {}
        for index in sorted(rows):
            row = table.slice(index, 1).drop_columns(_ROW).to_pylist()[0]
            content = repr(row)
            if content in distinct:
                num_collapsed += 1
                dropped.append(index)
            else:
                distinct[content] = (index, row)
        if len(distinct) > 1:
            dropped += [index for index, _ in distinct.values()]
            conflicts += [row for _, row in distinct.values()]
    if dropped:
        gone = pc.is_in(table[_ROW], value_set=pa.array(dropped, pa.int64()))
        table = table.filter(pc.invert(gone))
    return table.drop_columns(_ROW), num_collapsed, conflicts


def _grouped(table: pa.Table) -> pa.Table:
    """Sorted by video in order of first appearance, then by clip, then as the manifest has it."""
    video = pc.dictionary_encode(table["video_id"].combine_chunks()).indices
    order = pa.table(
        {
            "video": video,
            "start": table["start_seconds"],
            "end": table["end_seconds"],
            _ROW: pa.array(range(table.num_rows), pa.int64()),
        }
    )
    indices = pc.sort_indices(
        order,
        sort_keys=[(name, "ascending", "at_start") for name in order.column_names],
    )
    return table.take(indices)
