"""The outcomes of requests that came through no stage."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from sfray.columns import outcomes_schema
from sfray.planning.work_items import work_item_blocks
from sfray.records import (
    DecodedItem,
    Outcome,
    RequestFailure,
    RunIdentity,
    outcome_row,
    work_item_from_row,
)


def failed_outcomes(
    requests: pa.Table,
    failures: Iterable[RequestFailure | None],
    run: RunIdentity,
    passthrough: pa.Schema,
    attempt: int,
) -> pa.Table:
    """Rows of `outcomes_schema` of requests, given each clip's failure.

    Args:
        requests: sorted so that the requests of one clip are adjacent.
        failures: one a clip; the requests of a clip with None have no row.
    """
    rows = []
    blocks = work_item_blocks(requests, passthrough, 1, attempt)
    for block, failure in zip(blocks, failures, strict=False):
        if failure is None:
            continue
        item = work_item_from_row(block.to_pylist()[0])
        decoded = DecodedItem(item=item, video=None, failure=failure)
        rows += [
            outcome_row(Outcome(request=request, decoded=decoded, result=failure), run)
            for request in item.requests
        ]
    return pa.Table.from_pylist(rows, schema=outcomes_schema(passthrough))
