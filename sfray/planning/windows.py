"""Jobs that cut clips into windows: what a manifest asks of a clip is asked of each window.

Windows are found by opening the videos, and logged before any is decoded for its answers. A clip
whose windows are not known, or can't be found, is one window, itself. Its requests have the ids
of a first window's, so that what failed once is asked for once when it is cut later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sfray.config import StorageSpec, WindowsSpec
from sfray.planning.plan import JobPlan
from sfray.planning.planned_requests import digest
from sfray.planning.work_items import clip_starts
from sfray.results.partitioning import log_uris
from sfray.results.run_files import run_windows
from sfray.storage.folders import open_folder

_BOUNDS = ("start_seconds", "end_seconds")


def with_windows(plan: JobPlan, windows: pa.Table, limit: int | None = None) -> JobPlan:
    """The plan with a request for each window in place of those for whole clips.

    Args:
        plan: as the manifest has it.
        windows: of `WINDOWS_SCHEMA`; a clip that is not among them is one window.
        limit: only the first so many requests.
    """
    table = plan.requests.table
    edges, ids = _clips(plan)
    index_of = {clip_id: index for index, clip_id in enumerate(windows["clip_id"].to_pylist())}
    starts_of, ends_of = (windows[name].to_pylist() for name in _BOUNDS)
    whole_starts, whole_ends = (table[name].take(edges[:-1]).to_pylist() for name in _BOUNDS)
    rows: list[int] = []
    numbers: list[int] = []
    bounds: list[tuple[float | None, float | None]] = []
    for clip, clip_id in enumerate(ids):
        index = index_of.get(clip_id)
        starts = [whole_starts[clip]] if index is None else starts_of[index]
        ends = [whole_ends[clip]] if index is None else ends_of[index]
        for number, window in enumerate(zip(starts, ends, strict=True)):
            of_clip = range(edges[clip], edges[clip + 1])
            rows += of_clip
            numbers += [number] * len(of_clip)
            bounds += [window] * len(of_clip)
    taken = table.take(pa.array(rows, pa.int64()))
    request_ids = _window_ids(taken, numbers)
    taken = _with_column(taken, "request_id", request_ids)
    for side, name in enumerate(_BOUNDS):
        taken = _with_column(taken, name, [window[side] for window in bounds])
    requests = replace(plan.requests, table=taken)
    return replace(plan, requests=requests if limit is None else requests.first(limit))


def uncut_requests(plan: JobPlan, windows: pa.Table) -> pa.Table:
    """The requests of clips whose windows are not known, as `with_windows` has them."""
    edges, ids = _clips(plan)
    known = pc.is_in(pa.array(ids, pa.string()), value_set=windows["clip_id"])
    unknown = np.repeat(~known.to_numpy(zero_copy_only=False), np.diff(edges))
    table = plan.requests.table.filter(pa.array(unknown))
    return _with_column(table, "request_id", _window_ids(table, [0] * table.num_rows))


def asked_ids(plan: JobPlan, output: str, storage: StorageSpec) -> pa.ChunkedArray:
    """The ids of all that a plan asks for, by the windows that an output's runs have found."""
    if plan.spec.sampling.windows is not None:
        logs = [open_folder(log, storage) for log in log_uris(output, storage)]
        plan = with_windows(plan, pa.concat_tables([run_windows(log) for log in logs]))
    ids = [table["request_id"] for table in (plan.requests.table, plan.requests.failures)]
    return pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())


def clips_of(requests: pa.Table, windows: WindowsSpec) -> pa.Table:
    """One row for each clip of some uncut requests, the clip's id in place of the request's."""
    clips = requests.take(clip_starts(requests))
    return _with_column(clips, "request_id", clip_ids(clips, windows))


def _clips(plan: JobPlan) -> tuple[np.ndarray, list[str]]:
    """Where each clip of the plan begins in its table and the last one ends, and the clips' ids."""
    table = plan.requests.table
    edges = np.append(clip_starts(table), table.num_rows)
    return edges, clip_ids(table.take(edges[:-1]), plan.spec.sampling.windows)


def clip_ids(clips: pa.Table, windows: WindowsSpec | None) -> list[str]:
    """The identity of each clip and how it is cut; neither prompt nor model matters."""
    how = windows and windows.identity()
    keys = [clips[name].to_pylist() for name in ("video_id", *_BOUNDS)]
    return [digest([how, *key]) for key in zip(*keys, strict=True)]


def _window_ids(requests: pa.Table, numbers: list[int]) -> list[str]:
    ids = requests["request_id"].to_pylist()
    return [digest([request_id, number]) for request_id, number in zip(ids, numbers, strict=True)]


def _with_column(table: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    position = table.schema.get_field_index(name)
    field = table.schema.field(position)
    return table.set_column(position, field, pa.array(values, field.type))
