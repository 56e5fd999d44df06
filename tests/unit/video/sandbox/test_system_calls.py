"""The kernel's filter, in processes that have it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PRELUDE = """
import ctypes, os, signal, socket, threading
from sfray.video.sandbox.system_calls import refuse_system_calls
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert refuse_system_calls()
"""


def run_filtered(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + script]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603


@pytest.mark.parametrize(
    "call",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "os.execv('/bin/true', ['true'])",
        f"os.kill({os.getpid()}, signal.SIGTERM)",
        "threading.Thread(target=socket.socket).start() or socket.socket()",
    ],
)
def test_what_decoding_never_needs_is_refused(call: str) -> None:
    done = run_filtered(f"try:\n    {call}\nexcept PermissionError:\n    print('refused')")
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another convention of x86-64")
def test_the_same_calls_by_other_numbers_are_refused() -> None:
    done = run_filtered("print(libc.syscall(0x40000000 + 41, 2, 1, 0), ctypes.get_errno())")
    assert done.stdout == "-1 1\n", done.stderr


def test_threads_files_and_memory_are_as_before() -> None:
    script = (
        "thread = threading.Thread(target=lambda: print(open('/proc/self/comm').read() != ''))\n"
        "thread.start(); thread.join(); print(len(bytes(10**8)))\n"
    )
    assert run_filtered(script).stdout == "True\n100000000\n"


def test_a_process_still_ends_itself() -> None:
    assert run_filtered("os.abort()").returncode == -signal.SIGABRT
