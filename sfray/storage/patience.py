"""The one retry policy of outputs, videos and checkpoints: backoff and jitter, for a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from sfray.storage.faults import explain

logger = logging.getLogger(__name__)

# A single hiccup is not worth a line.
_LOGGED_ATTEMPTS = (3, 6, 12, 24)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried again.

    Attributes:
        seconds: an attempt that fails so long after the first began is the last one, but the
            second always is made: the first may have spent all of the time waiting for an answer.
        max_wait_seconds: between one attempt and the next.
    """

    seconds: float = 300.0
    max_wait_seconds: float = 15.0


class ShortReadError(OSError):
    """An answer ended before all of its bytes had come."""

    def __str__(self) -> str:
        return "the connection broke off"


def patiently(
    request: Callable[[], T],
    is_transient: Callable[[BaseException], bool],
    patience: Patience,
    whose: str | None = None,
) -> T:
    """The request's result; transient errors are tried again until patience ends.

    Args:
        is_transient: whether the same request may succeed later. Answers that broke off always may.
        whose: whom the log names as faltering, such as `S3`. With None it is silent: what becomes
            of one video stands in its row.
    """
    retrying = Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, ShortReadError) or is_transient(error)
        ),
        wait=wait_random_exponential(multiplier=0.2, max=patience.max_wait_seconds),
        stop=stop_after_delay(patience.seconds) & stop_after_attempt(2),
        before_sleep=None if whose is None else partial(_log_retry, whose),
        reraise=True,
    )
    return retrying(request)


def _log_retry(whose: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number in _LOGGED_ATTEMPTS:
        number = state.attempt_number
        logger.warning("%s, attempt %d: %s; trying again", whose, number, explain(error))
