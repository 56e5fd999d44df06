"""A filter of the kernel's (seccomp) for processes that decode: what they never need is refused.

It needs no rights, so that it holds in containers too, where namespaces are often forbidden. A
process keeps the sockets and files that it was started with. See seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import platform
from collections.abc import Sequence

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_KILL = 0x80000000

# Instructions of the kernel's packet filter, and where a call's number and architecture lie.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
# x86-64 numbers from here on are the same calls again, in another convention (x32).
_X32_CALLS = 0x40000000

# By machine: its name in the kernel's audit, and the numbers of
# socket, io_uring_setup (makes sockets too); execve, execveat; ptrace, process_vm_readv,
# process_vm_writev, pidfd_getfd; kill, rt_sigqueueinfo, pidfd_send_signal; add_key, request_key,
# keyctl. A process still ends itself with tgkill.
_MACHINES = {
    "x86_64": (0xC000003E, (41, 425, 59, 322, 101, 310, 311, 438, 62, 129, 424, 248, 249, 250)),
    "aarch64": (0xC00000B7, (198, 425, 221, 281, 117, 270, 271, 438, 129, 138, 424, 217, 218, 219)),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def refuse_system_calls() -> bool:
    """Makes new sockets, other programs, other processes and keys out of reach, for good.

    Call it before threads are started and after `PR_SET_NO_NEW_PRIVS`.

    Returns:
        Whether the filter is in place; not on other machines than x86-64 and aarch64, nor where
        the kernel has no filters.
    """
    known = _MACHINES.get(platform.machine())
    if known is None:
        return False
    instructions = _filter(*known)
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    libc = ctypes.CDLL(None, use_errno=True)
    set_to = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    return bool(set_to == 0)


def _filter(architecture: int, refused: Sequence[int]) -> list[_Instruction]:
    """Jumps count the instructions that they leave out."""
    num_tests = len(refused) + 1
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _Instruction(_IF_EQUAL, 1, 0, architecture),
        _Instruction(_RETURN, 0, 0, _KILL),
        _Instruction(_LOAD, 0, 0, _NUMBER_AT),
        _Instruction(_IF_AT_LEAST, num_tests, 0, _X32_CALLS),
        *(
            _Instruction(_IF_EQUAL, num_tests - 1 - position, 0, number)
            for position, number in enumerate(refused)
        ),
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE),
    ]
