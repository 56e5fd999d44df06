"""From requests to work items: joins by id, one row a clip with its requests, cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sfray.planning.planned_requests import CLIP_KEY
from sfray.records import REQUEST_COLUMNS, work_items_schema
from sfray.storage.uris import from_here


def work_item_blocks(
    requests: pa.Table,
    passthrough: pa.Schema,
    items_per_block: int,
    attempt: int,
    num_workers: int | None = None,
) -> Iterator[pa.Table]:
    """Tables of `work_items_schema` with at most `items_per_block` rows each.

    Args:
        requests: sorted so that the requests of one clip are adjacent (`PlannedRequests.table`).
        attempt: which attempt at these requests this is, from 1.
        num_workers: who takes the blocks. Towards the end they become smaller, so that all workers
            end together: a quarter of a worker's share of what is left.
    """
    # One for all blocks: each would weigh more than the block's rows.
    schema = work_items_schema(passthrough)
    starts = clip_starts(requests)
    bounds = np.append(starts, requests.num_rows)
    first = 0
    while first < len(starts):
        size = items_per_block
        if num_workers is not None:
            size = min(size, max(1, (len(starts) - first) // (4 * num_workers)))
        block_bounds = bounds[first : first + size + 1]
        first += size
        low, high = int(block_bounds[0]), int(block_bounds[-1])
        rows = requests.slice(low, high - low).combine_chunks()
        yield _block(rows, schema, passthrough, block_bounds - low, attempt)


def clip_starts(requests: pa.Table) -> np.ndarray:
    """int64, the index of the first request of each clip."""
    if requests.num_rows == 0:
        return np.empty(0, dtype=np.int64)
    changed = np.zeros(requests.num_rows, dtype=bool)
    changed[0] = True
    for name in CLIP_KEY:
        column = requests[name].combine_chunks()
        codes = pc.dictionary_encode(column, null_encoding="encode").indices
        values = codes.to_numpy(zero_copy_only=False)
        changed[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(changed)


def request_ids(table: pa.Table) -> set[str]:
    """The `request_id`s of a table."""
    return set(table["request_id"].to_pylist())


def semi_join(table: pa.Table, ids: set[str]) -> pa.Table:
    """The rows of the requests with these ids."""
    kept = pc.is_in(table["request_id"], value_set=pa.array(list(ids), pa.string()))
    # A new job keeps the planned table as it is, the largest thing that the driver holds.
    return table if pc.all(kept).as_py() else table.filter(kept)


def anti_join(table: pa.Table, ids: pa.ChunkedArray | pa.Array | None) -> pa.Table:
    """The rows of all requests but those with these ids; None stands for no ids."""
    if ids is None:
        return table
    gone = pc.is_in(table["request_id"], value_set=ids)
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def _block(
    rows: pa.Table, schema: pa.Schema, passthrough: pa.Schema, bounds: np.ndarray, attempt: int
) -> pa.Table:
    request_type = schema.field("requests").type.value_type
    members = [rows[name].combine_chunks() for name in REQUEST_COLUMNS]
    if len(passthrough):
        extra = [rows[name].combine_chunks() for name in passthrough.names]
        members.append(pa.StructArray.from_arrays(extra, fields=list(passthrough)))
    requests = pa.StructArray.from_arrays(members, fields=list(request_type))
    first = pa.array(bounds[:-1])
    of_clips = schema.names[: schema.get_field_index("requests")]
    clips = rows.select(of_clips).take(first)
    # Workers may run in another folder. The plan keeps what the manifest says: ids hash it.
    fetch_uris = [from_here(uri) for uri in clips["fetch_uri"].to_pylist()]
    columns = [fetch_uris if name == "fetch_uri" else clips[name] for name in of_clips]
    nested = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), requests)
    attempts = pa.repeat(pa.scalar(attempt, pa.int32()), len(first))
    return pa.table([*columns, nested, attempts], schema=schema)
