"""The process that probes and decodes: takes requests from its parent, one after the other.

It imports what decoding needs and no more, so that it starts fast. A `RequestError` is an answer;
any other exception ends the process, and its parent reports it as crashed.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
from functools import partial
from typing import Any

from sfray.video.sandbox.confinement import confine, limit_cpu_seconds


def main() -> None:
    """Serves requests until the parent closes the connection."""
    settings: dict[str, int] = json.loads(sys.argv[2])
    lacks = confine(
        parent_pid=settings["parent_pid"], max_memory_bytes=settings["max_memory_bytes"]
    )

    # Imported here, not above: numpy starts threads, and namespaces are left by one thread only.
    from sfray.video.sandbox.channel import Channel, ChannelError

    channel = Channel(socket.socket(fileno=settings["socket_fd"]))
    frames = mmap.mmap(settings["frames_fd"], 0)
    child = _Child(channel, frames)
    child.load()
    try:
        channel.send({"ready": True, "lacks": lacks})
        while True:
            child.serve_one()
    except ChannelError:
        os._exit(0)  # the parent is done; nothing here needs an orderly end


class _Child:
    def __init__(self, channel: Any, frames: mmap.mmap) -> None:
        self._channel = channel
        self._frames = frames

    def load(self) -> None:
        """Imports the decoders, so that the first file does not pay for it."""

    def serve_one(self) -> None:
        message = self._channel.receive()
        request = message.fields
        limit_cpu_seconds(request["cpu_seconds"])
        source = message.descriptor
        try:
            answer = self._answer(
                RangeReader(self._channel, request["size"]) if source is None else source, request
            )
        finally:
            if source is not None:
                os.close(source)
        self._channel.send(answer)

    def _answer(self, source: Any, request: dict[str, Any]) -> dict[str, Any]:
        from sfray.errors import RequestError

        acts = {"probe": self._probe, "windows": self._windows, "read": self._read}
        try:
            return {"result": acts[request["act"]](source, request)}
        except RequestError as error:
            return {"failure": {"code": error.code, "message": str(error)}}
        except MemoryError:
            text = "decoding exceeded its limit of memory (decode.max_memory_bytes)"
            return {"failure": {"code": "decode_out_of_memory", "message": text}}

    def _probe(self, source: Any, request: dict[str, Any]) -> dict[str, Any]:
        from sfray.video.container import open_video
        from sfray.video.readers.probe import probe

        return probe(partial(open_video, source, **_limits(request)))

    def _windows(self, source: Any, request: dict[str, Any]) -> dict[str, Any]:
        from sfray.video.container import open_video
        from sfray.video.readers.windows import find_windows

        opener = partial(open_video, source, **_limits(request))
        return {"windows": find_windows(opener, **request["clip"], **request["windows"])}

    def _read(self, source: Any, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        from sfray.video.readers.pyav import ClipRequest
        from sfray.video.readers.reading import read_clip

        clip = ClipRequest(**(request["clip"] | _limits(request)))
        shape = (clip.num_frames, clip.image_size, clip.image_size, 3)
        frames_THWC = np.frombuffer(self._frames, dtype=np.uint8, count=int(np.prod(shape)))
        return read_clip(
            source,
            clip,
            reader=request["reader"],
            max_substituted_ratio=request["max_substituted_ratio"],
            frames_THWC=frames_THWC.reshape(shape),
        )


def _limits(request: dict[str, Any]) -> dict[str, int]:
    return {name: request[name] for name in ("max_frame_pixels", "max_frames")}


class RangeReader:
    """A file whose bytes the parent has; asked for range by range."""

    def __init__(self, channel: Any, size: int) -> None:
        self._channel = channel
        self._size = size
        self._position = 0
        self._expected = (0, 0)

    def read(self, size: int) -> bytes:
        size = max(0, min(size, self._size - self._position))
        if not size:
            return b""
        low, high = self._expected
        end = high if low <= self._position < high else 0
        self._channel.send({"range": [self._position, size, end]})
        payload: bytes = self._channel.receive().payload
        self._position += len(payload)
        return payload

    def expect(self, low: int, high: int) -> None:
        """Says that these bytes will be read in sequence, so that they are fetched at once."""
        self._expected = (low, high)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


if __name__ == "__main__":
    main()
