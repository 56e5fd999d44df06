from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfray.errors import RequestError
from sfray.video.sandbox.shared_frames import SharedFrames, nameless_file

SHAPE = (4, 64, 64, 3)


@pytest.fixture(params=["memfd", "no memfd", "no seals"])
def frames(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SharedFrames]:
    if request.param == "no memfd":
        monkeypatch.delattr(os, "memfd_create")
    elif request.param == "no seals":
        monkeypatch.delattr("fcntl.F_ADD_SEALS")
    frames = SharedFrames(SHAPE)
    yield frames
    frames.close()


def test_what_is_written_is_read_and_stays_as_it_was(frames: SharedFrames) -> None:
    written = np.arange(np.prod(SHAPE), dtype=np.uint32).astype(np.uint8).reshape(SHAPE)
    child = mmap.mmap(frames.descriptor, 0)
    child[:] = written.tobytes()
    copies = [frames.copy(count) for count in (1, 3, 4)]
    child[:] = bytes(written.nbytes)
    for copy in copies:
        np.testing.assert_array_equal(copy, written[: len(copy)])
        copy[:] = 0


def test_a_child_that_takes_the_memory_away_costs_its_file_only(frames: SharedFrames) -> None:
    """Or can't: a mapping that were shrunk would end the process that reads it."""
    try:
        os.ftruncate(frames.descriptor, 5000)
    except PermissionError:
        assert frames.copy(4).shape == SHAPE
        return
    with pytest.raises(RequestError) as raised:
        frames.copy(4)
    assert raised.value.code == "decode_crashed"


def test_a_file_has_no_name_and_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptor = nameless_file("stderr")
    assert list(tmp_path.iterdir()) == []
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
