"""What is refused by its first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfray.errors import RequestError
from sfray.video.content import HEAD_BYTES, begins_as_video, check_content
from tests.resources.video_kinds import READABLE

MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(100)


def code_of(content: bytes) -> str | None:
    try:
        check_content(content[:HEAD_BYTES], len(content))
    except RequestError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "content",
    [MP4, b"RIFF\x10\x00\x00\x00AVI LIST", b"GIF89a\x01\x00\x01\x00", b"\x1aE\xdf\xa3\x01\x00",
     b"YUV4MPEG2 W2 H2 F25:1\nFRAME\nabcdef", b"FLV\x01\x05\x00\x00\x00\x09"],
)  # fmt: skip
def test_containers_pass(content: bytes) -> None:
    assert code_of(content) is None


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"\xef\xbb\xbf#EXTM3U\nx",
        b"  \n#extm3u\n" + b"\x00" * 100,  # a binary tail makes it no less a playlist
        b"ffconcat version 1.0\nfile x\n",
        b"# a comment\nfile '/etc/passwd'\nfile 'b.mp4'\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        b"<?xml version='1.0'?>\n<!-- x --><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>",
        b"<asx version='3.0'><entry><ref href='http://a/'/></entry></asx>",
        b"<smil><body><video src='a.mp4'/></body></smil>",
        b"[playlist]\nFile1=http://a/b.mp4\n",
        b"[Reference]\nRef1=http://a/b.mp4\n",
        b"RTSPtextrtsp://a/b",
        b'<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/"/>',
    ],
)
def test_playlists_are_refused(content: bytes) -> None:
    assert code_of(content) == "playlist_refused"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs"),
        (b"<!doctype html><title>Not found</title>", "text"),
        ("Bitte später wieder versuchen\n".encode() * 400, "text"),
        (b'{"error": "expired"}', "text"),
        (b"https://example.com/v.mp4\n", "text"),
        (b"   \n\n", "text"),
    ],
)
def test_text_is_no_video(content: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        check_content(content[:HEAD_BYTES], len(content))
    assert raised.value.code == "not_a_video"


def test_nothing_is_an_empty_file() -> None:
    assert code_of(b"") == "empty_file"


VIDEOS = {
    "mp4": b"\x00\x00\x00\x20ftypisom",
    "old mov": b"\x00\x00\x00\x08wide\x00\x00",
    "matroska": b"\x1a\x45\xdf\xa3\x01",
    "avi": b"RIFF\x00\x10\x00\x00AVI LIST",
    "flv": b"FLV\x01\x05",
    "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6",
    "mpeg": b"\x00\x00\x01\xba\x44",
    "ts": (b"\x47" + bytes(187)) * 4,
    "m2ts": (bytes(4) + b"\x47" + bytes(187)) * 4,
    "y4m": b"YUV4MPEG2 W128",
}
OTHERS = {
    "nothing": b"",
    "text": b"no video",
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0",
    "wav": b"RIFF\x00\x10\x00\x00WAVEfmt ",
    "heic": b"\x00\x00\x00\x20ftypheic",
    "m4a": b"\x00\x00\x00\x20ftypM4A ",
    "parquet": b"PAR1\x15\x04",
    "playlist": b"#EXTM3U\n",
    "letters": b"GIF89a",
    "one G": b"G" + bytes(500),
}


@pytest.mark.parametrize("head", VIDEOS.values(), ids=list(VIDEOS))
def test_containers_of_videos_are_known_by_how_they_begin(head: bytes) -> None:
    assert begins_as_video(head)


@pytest.mark.parametrize("head", OTHERS.values(), ids=list(OTHERS))
def test_what_holds_no_video_does_not_begin_as_one(head: bytes) -> None:
    assert not begins_as_video(head)


def test_every_kind_of_video_that_is_read_begins_as_one(tmp_path: Path) -> None:
    for kind in READABLE:
        head = kind.write(tmp_path).read_bytes()[:HEAD_BYTES]
        assert begins_as_video(head) == (kind.name not in ("gif", "apng")), kind.name
