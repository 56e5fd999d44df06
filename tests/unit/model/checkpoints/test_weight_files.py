"""What headers of weight files tell, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sfray.errors import CheckpointError
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.model.checkpoints.weight_files import WeightFile, local_weights, weights_digest


def file_of(content: bytes) -> WeightFile:
    return WeightFile("w.safetensors", len(content), lambda at, n: content[at : at + n])


def with_header(header: object, body: bytes) -> WeightFile:
    text = json.dumps(header).encode()
    return file_of(len(text).to_bytes(8, "little") + text + body)


def test_a_header_accounts_for_every_byte() -> None:
    header = {"__metadata__": {"format": "pt"}, "a": {"data_offsets": [0, 4]}}
    assert json.loads(with_header(header, bytes(4)).header()) == header
    for body in (b"", bytes(3), bytes(5)):
        with pytest.raises(CheckpointError, match="its header speaks of"):
            with_header(header, body).header()


@pytest.mark.parametrize("content", [b"", b"short", bytes(100), b"\xff" * 100])
def test_what_is_no_weight_file_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"w\.safetensors is no whole file"):
        file_of(content).header()


@pytest.mark.parametrize("header", [[1], {"a": {}}, {"a": {"data_offsets": []}}, {"a": 1}])
def test_a_header_of_another_kind_is_refused(header: object) -> None:
    with pytest.raises(CheckpointError, match="no header of the safetensors format"):
        with_header(header, b"").header()


def test_numbers_decide_and_places_do_not(tmp_path: Path) -> None:
    digest = weights_digest(demo_folder(), local_weights(demo_folder()))
    copy = tmp_path / "copy"
    shutil.copytree(demo_folder(), copy)
    assert weights_digest(copy, local_weights(copy)) == digest
    weights = copy / "model.safetensors"
    (file,) = local_weights(copy)
    changed = bytearray(weights.read_bytes())
    changed[8 + len(file.header())] ^= 1
    weights.write_bytes(changed)
    assert weights_digest(copy, local_weights(copy)) != digest
