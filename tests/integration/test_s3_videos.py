"""Videos on a real S3 server: whole, by range, missing, forbidden, changed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sfray.config import DecodeSpec, StorageSpec, VideosSpec
from sfray.errors import RequestError, StorageError
from sfray.records import WorkItem
from sfray.stages.decode_video import DecodeVideo
from sfray.storage import fetch
from sfray.storage.fetch import Fetcher
from tests.integration.s3_server import S3Server
from tests.resources.make_videos import Kind, number_of

VIDEO = Path(__file__).parents[1] / "resources" / "parity" / "videos" / "v12_336sq_1fps_20f.mp4"


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a b/v.mp4", Body=VIDEO.read_bytes())
    s3_server.client().put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    return bucket


def code_of(fetcher: Fetcher, uri: str) -> str:
    with pytest.raises(RequestError) as raised, fetcher.open(uri):
        pass
    return raised.value.code


def test_an_object_comes_in_one_request(s3_server: S3Server, bucket: str) -> None:
    fetcher = Fetcher(VideosSpec(), s3_server.storage)
    with fetcher.open(f"s3://{bucket}/a b/v.mp4") as file:
        assert file.read(0, file.size) == VIDEO.read_bytes()
        assert file.bytes_fetched == VIDEO.stat().st_size
    with fetcher.open(f"s3://{bucket}/empty.mp4") as file:
        assert file.size == 0


def test_what_concerns_one_video_and_what_all(s3_server: S3Server, bucket: str) -> None:
    fetcher = Fetcher(VideosSpec(max_file_bytes=1000), s3_server.storage)
    assert code_of(fetcher, f"s3://{bucket}/none.mp4") == "not_found"
    assert code_of(fetcher, f"s3://{bucket}/a b/v.mp4") == "file_too_large"
    assert code_of(fetcher, "s3://bucket-only") == "uri_refused"
    with pytest.raises(StorageError, match="no-such-bucket"), fetcher.open("s3://no-such-bucket/v"):
        pass


def test_a_wrong_key_stops_the_run(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    # Another region is another client, made with the key of now.
    storage = StorageSpec(endpoint_url=s3_server.endpoint_url, region="eu-west-1")
    with (
        pytest.raises(StorageError, match="credentials"),
        Fetcher(VideosSpec(), storage).open(f"s3://{bucket}/a b/v.mp4"),
    ):
        pass


def test_a_long_video_is_read_by_range(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index at the end of the file, and few of the frames."""
    monkeypatch.setattr(fetch, "WHOLE_FILE_BYTES", 0)
    lossless = {"qp": "0", "preset": "ultrafast"}
    kind = Kind(name="long", num_frames=200, gop=1, size=(960, 720), options=lossless)
    path = kind.write(tmp_path)
    s3_server.client().upload_file(str(path), bucket, "long.mp4")
    stage = DecodeVideo(VideosSpec(), s3_server.storage, DecodeSpec(), "exact", 4, 96)
    try:
        decoded = stage(_item(f"s3://{bucket}/long.mp4"))
    finally:
        stage.close()
    assert decoded.video is not None
    numbers = [number_of(frame_HWC) for frame_HWC in decoded.video.frames_THWC]
    assert numbers == decoded.video.frame_indices.tolist()
    size = path.stat().st_size
    assert size > 8 * 2**20
    assert decoded.bytes_fetched < 0.5 * size


def test_a_video_that_changes_is_read_again(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = s3_server.client(), "changing.mp4"
    content = VIDEO.read_bytes()
    client.put_object(Bucket=bucket, Key=key, Body=content + bytes(2**21))
    monkeypatch.setattr(fetch, "WHOLE_FILE_BYTES", 0)
    changes = itertools.count()
    check = DecodeVideo._read

    def change_once(self: DecodeVideo, item: WorkItem, file: fetch.FetchedFile) -> object:
        if next(changes) == 0:
            client.put_object(Bucket=bucket, Key=key, Body=content + bytes(2**21 + 1))
            file.read(2**21, 10)
        return check(self, item, file)

    monkeypatch.setattr(DecodeVideo, "_read", change_once)
    stage = DecodeVideo(VideosSpec(), s3_server.storage, DecodeSpec(), "exact", 4, 32)
    try:
        decoded = stage(_item(f"s3://{bucket}/{key}"))
    finally:
        stage.close()
    assert decoded.failure is None
    assert next(changes) == 2


def _item(uri: str) -> WorkItem:
    return WorkItem(
        video_id="v",
        video_uri=uri,
        fetch_uri=uri,
        start_seconds=None,
        end_seconds=None,
        requests=(),
    )
