"""`sfray manifest` of a prefix on S3, and the manifest read as a job reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sfray.cli.app import app
from sfray.config import ManifestSpec
from sfray.errors import ManifestError, StorageError
from sfray.manifest.rows import read_manifest
from sfray.sources.listing import iter_files
from tests.integration.faulty_proxy import Fault, Once, faulty_proxy
from tests.integration.s3_server import S3Server

# More than a page of keys, and one that needs escaping where keys are listed.
NAMES = [f"many/{number:04}.mp4" for number in range(1100)]
NAMES += ["a-b/x.mkv", "a/x é+ %.mov", "a/.hidden.mp4", "a/notes.txt", "a/file"]
MATROSKA = b"\x1a\x45\xdf\xa3"


def body_of(name: str) -> bytes:
    return MATROSKA if name == "a/file" else name.encode()


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    name, client = s3_server.new_bucket(), s3_server.client()

    def put(key: str) -> None:
        client.put_object(Bucket=name, Key=f"videos/{key}", Body=body_of(key))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, NAMES))
    client.put_object(Bucket=name, Key="videos/a/", Body=b"")  # what consoles leave for a folder
    client.put_object(Bucket=name, Key="videos-of-another/x.mp4", Body=b"x")
    return name


def make(server: S3Server, prefix: str, output: str | Path, *options: str) -> list[str]:
    reached = ["--endpoint-url", server.endpoint_url, "--region", "us-east-1"]
    arguments: Sequence[str] = ["manifest", prefix, "--output", str(output), *reached, *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_a_prefix_is_listed_whole_in_order_and_with_etags(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    others = {"a/.hidden.mp4", "a/notes.txt", "a/file"}
    pages = s3_server.client().get_paginator("list_objects_v2")
    listed = pages.paginate(Bucket=bucket, Prefix="videos/").search("Contents[].Key")
    names = [key.removeprefix("videos/") for key in listed]  # servers differ in their order
    expected = [name for name in names if name in NAMES and name not in others]
    for prefix in (f"s3://{bucket}/videos", f"s3://{bucket}/videos/"):
        told, following = make(s3_server, prefix, tmp_path / "m.parquet", "--force")
        num_bytes = sum(len(body_of(name)) for name in expected)
        assert told == f"{tmp_path}/m.parquet: 1102 videos, {num_bytes} bytes"
        assert following.endswith(f"--endpoint-url {s3_server.endpoint_url} --region us-east-1")
        rows = pq.read_table(tmp_path / "m.parquet").to_pylist()
        assert rows == [
            {
                "video_uri": f"s3://{bucket}/videos/{name}",
                "size_bytes": len(body_of(name)),
                "etag": hashlib.md5(body_of(name)).hexdigest(),  # noqa: S324 - as S3 has it
            }
            for name in expected
        ]


@pytest.mark.parametrize("fault", [Fault.ERROR_503, Fault.CUT, Fault.REPLY_CUT])
def test_a_listing_goes_on_where_a_page_did_not_come(
    s3_server: S3Server, bucket: str, tmp_path: Path, fault: Fault
) -> None:
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        proxy.choose = Once(fault, "GET", "continuation-token")
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        found = [file.uri for file in iter_files(f"s3://{bucket}/videos", storage)]
    assert [happened for happened, *_ in proxy.happened] == [fault]
    assert sorted(found) == sorted(f"s3://{bucket}/videos/{name}" for name in NAMES)


def test_by_content_and_to_s3(s3_server: S3Server, bucket: str) -> None:
    output = f"s3://{bucket}/manifests/m.csv"
    told, _ = make(s3_server, f"s3://{bucket}/videos/a", output, "--by-content")
    assert told == f"{output}: 1 videos, {len(MATROSKA)} bytes"
    manifest = read_manifest(
        ManifestSpec(uri=output, passthrough=("size_bytes", "etag")), s3_server.storage
    )
    table = pa.concat_tables(manifest.batches())
    assert table["video_uri"].to_pylist() == [f"s3://{bucket}/videos/a/file"]
    assert table["etag"].to_pylist() == [hashlib.md5(MATROSKA).hexdigest()]  # noqa: S324
    assert "Uploads" not in s3_server.client().list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("s3://no-such-bucket-here/videos", "files below s3://no-such-bucket-here/videos can't be"),
        ("s3://{bucket}/nothing", "no videos were found below s3://.*/nothing"),
    ],
)
def test_what_isnt_there_is_one_sentence(
    s3_server: S3Server, bucket: str, tmp_path: Path, prefix: str, words: str
) -> None:
    with pytest.raises(StorageError, match=words) as raised:
        make(s3_server, prefix.format(bucket=bucket), tmp_path / "m.parquet")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "m.parquet").exists()


def test_a_manifest_that_is_a_prefix_of_videos_is_told(s3_server: S3Server, bucket: str) -> None:
    words = rf"sfray manifest s3://{bucket}/videos --output manifest\.parquet"
    with pytest.raises(ManifestError, match=words):
        read_manifest(ManifestSpec(uri=f"s3://{bucket}/videos"), s3_server.storage)


def test_the_storage_of_a_job_file_serves(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"storage:\n  endpoint_url: {s3_server.endpoint_url}\n  region: us-east-1\n")
    output = str(tmp_path / "m.csv")
    arguments = ["manifest", f"s3://{bucket}/videos/a-b", "--output", output]
    done = CliRunner().invoke(app, [*arguments, "--storage-from", str(job)])
    assert done.exit_code == 0, done.exception
    assert "1 videos" in done.stdout


def test_wrong_keys_are_one_sentence(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
    with pytest.raises(StorageError, match="can't be listed: ") as raised:
        # Another region, since clients are kept.
        make(s3_server, f"s3://{bucket}/videos", tmp_path / "m.parquet", "--region", "eu-west-1")
    assert "wr0ng" not in str(raised.value) and "\n" not in str(raised.value)
