"""The sandbox on systems that aren't Linux, by hiding what they lack from parent and child."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sfray.video.sandbox import parent as sandbox_module
from tests.unit.video.sandbox.test_parent import (
    VIDEO,
    WHOLE,
    Source,
    assert_killed_where_it_hangs,
    is_running,
    pid_of,
    sandbox_with,
)
from tests.waiting import wait_until

# As macOS, which refuses a limit of memory.
HIDING = """
import ctypes, resource
class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("prctl", "unshare"):
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = Library
set_limit = resource.setrlimit
def setrlimit(limit, values):
    if limit == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    set_limit(limit, values)
resource.setrlimit = setrlimit
"""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(sandbox_module, "_CHILD", HIDING + sandbox_module._CHILD)


@pytest.mark.usefixtures("elsewhere")
def test_it_decodes_with_what_the_system_has_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module.logger, "handlers", [caplog.handler])
    monkeypatch.setattr(sandbox_module.logger, "propagate", False)
    with sandbox_with(files_per_process=1) as sandbox:
        told, frames_THWC = sandbox.read_clip(Source(VIDEO), **WHOLE)
        first = pid_of(sandbox)
        by_range, by_range_THWC = sandbox.read_clip(Source(VIDEO, by_range=True), **WHOLE)
        pid = pid_of(sandbox)
        assert pid != first
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max open files            128 " in limits
        assert "Max file size             1048576 " in limits
        assert "Max core file size        0 " in limits
        assert "Max cpu time              unlimited" not in limits
        assert "Seccomp:\t0\n" in Path(f"/proc/{pid}/status").read_text()
        assert os.getsid(pid) == pid
    monkeypatch.undo()
    with sandbox_with() as sandbox:
        on_linux, on_linux_THWC = sandbox.read_clip(Source(VIDEO), **WHOLE)
    assert told == by_range == on_linux
    np.testing.assert_array_equal(frames_THWC, on_linux_THWC)
    np.testing.assert_array_equal(by_range_THWC, on_linux_THWC)
    ((level, line),) = [(record.levelno, record.getMessage()) for record in caplog.records]
    for words in ("limits, a deadline and a session", "no namespace", "no limit of memory"):
        assert words in line
    assert level == logging.WARNING


@pytest.mark.usefixtures("elsewhere")
def test_its_deadline_holds() -> None:
    with sandbox_with(timeout_seconds=6) as sandbox:
        assert_killed_where_it_hangs(sandbox)


def test_a_child_that_works_ends_with_its_parent() -> None:
    child = (
        f"{HIDING}\nimport os, time\n"
        "from sfray.video.sandbox.confinement import confine\n"
        "confine(parent_pid=os.getppid(), max_memory_bytes=2**32)\n"
        "print(os.getpid(), flush=True)\n"
        "while True: sum(range(1000))\n"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(2)
        assert is_running(pid), "no longer than its parent, but as long"
        parent.kill()
    wait_until(lambda: not is_running(pid), "the end of a child")


def test_on_linux_a_limit_that_is_refused_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = HIDING.partition("ctypes.CDLL = ")[0] + HIDING.partition("CDLL = Library")[2]
    monkeypatch.setattr(sandbox_module, "_CHILD", refusing + sandbox_module._CHILD)
    with sandbox_with() as sandbox, pytest.raises(sandbox_module.RunError, match="limit exceeds"):
        sandbox.probe(Source(VIDEO))
