"""Runs decoding in a process that may be killed: the parent's side.

The child gets a read-only descriptor or asks for ranges of bytes, and leaves frames in memory
that this side made and sized, so that nothing a child declares is allocated here. See `child`
and `confinement`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sfray.config import DecodeSpec, WindowsSpec
from sfray.errors import FAILURE_KINDS, RequestError, RunError
from sfray.video.sandbox.channel import Channel, ChannelError, Message
from sfray.video.sandbox.shared_frames import SharedFrames, nameless_file

logger = logging.getLogger(__name__)

_START_SECONDS = 120
# At most so many bytes are given at once, whatever a child asks for.
_MAX_RANGE_BYTES = 2**20
# What a decoder may print before it dies; the end of it is looked at.
_STDERR_TAIL_BYTES = 2000
_PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from sfray.video.sandbox.child import main; main()"
)
# Words of C and C++ libraries on their last breath.
_OUT_OF_MEMORY = (b"bad_alloc", b"MemoryError", b"Cannot allocate memory", b"out of memory")


class ByteSource(Protocol):
    """The bytes of one file, for a child to read."""

    @property
    def size(self) -> int: ...

    @property
    def descriptor(self) -> int | None:
        """A read-only descriptor, or None where bytes are to be asked for."""
        ...

    def read(self, offset: int, length: int, expected_end: int) -> bytes:
        """At most `length` bytes, less at the end of the file only; up to `expected_end` the rest
        will be asked for next."""
        ...


@dataclass(frozen=True, slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    channel: Channel
    stderr: int


class _KilledError(RequestError):
    """The child was ended from outside: nothing that a decoder does ends it so."""


class Sandbox:
    """One child process at a time, replaced when it dies, hangs or has served its files.

    Not for use by several threads at once.
    """

    def __init__(
        self, decode: DecodeSpec, num_frames: int, image_size: int, *, end_seconds: float = 5.0
    ) -> None:
        """
        Args:
            end_seconds: so long a child whose connection has closed may still take to be gone.
        """
        self._decode = decode
        self._end_seconds = end_seconds
        self._num_frames, self._image_size = num_frames, image_size
        self._frames = SharedFrames((num_frames, image_size, image_size, 3))
        # A child dies with the thread that started it: with one that lives as long as this.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox")
        self._child: _Running | None = None
        self._num_files = 0
        self._has_warned = False

    @property
    def child_pid(self) -> int | None:
        """The running child's process id."""
        return self._child.process.pid if self._child else None

    def probe(self, source: ByteSource) -> dict[str, Any]:
        """The values of `VideoFacts`; raises `RequestError`."""
        return self._run(source, {"act": "probe"})

    def find_windows(
        self,
        source: ByteSource,
        windows: WindowsSpec,
        *,
        start_seconds: float | None,
        end_seconds: float | None,
    ) -> list[tuple[float, float]]:
        """The windows of a clip, start and end in seconds each; raises as `read_clip`."""
        reply = self._run(
            source,
            {
                "act": "windows",
                "clip": {"start_seconds": start_seconds, "end_seconds": end_seconds},
                "windows": {
                    "seconds": windows.seconds,
                    "overlap_seconds": windows.overlap_seconds,
                    "min_scene_seconds": windows.min_scene_seconds,
                },
            },
        )
        return [(float(start), float(end)) for start, end in reply["windows"]]

    def read_clip(
        self,
        source: ByteSource,
        *,
        start_seconds: float | None,
        end_seconds: float | None,
        seek: str,
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Samples and decodes one clip.

        Returns:
            What `reading.read_clip` returns, and a copy of the frames, uint8 (T, S, S, 3).

        Raises:
            RequestError: with the code of what went wrong, the child's death included.
            RunError: no child can be started.
        """
        clip = {
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "num_frames": self._num_frames,
            "image_size": self._image_size,
            "seek": seek,
        }
        reply = self._run(
            source,
            {
                "act": "read",
                "clip": clip,
                "reader": self._decode.reader,
                "max_substituted_ratio": self._decode.max_substituted_ratio,
            },
        )
        count = len(reply["frame_indices"])
        if not 0 < count <= self._num_frames:
            raise RequestError("decode_crashed", f"the decoder's process told of {count} frames")
        return reply, self._frames.copy(count)

    def close(self) -> None:
        """Ends the child; the sandbox is of no use afterwards."""
        self._stop_child()
        self._starter.shutdown()
        self._frames.close()

    def _run(self, source: ByteSource, request: dict[str, Any]) -> dict[str, Any]:
        fields = request | {
            "size": source.size,
            "max_frame_pixels": self._decode.max_frame_pixels,
            "max_frames": self._decode.max_frames,
            "cpu_seconds": self._decode.timeout_seconds,
        }
        try:
            return self._ask_child(source, fields)
        except _KilledError:
            # Perhaps by a host short of memory, on which other work weighs as much: the file is
            # to blame if it happens again.
            return self._ask_child(source, fields)

    def _ask_child(self, source: ByteSource, fields: dict[str, Any]) -> dict[str, Any]:
        child = self._ready_child()
        self._num_files += 1
        try:
            return _result(self._converse(child, source, fields))
        except TimeoutError as error:
            self._stop_child()
            raise RequestError(
                "decode_timeout",
                f"decoding took longer than the {self._decode.timeout_seconds} s of"
                " decode.timeout_seconds",
            ) from error
        except ChannelError as error:
            raise self._obituary(child) from error

    def _ready_child(self) -> _Running:
        """A child that lives and has files left; no file is to blame for one that died waiting."""
        if self._child and (
            self._num_files >= self._decode.files_per_process
            or self._child.process.poll() is not None
        ):
            self._stop_child()
        return self._child or self._start()

    def _converse(self, child: _Running, source: ByteSource, fields: dict[str, Any]) -> Message:
        """The child's last word on a request, bytes given as it asks for them."""
        deadline = time.monotonic() + self._decode.timeout_seconds
        child.channel.send(fields, descriptor=source.descriptor)
        while True:
            message = self._receive(child, deadline)
            if "range" not in message.fields:
                return message
            offset, length, end = _range(message.fields["range"])
            began = time.monotonic()
            try:
                payload = source.read(offset, length, end)
            except BaseException:
                self._stop_child()  # it waits for bytes that won't come
                raise
            deadline += time.monotonic() - began  # the storage's time is not the decoder's
            child.channel.send({}, payload)

    def _receive(self, child: _Running, deadline: float) -> Message:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        child.channel.settimeout(left)
        message = child.channel.receive()
        if message.descriptor is not None:
            os.close(message.descriptor)
            raise ChannelError("an unasked-for descriptor")
        return message

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair()
        stderr = nameless_file("stderr")
        settings = {
            "socket_fd": theirs.fileno(),
            "frames_fd": self._frames.descriptor,
            "parent_pid": os.getpid(),
            "max_memory_bytes": self._decode.max_memory_bytes,
        }
        command = [
            sys.executable,
            "-I",
            "-c",
            _CHILD,
            json.dumps(_import_path()),
            json.dumps(settings),
        ]
        environment = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        # One thread each: the processes are what runs in parallel.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with theirs:
            process = self._starter.submit(
                subprocess.Popen,
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(theirs.fileno(), self._frames.descriptor),
                start_new_session=True,  # a Ctrl-C is for the parent to handle
            ).result()
        channel = Channel(ours)
        channel.settimeout(_START_SECONDS)
        self._num_files = 0
        running = self._child = _Running(process, channel, stderr)
        try:
            ready = channel.receive().fields
        except (ChannelError, TimeoutError) as error:
            # No file is to blame: every other one would fail alike.
            last_words = _tail(stderr).decode(errors="replace").strip().rpartition("\n")[2]
            self._stop_child()
            text = f"the decoding process can't be started: {last_words or 'no answer'}"
            raise RunError(text) from error
        self._warn_once(ready["lacks"])
        return running

    def _warn_once(self, lacks: list[str]) -> None:
        if lacks and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "this system (%s) gives decoding processes limits, a deadline and a session of "
                "their own, but no %s: code that takes one over by a broken video could reach the "
                "network",
                sys.platform,
                ", no ".join(lacks),
            )

    def _stop_child(self) -> None:
        if self._child is None:
            return
        child, self._child = self._child, None
        with contextlib.suppress(ProcessLookupError):
            child.process.kill()
        child.process.wait()
        child.channel.close()
        os.close(child.stderr)

    def _obituary(self, child: _Running) -> RequestError:
        """The failure of a child that went away, by how it did."""
        try:
            # Its connection closes a moment before it can be waited for.
            status = child.process.wait(timeout=self._end_seconds)
        except subprocess.TimeoutExpired:
            status = None
        tail = _tail(child.stderr)
        self._stop_child()
        if status == -signal.SIGXCPU:
            text = f"decoding took more processor time than {self._decode.timeout_seconds} s"
            return RequestError("decode_timeout", text)
        if any(words in tail for words in _OUT_OF_MEMORY):
            text = "decoding exceeded its limit of memory (decode.max_memory_bytes)"
            return RequestError("decode_out_of_memory", text)
        kind = _KilledError if status == -signal.SIGKILL else RequestError
        return kind("decode_crashed", f"the decoder's process {_how(status)}")


def _range(span: Any) -> tuple[int, int, int]:
    """Offset, length and expected end, as `ByteSource.read` takes them."""
    try:
        offset, length, end = (int(number) for number in span)
        if offset < 0:
            raise ValueError(offset)
    except (TypeError, ValueError, OverflowError) as error:  # JSON knows infinity
        raise ChannelError("a range of bytes that is none") from error
    return offset, min(length, _MAX_RANGE_BYTES), end


def _result(message: Message) -> dict[str, Any]:
    if isinstance(result := message.fields.get("result"), dict):
        return result
    failure = message.fields.get("failure")
    if not isinstance(failure, dict) or failure.get("code") not in FAILURE_KINDS:
        raise ChannelError("an answer that is neither a result nor a failure")
    raise RequestError(failure["code"], str(failure.get("message")))


def _how(status: int | None) -> str:
    if status is None:
        return "broke the protocol"
    if status >= 0:
        return f"ended with exit code {status}"
    return f"was killed: {signal.strsignal(-status)}"


def _tail(stderr: int) -> bytes:
    size = os.fstat(stderr).st_size
    return os.pread(stderr, _STDERR_TAIL_BYTES, max(0, size - _STDERR_TAIL_BYTES))


def _import_path() -> list[str]:
    """This process's import path, relative entries resolved: a child starts elsewhere."""
    return [str(Path(entry).absolute()) for entry in sys.path]
