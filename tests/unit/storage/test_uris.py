import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.storage import uris


@pytest.mark.parametrize(
    ("signed", "bare"),
    [
        (
            "https://h/v.mp4?X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Signature=5e&id=7",
            "https://h/v.mp4?id=7",
        ),
        ("https://h/v.mp4?AWSAccessKeyId=AK&Signature=s%2B&Expires=17", "https://h/v.mp4"),
        ("https://h/v.mp4?sv=2024&sr=b&sig=abc&se=2026-01-01&sp=r", "https://h/v.mp4"),
        ("https://h/v.mp4?st=3&sp=r", "https://h/v.mp4?st=3&sp=r"),
        ("https://h/get?b=2&a=1&access_token=T#t=5", "https://h/get?b=2&a=1#t=5"),
        ("https://user:pw@h:8080/v.mp4", "https://h:8080/v.mp4"),
        ("HTTPS://h/v.mp4?x%2Damz%2Dsignature=1", "HTTPS://h/v.mp4"),
        ("s3://bucket/a b?c.mp4", "s3://bucket/a b?c.mp4"),
        ("s3://AK:SK@bucket/v.mp4", "s3://bucket/v.mp4"),
        ("/data/v.mp4?sig=1", "/data/v.mp4?sig=1"),
        ("videos/ä.mp4", "videos/ä.mp4"),
        ("https://h/v.mp4?", "https://h/v.mp4"),
    ],
)
def test_identity_is_the_uri_without_what_signs_it(signed, bare):
    assert uris.identity_uri(signed) == bare
    assert uris.redact(signed) == bare


@given(st.text(max_size=80))
def test_identity_is_a_fixed_point(text):
    for uri in (text, "https://h/" + text):
        once = uris.identity_uri(uri)
        assert uris.identity_uri(once) == once


@pytest.mark.parametrize(
    "message",
    [
        "GET https://u:s3cr3t@h/v.mp4 failed",
        "403, url='https://h/v.mp4?X-Amz-Signature=s3cr3t&X-Amz-Date=1'",
        "no such key /bucket/v.mp4?Signature=s3cr3t",
        "headers {'Authorization': 'Bearer s3cr3t'}",
        "session_token=s3cr3t refused",
    ],
)
def test_messages_lose_their_secrets(message):
    cleaned = uris.redact_text(message)
    assert "s3cr3t" not in cleaned
    assert cleaned.split()[0].partition("=")[0] == message.split()[0].partition("=")[0]


def test_a_message_without_secrets_stays():
    message = "s3://bucket/key is missing: 404 Not Found (attempt 3 of 3), see https://h/a?page=2"
    assert uris.redact_text(message) == message


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


def test_the_secrets_of_all_uris_of_a_job_go():
    job = {
        "manifest": {"uri": ["https://me:s3cret@h/m.csv", "local.csv"]},
        "prompts": [{"text": "Does https://h/?token=x stay?"}],
        "generation": {"max_new_tokens": 8, "stop": []},
    }
    assert uris.redact_values(job) == job | {
        "manifest": {"uri": ["https://h/m.csv", "local.csv"]},
    }
