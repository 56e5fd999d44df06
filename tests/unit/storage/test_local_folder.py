"""Parts on a local disk are whole or absent, wherever the power goes.

The file operations of a real writing log are recorded, then replayed on a model of a disk up to
every point, where what was not synced may be lost: contents until their file's fsync, names
until their folder's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.results.log import ResultsLog
from sfray.results.read import read_progress
from sfray.storage.local_folder import LocalFolder
from sfray.storage.objects import KeyTakenError
from tests.unit.results.outcomes import PASSTHROUGH, outcomes


@dataclass(frozen=True)
class Operation:
    name: str
    path: str
    other: str = ""
    data: bytes = b""


class Recorder:
    """Records what this process does to files under `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.operations: list[Operation] = []
        self._root = str(root)
        self._paths: dict[int, str] = {}
        names = ("open", "write", "fsync", "link", "unlink", "mkdir")
        self._real = {name: getattr(os, name) for name in names}
        for name in self._real:
            monkeypatch.setattr(os, name, getattr(self, f"_{name}"))

    def _note(self, name, path, other="", data=b""):
        if str(path).startswith(self._root):
            self.operations.append(Operation(name, str(path), str(other), data))

    def _open(self, path, flags, *args, **kwargs):
        descriptor = self._real["open"](path, flags, *args, **kwargs)
        self._paths[descriptor] = str(path)
        if flags & os.O_CREAT:
            self._note("create", path)
        return descriptor

    def _write(self, descriptor, data):
        written = self._real["write"](descriptor, data)
        self._note("write", self._paths.get(descriptor, ""), data=bytes(data[:written]))
        return written

    def _fsync(self, descriptor):
        self._real["fsync"](descriptor)
        self._note("fsync", self._paths[descriptor])

    def _link(self, source, target):
        self._real["link"](source, target)
        self._note("link", source, target)

    def _unlink(self, path, **kwargs):
        self._real["unlink"](path, **kwargs)
        self._note("unlink", path)

    def _mkdir(self, path, *args, **kwargs):
        self._real["mkdir"](path, *args, **kwargs)
        self._note("mkdir", path)


class Disk:
    """A disk with a cache: what is in it, and what of it would be there after a power cut."""

    def __init__(self) -> None:
        self.names: dict[str, int | None] = {}  # a folder has no file behind it
        self.durable_names: dict[str, int | None] = {}
        self.contents: dict[int, bytes] = {}
        self.durable_contents: dict[int, bytes] = {}

    def apply(self, operation: Operation) -> None:
        path = operation.path
        if operation.name == "mkdir":
            self.names[path] = None
        elif operation.name == "create":
            if path not in self.names:
                self.names[path] = len(self.contents)
                self.contents[self.names[path]] = b""
        elif operation.name == "write":
            self.contents[self.names[path]] += operation.data
        elif operation.name == "link":
            self.names[operation.other] = self.names[path]
        elif operation.name == "unlink":
            del self.names[path]
        elif operation.name == "fsync" and self.names.get(path) is not None:
            self.durable_contents[self.names[path]] = self.contents[self.names[path]]
        elif operation.name == "fsync":
            for name in {*self.names, *self.durable_names}:
                if str(Path(name).parent) == path:
                    self._make_durable(name)

    def _make_durable(self, name):
        if name in self.names:
            self.durable_names[name] = self.names[name]
        else:
            self.durable_names.pop(name, None)

    def after_power_cut(self, *, names_kept: bool, contents_kept: bool) -> dict[str, bytes]:
        """Files by path; the disk may have written more than it was told to."""
        names = self.names if names_kept else self.durable_names
        contents = self.contents if contents_kept else self.durable_contents
        reachable = {
            name: file
            for name, file in names.items()
            if names_kept or all(str(p) in names for p in Path(name).parents if self._known(p))
        }
        return {n: contents.get(f, b"") for n, f in reachable.items() if f is not None}

    def _known(self, folder):
        return str(folder) in self.names


def record_a_run(root, monkeypatch):
    """A run of three flushes; the marks say after which operation which ids were promised."""
    with monkeypatch.context() as patch:
        recorder = Recorder(root.parent, patch)
        log = ResultsLog.open(
            str(root),
            StorageSpec(),
            passthrough=PASSTHROUGH,
            run_id="run-1",
            flush_rows=1000,
            flush_seconds=30,
        )
        promised = [(0, set())]
        for number in range(3):
            log.append(outcomes([f"a{number}"], [f"f{number}"]))
            log.flush()
            done = {f"{kind}{n}" for n in range(number + 1) for kind in "af"}
            promised.append((len(recorder.operations), done))
        log.close()
    return recorder.operations, promised


@pytest.mark.parametrize("names_kept", [False, True])
@pytest.mark.parametrize("contents_kept", [False, True])
def test_a_power_cut_at_any_point_leaves_whole_parts(
    tmp_path, monkeypatch, names_kept, contents_kept
):
    operations, promised = record_a_run(tmp_path / "out", monkeypatch)
    assert {o.name for o in operations} == {"mkdir", "create", "write", "fsync", "link", "unlink"}
    for cut in range(len(operations) + 1):
        disk = Disk()
        for operation in operations[:cut]:
            disk.apply(operation)
        files = disk.after_power_cut(names_kept=names_kept, contents_kept=contents_kept)
        parts = {path: body for path, body in files.items() if "/part-" in path}
        found = set()
        for body in parts.values():
            table = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True).read()
            found |= set(table["request_id"].to_pylist())
        wanted = [ids for position, ids in promised if position <= cut][-1]
        assert wanted <= found, f"cut after {cut} operations"


def test_a_run_goes_on_after_a_power_cut(tmp_path, monkeypatch):
    operations, promised = record_a_run(tmp_path / "out", monkeypatch)
    for cut in range(promised[1][0], len(operations), 7):
        disk = Disk()
        for operation in operations[:cut]:
            disk.apply(operation)
        root = tmp_path / f"after-{cut}"
        for path, body in disk.after_power_cut(names_kept=False, contents_kept=False).items():
            copy = root / Path(path).relative_to(tmp_path / "out")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(body)
        with ResultsLog.open(
            str(root),
            StorageSpec(),
            passthrough=PASSTHROUGH,
            run_id="run-2",
            flush_rows=1000,
            flush_seconds=30,
        ) as log:
            log.append(outcomes(["a0", "a1", "a2"]))
        assert sorted(read_progress(str(root), StorageSpec()).answered_ids.to_pylist()) == [
            "a0",
            "a1",
            "a2",
        ]


def test_a_taken_key_is_not_overwritten(tmp_path):
    folder = LocalFolder(tmp_path)
    folder.put_new("a/b", b"first", "w")
    with pytest.raises(KeyTakenError):
        folder.put_new("a/b", b"second", "w")
    assert folder.read("a/b") == b"first"
    assert folder.read("a/c") is None
    assert [(i.key, i.num_bytes) for i in folder.list_objects("a/")] == [("a/b", 5)]
    assert folder.list_objects("nothing/") == []


def test_a_link_that_was_made_counts_although_it_is_told_otherwise(tmp_path, monkeypatch):
    """NFS: the server made the link, its reply was lost, the client tried again."""
    real_link = os.link

    def link_twice(source, target):
        real_link(source, target)
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    LocalFolder(tmp_path).put_new("a", b"x", "w")
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize(("module", "call"), [(fcntl, "flock"), (os, "link")])
def test_a_file_system_that_lacks_what_keeps_writers_apart_is_one_sentence(
    tmp_path, monkeypatch, module, call
):
    def lacking(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(module, call, lacking)
    folder = LocalFolder(tmp_path)
    with pytest.raises(StorageError, match="has no locks, or no hard links"):
        folder.take_lease("run", wait=False)
        folder.put_new("a", b"x", "w")
    assert not (tmp_path / "a").exists()
