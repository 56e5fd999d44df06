"""What a process that decodes strangers' files may not do: set once, before it sees a byte.

The network is out of reach by a namespace of its own and by the kernel's filter of system calls;
in containers that forbid the one, the other holds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from sfray.video.sandbox.system_calls import refuse_system_calls

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_MAX_OPEN_FILES = 128
_MAX_WRITTEN_BYTES = 2**20

_libc = ctypes.CDLL(None, use_errno=True)


def confine(*, parent_pid: int, max_memory_bytes: int) -> bool:
    """Ties this process to its parent and takes from it what decoding doesn't need.

    Returns:
        Whether the process is cut off from the network.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent died before the line above
        os._exit(1)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    isolated = _leave_network()
    isolated |= refuse_system_calls()
    for limit, value in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, _MAX_WRITTEN_BYTES),
    ):
        resource.setrlimit(limit, (value, value))
    return isolated


def limit_cpu_seconds(seconds: int) -> None:
    """Allows so many seconds of processor time from now on; more end the process (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _leave_network() -> bool:
    """Moves to an empty network namespace, with the help of a user namespace where needed."""
    return any(
        _libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
