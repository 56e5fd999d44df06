"""Messages over a socket, also from a side that lies."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfray.video.sandbox.channel import Channel, ChannelError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield Channel(ours), theirs


def test_fields_bytes_and_a_descriptor_arrive(
    ends: tuple[Channel, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    ours, theirs = ends[0], Channel(ends[1])
    with (tmp_path / "a").open("rb") as file:
        ours.send({"act": "probe"}, b"raw", descriptor=file.fileno())
    message = theirs.receive()
    assert (message.fields, message.payload) == ({"act": "probe"}, b"raw")
    assert message.descriptor is not None
    assert os.read(message.descriptor, 100) == b"content"
    os.close(message.descriptor)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\x00",
        struct.pack("!II", 2**31, 0),
        struct.pack("!II", 2, 2**31) + b"{}",
        struct.pack("!II", 4, 0) + b"nope",
        struct.pack("!II", 2, 0) + b"[]",
        struct.pack("!II", 2, 0) + b"\xff\xff",
        struct.pack("!II", 2, 10) + b"{}short",
    ],
)
def test_what_breaks_the_protocol_is_told(ends: tuple[Channel, socket.socket], sent: bytes) -> None:
    channel, theirs = ends
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(ChannelError):
        channel.receive()


def test_a_side_that_is_gone(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.close()
    with pytest.raises(ChannelError):
        for _ in range(100):
            channel.send({"x": "y" * 100_000})
