"""How long an S3 output is waited for."""

from __future__ import annotations

from dataclasses import dataclass

from sfray.storage.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Terms:
    """The times of an S3 output.

    Attributes:
        read_timeout_seconds: for the answer to one request.
        patience: with a server that falters, before a run gives up.
        first_patience: before an output is found unreachable.
        lease_seconds: a lease that isn't renewed for so long is free.
    """

    read_timeout_seconds: float = 60.0
    patience: Patience = Patience()
    first_patience: Patience = Patience(seconds=15.0)
    lease_seconds: float = 30.0
