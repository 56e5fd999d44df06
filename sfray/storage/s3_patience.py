"""Which answers of an S3 server are worth another try, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from sfray.storage.faults import explain

logger = logging.getLogger(__name__)

_MAX_WAIT_SECONDS = 15.0
# A single hiccup is not worth a line.
_TOLD_ATTEMPTS = (3, 6, 12, 24)
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)

T = TypeVar("T")


def patiently(request: Callable[[], T], patience_seconds: float) -> T:
    """The request's result; transient errors are tried again until patience ends."""
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.2, max=_MAX_WAIT_SECONDS),
        stop=stop_after_delay(patience_seconds),
        before_sleep=_log_retry,
        reraise=True,
    )
    return retrying(request)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number in _TOLD_ATTEMPTS:
        logger.warning("S3, attempt %d: %s; trying again", state.attempt_number, explain(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        status = http_status(error)
        return error.response["Error"]["Code"] in _TRANSIENT_CODES or (
            status == 429 or (status >= 500 and status != 501)
        )
    # A cut reply ends in one of these; ConnectionError is botocore's, not the builtin.
    return isinstance(
        error, ConnectionError | HTTPClientError | IncompleteReadError | ResponseParserError
    )


def http_status(error: ClientError) -> int:
    """The reply's HTTP status."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
