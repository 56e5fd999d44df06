"""How often a request is tried, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sfray.storage.patience import Patience, ShortReadError, patiently

AT_ONCE = 0.001


def failing(*errors: Exception, seconds: float = 0.0) -> tuple[Callable[[], int], list[int]]:
    """A request that raises these errors, one a call, and then returns how often it was called."""
    calls: list[int] = []

    def request() -> int:
        calls.append(len(calls))
        time.sleep(seconds)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return len(calls)

    return request, calls


def is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError)


def test_transient_errors_and_broken_answers_are_tried_again() -> None:
    request, _ = failing(TimeoutError(), ShortReadError(), TimeoutError())
    assert patiently(request, is_timeout, Patience(max_wait_seconds=AT_ONCE)) == 4


def test_other_errors_are_told_at_once() -> None:
    request, calls = failing(KeyError())
    with pytest.raises(KeyError):
        patiently(request, is_timeout, Patience())
    assert calls == [0]


def test_an_attempt_that_takes_all_of_the_time_is_not_the_only_one() -> None:
    patience = Patience(seconds=0.01, max_wait_seconds=AT_ONCE)
    request, _ = failing(TimeoutError(), seconds=0.02)
    assert patiently(request, is_timeout, patience) == 2
    request, calls = failing(*[TimeoutError()] * 3, seconds=0.02)
    with pytest.raises(TimeoutError):
        patiently(request, is_timeout, patience)
    assert calls == [0, 1]


def test_what_is_long_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    request, _ = failing(*[TimeoutError("it sleeps")] * 7)
    with caplog.at_level("WARNING", "sfray"):
        patiently(request, is_timeout, Patience(max_wait_seconds=AT_ONCE), "S3")
    assert [record.getMessage() for record in caplog.records] == [
        f"S3, attempt {number}: it sleeps; trying again" for number in (3, 6)
    ]
