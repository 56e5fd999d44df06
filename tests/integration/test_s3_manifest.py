import json

import pyarrow as pa
import pytest

from sfray.config import ManifestSpec, StorageSpec
from sfray.errors import ManifestError
from sfray.manifest.rows import read_manifest


@pytest.fixture
def bucket(s3_server):
    name = s3_server.new_bucket()
    for shard in ("b", "a"):
        rows = "".join(json.dumps({"video_uri": f"{shard}{i}", "n": i}) + "\n" for i in range(3))
        s3_server.client().put_object(Bucket=name, Key=f"m/{shard}.jsonl", Body=rows.encode())
    return name


def read(uri, storage):
    return read_manifest(ManifestSpec(uri=uri, passthrough=("n",)), storage)


@pytest.mark.parametrize("suffix", ["m/*.jsonl", "m/", "m"])
def test_globs_and_folders(s3_server, bucket, suffix):
    manifest = read(f"s3://{bucket}/{suffix}", s3_server.storage)
    table = pa.concat_tables(manifest.batches())
    assert table["video_uri"].to_pylist() == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert table["n"].to_pylist() == [0, 1, 2, 0, 1, 2]


def test_a_folder_that_grows_is_seen(s3_server, bucket):
    assert len(read(f"s3://{bucket}/m", s3_server.storage).files) == 2
    s3_server.client().put_object(
        Bucket=bucket, Key="m/c.jsonl", Body=b'{"video_uri": "c", "n": 1}'
    )
    assert len(read(f"s3://{bucket}/m", s3_server.storage).files) == 3


def test_what_is_missing_is_named(s3_server, bucket):
    with pytest.raises(ManifestError, match=r"s3://.*/m/x\.csv does not exist"):
        read(f"s3://{bucket}/m/x.csv", s3_server.storage)
    with pytest.raises(ManifestError, match="no file matches"):
        read(f"s3://{bucket}/m/*.csv", s3_server.storage)
    with pytest.raises(ManifestError, match="no-such-bucket-here"):
        read("s3://no-such-bucket-here/m/x.csv", s3_server.storage)


def test_wrong_keys_are_one_sentence(s3_server, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
    with pytest.raises(ManifestError, match="can't be read: ") as caught:
        read(f"s3://{bucket}/m/a.jsonl", StorageSpec(endpoint_url=s3_server.endpoint_url + "/"))
    assert "\n" not in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_no_server_is_one_sentence(s3_server, monkeypatch):
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    storage = StorageSpec(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ManifestError, match="can't be read: "):
        read("s3://bucket/m/a.jsonl", storage)
