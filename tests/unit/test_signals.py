"""Tests can be started in any way: from a shell's background too, where interrupts are ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Those of these signals that a new process ignores.
_SHOW = """
from signal import *
print(*(n.name for n in (SIGINT, SIGQUIT, SIGTERM) if getsignal(n) is SIG_IGN))
"""


def ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def test_what_tests_start_can_be_interrupted() -> None:
    shown = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _SHOW], check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == []


def test_so_can_it_where_a_shell_started_the_tests_in_the_background() -> None:
    name = test_what_tests_start_can_be_interrupted.__name__
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::{name}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=ignore_interrupts,
    )
    assert done.returncode == 0, done.stdout
