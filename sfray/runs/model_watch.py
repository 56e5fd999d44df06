"""A circuit breaker: ends a run whose model fails on nearly everything."""

from __future__ import annotations

from collections import deque

import pyarrow as pa

from sfray.errors import TooManyErrorsError

_WATCHED_OUTCOMES = 200
_BROKEN_SHARE = 0.9


class ModelWatch:
    """Looks at the last outcomes; a video that can't be decoded is no fault of the model."""

    def __init__(self) -> None:
        self._failures: deque[str | None] = deque(maxlen=_WATCHED_OUTCOMES)

    def see(self, outcomes: pa.Table) -> None:
        """Takes further outcomes, rows of `outcomes_schema`.

        Raises:
            TooManyErrorsError: nearly all of those watched failed in the model.
        """
        self._failures.extend(
            message if stage == "model" else None
            for stage, message in zip(
                outcomes["stage"].to_pylist(), outcomes["message"].to_pylist(), strict=True
            )
        )
        failed = [message for message in self._failures if message is not None]
        if len(failed) >= _BROKEN_SHARE * _WATCHED_OUTCOMES:
            raise TooManyErrorsError(
                f"{len(failed)} of the last {len(self._failures)} requests failed in the model, "
                f"the last with: {failed[-1]}"
            )
