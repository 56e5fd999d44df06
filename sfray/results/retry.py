"""Which failed requests are to be tried again."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sfray.errors import FAILURE_KINDS, SpecError, did_you_mean


def ids_to_retry(
    failures: pa.Table, codes: Sequence[str] = (), *, transient: bool = False
) -> pa.ChunkedArray:
    """The requests whose latest failure is chosen; without a choice, all of them.

    Args:
        failures: `request_id, code, transient` of the latest failures, as `Progress` has them.
        codes: only failures with one of these codes.
        transient: only failures that can pass by themselves.

    Raises:
        SpecError: a code that doesn't exist.
    """
    for code in codes:
        if code not in FAILURE_KINDS:
            allowed = ", ".join(FAILURE_KINDS)
            near = did_you_mean(code, FAILURE_KINDS)
            raise SpecError(f"the failure code {code!r} does not exist{near}; allowed: {allowed}")
    chosen = failures
    if codes:
        wanted = pa.array(list(codes), pa.string())
        chosen = chosen.filter(pc.is_in(chosen["code"], value_set=wanted))
    if transient:
        chosen = chosen.filter(chosen["transient"])
    return chosen["request_id"]
