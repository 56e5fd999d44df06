"""How the kernel schedules this thread, for work with libraries that change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_scheduling() -> Iterator[None]:
    """Gives the thread its scheduling back.

    The SVT-AV1 encoder of a superuser raises the thread that opens it to real time, and with it
    every process that the thread starts later: a Ray cluster that starves all else.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
