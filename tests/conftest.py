"""What every test leaves as it was."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest

from sfray.pipeline.logs import LogFormat, configure_logs


def pytest_configure() -> None:
    """A shell ignores these signals in what it starts in the background, and so would all that
    tests start: what is to be interrupted would go on for ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command run in the process of the tests takes sfray's log to itself."""
    logger = logging.getLogger("sfray")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    configure_logs(LogFormat.TEXT)
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
