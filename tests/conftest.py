"""What every test leaves as it was."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

# Read when ray is imported: a thread that outlives its job would start another Ray.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

from sfray.telemetry.logs import LogFormat, configure_logs

if find_spec("hypothesis"):  # not in the fast engine's environment
    from hypothesis import settings

    # A test is not slow because the machine is busy.
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")


def pytest_configure() -> None:
    """A shell ignores the first two in what it starts in the background, others may ignore the
    third, and so would all that tests start: what is to be interrupted would go on for ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_rays() -> Iterator[None]:
    """A Ray that tests start is found by them alone, and they find no other of this machine."""
    # Short, since it holds Unix sockets, whose paths have room for 107 bytes.
    folder = tempfile.mkdtemp(prefix="sfray-")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_TMPDIR", folder)
        # Else whatever else the machine does starves the workers, which Ray makes nice to all.
        patch.setenv("RAY_worker_niceness", "0")
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command run in the process of the tests takes sfray's log to itself."""
    logger = logging.getLogger("sfray")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    configure_logs(LogFormat.TEXT)
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
