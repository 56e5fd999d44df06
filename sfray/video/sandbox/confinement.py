"""What a process that decodes strangers' files may not do: set once, before it sees a byte.

The network is out of reach by a namespace of its own and by the kernel's filter of system calls;
in containers that forbid the one, the other holds. Systems that aren't Linux have neither: there a
process is held by its limits, and by its parent's deadline.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time

from sfray.video.sandbox.system_calls import refuse_system_calls

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_MAX_OPEN_FILES = 128
_MAX_WRITTEN_BYTES = 2**20
_SECONDS_BETWEEN_LOOKS = 1.0

_libc = ctypes.CDLL(None, use_errno=True)


def confine(*, parent_pid: int, max_memory_bytes: int) -> list[str]:
    """Ties this process to its parent and takes from it what decoding doesn't need.

    Returns:
        What the system has no means for, in words.
    """
    on_linux = hasattr(_libc, "prctl")
    isolated = False
    if on_linux:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the line above
            os._exit(1)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        isolated = _leave_network()
        isolated |= refuse_system_calls()
    else:
        threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    lacks = [] if isolated else ["namespace and no filter of system calls"]
    for limit, value, name in (
        ("RLIMIT_AS", max_memory_bytes, "limit of memory"),
        ("RLIMIT_CORE", 0, "limit of core dumps"),
        ("RLIMIT_NOFILE", _MAX_OPEN_FILES, "limit of open files"),
        ("RLIMIT_FSIZE", _MAX_WRITTEN_BYTES, "limit of written bytes"),
    ):
        try:
            resource.setrlimit(getattr(resource, limit), (value, value))
        except (AttributeError, ValueError, OSError):
            # Not each system has each: macOS refuses the one of memory.
            if on_linux:
                raise
            lacks.append(name)
    return lacks


def limit_cpu_seconds(seconds: int) -> None:
    """Allows so many seconds of processor time from now on; more end the process (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _end_with(parent_pid: int) -> None:
    """Ends this process once its parent is gone, where the kernel doesn't."""
    while os.getppid() == parent_pid:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _leave_network() -> bool:
    """Moves to an empty network namespace, with the help of a user namespace where needed."""
    return any(
        _libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
