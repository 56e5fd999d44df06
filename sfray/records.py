"""The rows that travel through a job.

A `Request` is one answer wanted, the unit of accounting. A `WorkItem` is one clip of one video
with all its requests: it is fetched, decoded and encoded once. A `DecodedItem` is a work item
with its frames, or with the failure that stands in their place. An `Answer` and a `Failure` are
what a request becomes. Work items and decoded items cross process borders as Arrow rows, frames
as one flat buffer, so that nothing is pickled on the way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from sfray.columns import COLUMNS
from sfray.errors import FAILURE_KINDS, RequestError
from sfray.redaction import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer wanted.

    `prompt` is the question as the manifest or the job file words it, before the template.
    `passthrough` maps the manifest's columns that reach the results to their values.
    """

    request_id: str
    prompt_id: str
    prompt: str
    options: tuple[str, ...] = ()
    reference_answer: str | None = None
    passthrough: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One clip of one video with all its requests.

    `video_uri` is the URI as results show it (without signature); `fetch_uri` is where the bytes
    are, resolved against the job's root. `attempt` counts from 1.
    """

    video_id: str
    video_uri: str
    fetch_uri: str
    start_seconds: float | None
    end_seconds: float | None
    requests: tuple[Request, ...]
    attempt: int = 1


# Start and end in seconds of each window of a clip, in order.
ClipWindows: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What is known of a video, as a viewer would see it: size after rotation, in pixels.

    `num_frames` is the number of displayed frames of the whole video; None where unknown.
    `declared_duration_seconds` is what the container says of the stream, true or not.
    """

    container: str | None = None
    codec: str | None = None
    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    rotation_degrees: int | None = None
    fps: float | None = None
    duration_seconds: float | None = None
    num_frames: int | None = None
    declared_duration_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSource:
    """What a video's bytes were; None where that is not known.

    `sha256` is known where all bytes passed through anyway, `etag` where the storage gives one.
    """

    size_bytes: int | None = None
    etag: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailure:
    """Why there is no answer. `stage` and `transient` follow from the code."""

    code: str
    message: str

    @classmethod
    def of(cls, error: RequestError) -> RequestFailure:
        return cls(code=error.code, message=str(error))

    @property
    def stage(self) -> str:
        return FAILURE_KINDS[self.code].stage

    @property
    def transient(self) -> bool:
        return FAILURE_KINDS[self.code].transient


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedVideo:
    """The frames of one clip and where they come from.

    Attributes:
        frames_THWC: uint8 RGB, resized to the square of the vision tower, C-contiguous.
        frame_indices: int64 (T,), of displayed frames, counted from the start of the video.
        pts_seconds: float64 (T,), presentation times from the start of the video.
    """

    frames_THWC: np.ndarray
    frame_indices: np.ndarray
    pts_seconds: np.ndarray
    facts: VideoFacts
    reader: str
    reader_reason: str
    num_substituted_frames: int = 0

    def __post_init__(self) -> None:
        if self.frames_THWC.ndim != 4 or self.frames_THWC.dtype != np.uint8:
            raise ValueError(
                f"frames must be uint8 (T, H, W, 3), not {self.frames_THWC.dtype} "
                f"{self.frames_THWC.shape}"
            )
        num_frames = len(self.frames_THWC)
        if len(self.frame_indices) != num_frames or len(self.pts_seconds) != num_frames:
            raise ValueError(
                f"{num_frames} frames, {len(self.frame_indices)} indices and "
                f"{len(self.pts_seconds)} timestamps must be equally many"
            )

    def __repr__(self) -> str:
        return f"DecodedVideo(frames_THWC={self.frames_THWC.shape}, reader={self.reader!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedItem:
    """A work item after the decode stage: its video, or the failure that all its requests share."""

    item: WorkItem
    video: DecodedVideo | None
    failure: RequestFailure | None
    source: VideoSource = VideoSource()
    bytes_fetched: int = 0
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What the model said to one prompt; `token_ids` without the prompt, with its end token.

    `answered_at` has a time zone.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    mean_logprob: float | None
    num_visual_tokens: int
    num_prompt_tokens: int
    model_seconds: float
    choice: str | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request: a generation or a failure, never both."""

    request: Request
    decoded: DecodedItem
    result: Generation | RequestFailure


@cache  # asked several times a row
def _columns_in(kind: type, prefix: str = "") -> tuple[str, ...]:
    """The attributes of a row's class that are columns of the results, which begin with `prefix`
    there."""
    return tuple(f.name for f in fields(kind) if prefix + f.name in COLUMNS)


def _columns_of(kind: type, prefix: str = "") -> list[pa.Field]:
    """The attributes of a row's class that are columns of the results, with the columns' types."""
    return [pa.field(name, COLUMNS[prefix + name].type) for name in _columns_in(kind, prefix)]


def _values_of(value: Any, prefix: str = "") -> dict[str, Any]:
    """The attributes of a row's value that are columns of the results, by column."""
    return {prefix + name: getattr(value, name) for name in _columns_in(value.__class__, prefix)}


REQUEST_COLUMNS = _columns_in(Request)


# Into which windows a clip was cut: `clip_id` hashes the clip and how it is cut.
WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("start_seconds", pa.list_(pa.float64()), nullable=False),
        pa.field("end_seconds", pa.list_(pa.float64()), nullable=False),
    ]
)

# What looking for windows gives: windows, or a failure in their place. `request_id` is the clip's.
FOUND_WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("start_seconds", pa.list_(pa.float64())),
        pa.field("end_seconds", pa.list_(pa.float64())),
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
    ]
)


def work_items_schema(passthrough: pa.Schema) -> pa.Schema:
    """One row a work item, its requests nested."""
    request_fields = _columns_of(Request)
    if len(passthrough):  # Parquet has no struct without members
        request_fields.append(pa.field("passthrough", pa.struct(list(passthrough))))
    request = pa.struct(request_fields)
    return pa.schema(
        [
            *_columns_of(WorkItem),
            pa.field("fetch_uri", pa.string()),
            pa.field("requests", pa.list_(request)),
            pa.field("attempt", pa.int32()),
        ]
    )


def decoded_items_schema(passthrough: pa.Schema) -> pa.Schema:
    """A work item with its frames as one flat buffer, or with its failure."""
    video = pa.struct(
        [
            *_columns_of(DecodedVideo),
            pa.field("pts_seconds", COLUMNS["frame_pts_seconds"].type),
            pa.field("shape", pa.list_(pa.int32())),
            pa.field("facts", pa.struct(_columns_of(VideoFacts, "video_"))),
        ]
    )
    return pa.schema(
        [
            pa.field("item", pa.struct(list(work_items_schema(passthrough)))),
            pa.field("video", video),
            pa.field("failure", pa.struct(_columns_of(RequestFailure))),
            pa.field("source", pa.struct(_columns_of(VideoSource, "video_"))),
            *_columns_of(DecodedItem),
            pa.field("frames", pa.large_binary()),
        ]
    )


def work_item_row(item: WorkItem) -> dict[str, Any]:
    """The row of `work_items_schema` for a work item."""
    return asdict(item)


def work_item_from_row(row: dict[str, Any]) -> WorkItem:
    """The work item of a row of `work_items_schema`."""
    requests = tuple(
        Request(**{**r, "options": tuple(r["options"] or ())}) for r in row["requests"]
    )
    return WorkItem(**{**row, "requests": requests})


def decoded_item_table(decoded: DecodedItem, schema: pa.Schema) -> pa.Table:
    """A table of `decoded_items_schema` with one row; frames are not copied.

    Arrow's own conversion would copy them into memory that is fresh each time, which costs more
    than all else that is done with them between processes.
    """
    video, failure = decoded.video, decoded.failure
    row = {
        "item": work_item_row(decoded.item),
        "video": None
        if video is None
        else {
            **_values_of(video),
            "frame_indices": video.frame_indices.tolist(),
            "pts_seconds": video.pts_seconds.tolist(),
            "shape": list(video.frames_THWC.shape),
            "facts": asdict(video.facts),
        },
        "failure": None if failure is None else asdict(failure),
        "source": asdict(decoded.source),
        **_values_of(decoded),
    }
    frames = pa.nulls(1, pa.large_binary()) if video is None else _one_binary(video.frames_THWC)
    index = schema.get_field_index("frames")
    table = pa.Table.from_pylist([row], schema=schema.remove(index))
    return table.add_column(index, schema.field(index), frames)


def decoded_item_from_table(table: pa.Table, index: int) -> DecodedItem:
    """The decoded item in one row of a table of `decoded_items_schema`; frames are not copied."""
    row = {name: table[name][index].as_py() for name in table.column_names if name != "frames"}
    video = None
    if (values := row.pop("video")) is not None:
        frames = _bytes_at(table["frames"], index)
        video = DecodedVideo(
            frames_THWC=frames.reshape(values.pop("shape")),
            frame_indices=np.asarray(values.pop("frame_indices"), dtype=np.int64),
            pts_seconds=np.asarray(values.pop("pts_seconds"), dtype=np.float64),
            facts=VideoFacts(**values.pop("facts")),
            **values,
        )
    failure = RequestFailure(**row["failure"]) if row["failure"] is not None else None
    item = work_item_from_row(row.pop("item"))
    source = VideoSource(**row.pop("source"))
    return DecodedItem(
        **{**row, "item": item, "video": video, "failure": failure, "source": source}
    )


def _one_binary(values: np.ndarray) -> pa.Array:
    """A large_binary array of one value, on the memory of a C-contiguous array."""
    offsets = np.array([0, values.nbytes], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.large_binary(), 1, buffers)


def _bytes_at(column: pa.ChunkedArray, index: int) -> np.ndarray:
    """One value of a large_binary column as uint8; Arrow's own scalars would copy it."""
    array = column.slice(index, 1).chunk(0)
    _, offsets, data = array.buffers()
    low, high = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + 2]
    return np.frombuffer(data, dtype=np.uint8)[low:high]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What every row of a run repeats.

    The job file's prompts have fingerprints of their own, by `prompt_id`.
    """

    run_id: str
    task: str
    fingerprint: str
    model_id: str
    model_revision: str | None
    prompt_fingerprints: dict[str, str] = field(default_factory=dict)


def clip_id(video_id: str, start_seconds: float | None, end_seconds: float | None) -> str:
    """The identity of a clip, whatever is asked of it and however it was cut."""
    # Adding 0.0 makes -0.0 the 0.0 that it is.
    bounds = [None if bound is None else bound + 0.0 for bound in (start_seconds, end_seconds)]
    return digest([video_id, *bounds])


def as_references(reference_answer: str | None) -> list[str] | None:
    """The value of `reference_answers` for a request with at most one."""
    return None if reference_answer is None else [reference_answer]


def digest(value: Any) -> str:
    """A short identity of a JSON-able value; 128 bits leave no room for chance collisions."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def outcome_row(outcome: Outcome, run: RunIdentity) -> dict[str, Any]:
    """The row of `outcomes_schema` for an outcome; columns that don't apply are absent."""
    request, decoded, result = outcome.request, outcome.decoded, outcome.result
    item = decoded.item
    row: dict[str, Any] = {
        **_values_of(run),
        **_values_of(item),
        **_values_of(request),
        **_values_of(decoded),
        **_values_of(decoded.source, "video_"),
        "options": list(request.options) or None,
        "reference_answers": as_references(request.reference_answer),
        "clip_id": clip_id(item.video_id, item.start_seconds, item.end_seconds),
        "attempts": item.attempt,
        "fingerprint": run.prompt_fingerprints.get(request.prompt_id, run.fingerprint),
        "video_resolved_uri": redact(item.fetch_uri),
        **request.passthrough,
        **_values_of(result),
    }
    if isinstance(result, RequestFailure):
        return row | {"stage": result.stage, "transient": result.transient}
    row["num_generated_tokens"] = len(result.token_ids)
    if (video := decoded.video) is not None:
        row |= _values_of(video) | _values_of(video.facts, "video_")
        row["frame_indices"] = video.frame_indices.tolist()
        row["frame_pts_seconds"] = video.pts_seconds.tolist()
    return row
