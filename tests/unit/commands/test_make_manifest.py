"""Manifests made from folders of videos."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sfray.commands import make_manifest as making
from sfray.commands.make_manifest import VideosFound, make_manifest
from sfray.config import ManifestSpec, StorageSpec, parse_job_spec
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.errors import ManifestError, SpecError, StorageError
from sfray.manifest.rows import read_manifest
from sfray.planning.plan import make_plan
from sfray.sources.listing import ListedFile

FILES = ("b.MP4", "a/z.mkv", "a/deep/er/x.webm", "a-b.mov", "notes.txt", "m.parquet", "_id.mp4")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for name in (*FILES, ".hidden/v.mp4", "a/._z.mp4"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


def make(prefix: Path | str, output: Path | str, **choices: Any) -> VideosFound:
    options = {"extensions": None, "by_content": False, "force": False, "show": lambda _: None}
    return make_manifest(str(prefix), str(output), StorageSpec(), **(options | choices))


def uris(output: Path) -> list[str]:
    return pq.read_table(output)["video_uri"].to_pylist()


def test_videos_are_listed_in_order_with_their_sizes(videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "m.parquet"
    found = make(videos, output)
    names = ["_id.mp4", "a-b.mov", "a/deep/er/x.webm", "a/z.mkv", "b.MP4"]
    sizes = [len(name) for name in names]
    table = pq.read_table(output)
    assert table["video_uri"].to_pylist() == [f"{videos}/{name}" for name in names]
    assert table["size_bytes"].to_pylist() == sizes
    assert table["etag"].to_pylist() == [None] * 5
    assert found == VideosFound(num_videos=5, num_bytes=sum(sizes))


@pytest.mark.parametrize("name", ["m.parquet", "m.csv"])
def test_the_manifest_is_one_as_it_is(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (videos / 'a, "b".mp4').write_bytes(b"xy")
    monkeypatch.chdir(tmp_path)
    make("videos", name)
    job = {
        "manifest": {"uri": name, "passthrough": ["size_bytes", "etag"]},
        "task": "caption",
        "prompts": [{"prompt_id": "c", "text": "Describe the video."}],
        "model": {"id": "demo"},
        "output": {"uri": "out"},
    }
    plan = make_plan(parse_job_spec(job))
    assert plan.requests.passthrough.names == ["size_bytes", "etag"]
    rows = {row["video_uri"]: row for row in plan.requests.table.to_pylist()}
    assert len(rows) == 6
    assert int(rows[f'{videos}/a, "b".mp4']["size_bytes"]) == 2


def test_other_extensions_are_named(videos: Path, tmp_path: Path) -> None:
    make(videos, tmp_path / "m.parquet", extensions=["txt", ".MKV"])
    assert uris(tmp_path / "m.parquet") == [f"{videos}/a/z.mkv", f"{videos}/notes.txt"]


def test_by_content_names_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "scene.mp4", render(make_scene(1)))
    (folder / "scene.mp4").rename(folder / "no-extension")
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    for n in range(200):
        (folder / f"{n:03}").write_bytes(b"\x1a\x45\xdf\xa3" if n % 50 == 0 else b"\x89PNG")
    make(folder, tmp_path / "m.parquet", by_content=True)
    names = ("000", "050", "100", "150", "no-extension")
    assert uris(tmp_path / "m.parquet") == [f"{folder}/{name}" for name in names]


@pytest.mark.parametrize(
    ("output", "choices", "words"),
    [
        ("m.json", {}, r"m\.json has to end in \.parquet or \.csv"),
        ("m.parquet", {"extensions": ["mp4"], "by_content": True}, "leave --extension out"),
        ("https://h/m.csv", {}, "can't be written: allowed are a local path, s3:// and gs://"),
        ("videos/m.parquet", {}, "m.parquet is there already: --force writes over it"),
    ],
)
def test_what_cant_be_is_one_sentence(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    choices: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=words):
        make(videos, output, **choices)


@pytest.mark.parametrize(
    ("prefix", "choices", "words"),
    [
        ("videos", {"extensions": ["gif"]}, r"no videos were found below .*that end in \.gif"),
        ("videos", {"by_content": True}, "no videos were found below .*first bytes"),
        ("nowhere", {}, "nowhere can't be listed: it does not exist"),
        ("videos/b.MP4", {}, "b.MP4 can't be listed: a part of its path is a file"),
        ("ftp://h/x", {}, "can't be listed: allowed are a local folder, s3:// and gs://"),
    ],
)
def test_where_nothing_is_found_nothing_is_written(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    choices: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=words) as raised:
        make(prefix, "m.parquet", **choices)
    assert "\n" not in str(raised.value)
    assert not Path("m.parquet").exists()


def test_by_force_the_old_one_stays_until_the_new_one_is_whole(
    videos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.parquet"
    make(videos, output, extensions=["mkv"])

    def fail(found: VideosFound) -> None:
        if found.num_videos == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(videos, output, force=True, show=fail, batch_rows=1)
    assert uris(output) == [f"{videos}/a/z.mkv"]
    make(videos, output, force=True)
    assert len(uris(output)) == 5


def test_a_name_that_is_no_text_is_told(videos: Path, tmp_path: Path) -> None:
    (videos / "caf\udce9.mp4").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"'.*caf.udce9\.mp4' is no UTF-8"):
        make(videos, tmp_path / "m.parquet")


def test_many_videos_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = (ListedFile(f"s3://b/{n}.mp4", f"{n}.mp4", 1, "0" * 32) for n in range(100_000))
    monkeypatch.setattr(making, "iter_files", lambda *_: files)
    tracemalloc.start()
    found = make("s3://b/", tmp_path / "m.parquet")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == VideosFound(100_000, 100_000)
    assert peak < 20e6  # all paths and ETags of them are 30 MB


def test_a_manifest_that_is_a_folder_of_videos_is_told(videos: Path) -> None:
    (videos / "m.parquet").unlink()
    words = rf"{videos} holds videos, but no manifest.*sfray manifest {videos} --output"
    with pytest.raises(ManifestError, match=words):
        read_manifest(ManifestSpec(uri=str(videos)), StorageSpec())
