"""Videos on a real S3 server: whole, by range, missing, forbidden, changed."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfray.config import StorageSpec, VideosSpec
from sfray.errors import RequestError, StorageError
from sfray.records import VideoSource, WorkItem
from sfray.sources.fetch import FetchedFile, Fetcher
from sfray.sources.remote import FetchTerms
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from sfray.storage.patience import Patience
from tests.integration.faulty_proxy import Fault, Once, Storm, faulty_proxy
from tests.integration.s3_server import S3Server
from tests.resources.make_videos import Kind, number_of

VIDEO = Path(__file__).parents[1] / "resources" / "parity" / "videos" / "v12_336sq_1fps_20f.mp4"
LOSSLESS = {"qp": "0", "preset": "ultrafast"}
BY_RANGE = FetchTerms(whole_file_bytes=0)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    bucket = s3_server.new_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a b/v.mp4", Body=VIDEO.read_bytes())
    s3_server.client().put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    return bucket


def stage_on(
    storage: StorageSpec,
    num_frames: int = 4,
    image_size: int = 32,
    terms: FetchTerms = FetchTerms(),
) -> DecodeVideo:
    config = DecodeConfig(
        storage=storage, fetch_terms=terms, num_frames=num_frames, image_size=image_size
    )
    return DecodeVideo(config)


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


def test_clips_of_a_video_share_its_fetch(s3_server: S3Server, bucket: str) -> None:
    s3_server.client().put_object(Bucket=bucket, Key="other.mp4", Body=VIDEO.read_bytes())
    size, video, other = (
        VIDEO.stat().st_size,
        f"s3://{bucket}/a b/v.mp4",
        f"s3://{bucket}/other.mp4",
    )
    stage = stage_on(s3_server.storage, image_size=96)
    try:
        clips = [
            stage(replace(_item(uri), start_seconds=start, end_seconds=start + 5.0))
            for uri, start in ((video, 0.0), (video, 10.0), (other, 0.0), (video, 5.0))
        ]
    finally:
        stage.close()
    assert [clip.failure for clip in clips] == [None] * 4
    assert [clip.bytes_fetched for clip in clips] == [size, 0, size, size]
    # A single put: its ETag is the MD5.
    content = VIDEO.read_bytes()
    etag, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()  # noqa: S324
    same = VideoSource(size_bytes=size, etag=etag, sha256=sha256)
    assert [clip.source for clip in clips] == [same] * 4


def test_a_long_video_is_read_by_range(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    """The index at the end of the file, and few of the frames."""
    kind = Kind(name="long", num_frames=200, gop=1, size=(960, 720), options=LOSSLESS)
    path = kind.write(tmp_path)
    s3_server.client().upload_file(str(path), bucket, "long.mp4")
    stage = stage_on(s3_server.storage, image_size=96, terms=BY_RANGE)
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
    assert decoded.source.size_bytes == size
    assert decoded.source.etag and decoded.source.sha256 is None


def test_a_video_that_changes_is_read_again(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = s3_server.client(), "changing.mp4"
    content = VIDEO.read_bytes()
    client.put_object(Bucket=bucket, Key=key, Body=content + bytes(2**21))
    changes = itertools.count()
    check = DecodeVideo._read

    def change_once(self: DecodeVideo, item: WorkItem, file: FetchedFile) -> object:
        if next(changes) == 0:
            client.put_object(Bucket=bucket, Key=key, Body=content + bytes(2**21 + 1))
            file.read(2**21, 10)
        return check(self, item, file)

    monkeypatch.setattr(DecodeVideo, "_read", change_once)
    stage = stage_on(s3_server.storage, terms=BY_RANGE)
    try:
        decoded = stage(_item(f"s3://{bucket}/{key}"))
    finally:
        stage.close()
    assert decoded.failure is None
    assert next(changes) == 2


@pytest.mark.parametrize("whole_bytes", [0, 2**30], ids=["by range", "whole"])
@pytest.mark.parametrize("seed", range(2))
def test_a_storm_changes_no_frame(
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
    whole_bytes: int,
    seed: int,
) -> None:
    """Errors 500 and 503, connections that are cut before and in the middle, slow answers."""
    terms = FetchTerms(
        whole_file_bytes=whole_bytes,
        block_bytes=2**13,
        first_bytes=2**13,
        patience=Patience(max_wait_seconds=0.05),
    )
    path = Kind(name="storm", num_frames=60, gop=1, size=(640, 480), options=LOSSLESS).write(
        tmp_path
    )
    assert path.stat().st_size > 100 * 2**12
    s3_server.client().upload_file(str(path), bucket, "storm.mp4")
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        stage = stage_on(storage, num_frames=8, terms=terms)
        try:
            calm = stage(_item(str(path))).video
            proxy.choose = Storm(seed, rate=0.3)
            stormy = stage(_item(f"s3://{bucket}/storm.mp4"))
        finally:
            stage.close()
    assert len(proxy.happened) > 2
    assert stormy.failure is None
    assert calm is not None
    assert stormy.video is not None
    np.testing.assert_array_equal(stormy.video.frames_THWC, calm.frames_THWC)


def test_a_server_that_is_too_slow_once(s3_server: S3Server, bucket: str) -> None:
    """It is asked again, even if the first answer took all of the time; one that stays so costs
    its video only."""
    hasty = FetchTerms(read_seconds=0.5, patience=Patience(seconds=0.1))
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        proxy.slow_seconds = 1
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        proxy.choose = Once(Fault.SLOW, "GET", "v.mp4")
        with Fetcher(VideosSpec(), storage, hasty).open(f"s3://{bucket}/a b/v.mp4") as file:
            assert file.read(0, file.size) == VIDEO.read_bytes()
        assert [fault for fault, _, _ in proxy.happened] == [Fault.SLOW]
        proxy.choose = lambda _method, _path: Fault.SLOW
        again = Fetcher(VideosSpec(), storage, hasty)
        assert code_of(again, f"s3://{bucket}/a b/v.mp4") == "fetch_failed"


def _item(uri: str) -> WorkItem:
    return WorkItem(
        video_id="v",
        video_uri=uri,
        fetch_uri=uri,
        start_seconds=None,
        end_seconds=None,
        requests=(),
    )
