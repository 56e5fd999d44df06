"""Messages between the parent and the child that decodes: JSON, raw bytes, file descriptors.

Nothing is unpickled. A message is a header of fixed size, then JSON, then raw bytes.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

_HEADER = struct.Struct("!II")
_MAX_JSON_BYTES = 64 * 2**20
_MAX_PAYLOAD_BYTES = 64 * 2**20


class ChannelError(Exception):
    """The other side is gone, or says what the protocol doesn't know."""


@dataclass(frozen=True, slots=True)
class Message:
    """`fields` as JSON carries them, raw bytes, and a descriptor that came along."""

    fields: dict[str, Any]
    payload: bytes = b""
    descriptor: int | None = field(default=None)


class Channel:
    """One end of a stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def settimeout(self, seconds: float | None) -> None:
        """Sends and receives raise `TimeoutError` after so many seconds without progress."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        self._socket.close()

    def send(
        self, fields: dict[str, Any], payload: bytes = b"", descriptor: int | None = None
    ) -> None:
        """Raises `ChannelError` where the other side is gone."""
        text = json.dumps(fields).encode()
        header = _HEADER.pack(len(text), len(payload))
        try:
            # A descriptor travels with the first bytes.
            if descriptor is None:
                self._socket.sendall(header)
            else:
                socket.send_fds(self._socket, [header], [descriptor])
            self._socket.sendall(text)
            if payload:
                self._socket.sendall(payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelError("the other side is gone") from error

    def receive(self) -> Message:
        """Raises `ChannelError` where the other side is gone or breaks the protocol."""
        try:
            first, descriptors, _, _ = socket.recv_fds(self._socket, _HEADER.size, 1)
            if not first:
                raise ChannelError("the other side is gone")
            header = first + self._exactly(_HEADER.size - len(first))
            num_json, num_payload = _HEADER.unpack(header)
            if num_json > _MAX_JSON_BYTES or num_payload > _MAX_PAYLOAD_BYTES:
                raise ChannelError("a message exceeds its limit of bytes")
            fields = json.loads(self._exactly(num_json))
            payload = self._exactly(num_payload)
        except ConnectionResetError as error:
            raise ChannelError("the other side is gone") from error
        except ValueError as error:
            raise ChannelError("a message is no JSON") from error
        if not isinstance(fields, dict):
            raise ChannelError("a message is no JSON object")
        return Message(fields, payload, descriptors[0] if descriptors else None)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(min(count - len(parts), 2**20))
            if not part:
                raise ChannelError("the other side is gone")
            parts += part
        return bytes(parts)
