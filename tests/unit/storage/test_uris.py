import pytest

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.storage import uris


def test_local_files_open_by_path_and_by_uri(tmp_path):
    odd = tmp_path / "100% ?#.txt"
    odd.write_text("x")
    for uri in (str(odd), odd.as_uri()):
        filesystem, path = uris.open_filesystem(uri, StorageSpec())
        assert filesystem.cat_file(path) == b"x"
        assert not uris.is_remote(uri)


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert uris.open_filesystem("a/b.csv", StorageSpec())[1] == str(tmp_path / "a/b.csv")


def test_remote_schemes():
    assert uris.open_filesystem("s3://bucket/a?b", StorageSpec(anonymous=True))[1] == "bucket/a?b"
    filesystem, path = uris.open_filesystem("https://h/a?b=1", StorageSpec())
    assert (filesystem.protocol, path) == (("http", "https"), "https://h/a?b=1")
    assert all(map(uris.is_remote, ["s3://b", "gs://b", "http://h", "https://h"]))


@pytest.mark.parametrize("uri", ["ftp://h/v.mp4", "memory://x", "simplecache::s3://b/k"])
def test_no_other_filesystem_is_reached(uri):
    if "::" in uri:  # no scheme of ours: a plain path, and such a file doesn't exist
        filesystem, path = uris.open_filesystem(uri, StorageSpec())
        assert not filesystem.exists(path)
    else:
        with pytest.raises(StorageError, match="allowed are a local path, file://, s3://"):
            uris.open_filesystem(uri, StorageSpec())


def test_a_file_uri_names_no_host():
    with pytest.raises(StorageError, match="three slashes"):
        uris.open_filesystem("file://data/v.mp4", StorageSpec())


@pytest.mark.parametrize(
    ("root", "relative", "joined"),
    [
        ("s3://b/videos/", "a/v.mp4", "s3://b/videos/a/v.mp4"),
        ("s3://b/videos", "a v?.mp4", "s3://b/videos/a v?.mp4"),
        ("/data", "v.mp4", "/data/v.mp4"),
        ("/", "v.mp4", "/v.mp4"),
        ("", "v.mp4", "v.mp4"),
        ("s3://b", "https://h/v.mp4", "https://h/v.mp4"),
        ("/data", "/other/v.mp4", "/other/v.mp4"),
    ],
)
def test_join(root, relative, joined):
    assert uris.join(root, relative) == joined
