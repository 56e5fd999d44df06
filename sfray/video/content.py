"""Refuses files by their first bytes, before a demuxer sees them.

A demuxer that understands playlists would open what they name: other files, other addresses.
So nothing that is text reaches one, nor anything that begins as a playlist does.
"""

from __future__ import annotations

import re

from sfray.errors import RequestError

HEAD_BYTES = 4096

_PLAYLIST_STARTS = (
    b"#extm3u",
    b"ffconcat",
    b"[playlist]",
    b"[reference]",
    b"<asx",
    b"<smil",
    b"<mpd",
    b"<smoothstreamingmedia",
    b"rtsptext",
    b"rtsp://",
    b"smptext",
)
# What an XML file is, once declarations and comments are skipped.
_XML_PLAYLIST = re.compile(rb"<(?:[\w.-]+:)?(mpd|smil|smoothstreamingmedia|compositionplaylist)\b")
_SDP = re.compile(rb"v=0\r?\n(?:[a-z]=.*\r?\n)*?(?:m|c|o)=")
_CONCAT_LINE = re.compile(rb"(?m)^\s*file\s+\S")
_GIT_LFS = b"version https://git-lfs"
# Bytes that no text holds: controls other than tab, line ends, form feed and escape.
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
# A container whose head is plain text.
_TEXT_HEADED = (b"YUV4MPEG2 ",)


def check_content(head: bytes, size: int) -> None:
    """Raises `RequestError` unless the content may be a video.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of a shorter one.
        size: the size of the file, in bytes.
    """
    if size == 0:
        raise RequestError("empty_file", "the file has no bytes")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PLAYLIST_STARTS) or _SDP.match(text) or _XML_PLAYLIST.search(text):
        raise RequestError(
            "playlist_refused", "the content is a playlist, which names other files or addresses"
        )
    if head.startswith(_TEXT_HEADED) or not _is_text(head, whole=size <= len(head)):
        return
    if text.startswith(_GIT_LFS):
        raise RequestError("not_a_video", "the content is a git-lfs pointer, not the video itself")
    if _CONCAT_LINE.search(text):
        raise RequestError(
            "playlist_refused", "the content is a list of files instead of holding a video"
        )
    raise RequestError("not_a_video", "the content is text, not a video")


# How the containers of videos begin: what stands where.
_VIDEO_STARTS = (
    *((0, b"\x1a\x45\xdf\xa3"), (0, b"FLV\x01"), (0, b"OggS"), (0, b".RMF")),
    *((0, b"YUV4MPEG2 "), (0, b"DKIF"), (0, b"nut/multimedia container")),
    # The first unit of bare H.264 or HEVC: parameter sets, or a delimiter before them.
    *((0, b"\x00\x00\x00\x01" + bytes([unit])) for unit in (0x67, 0x27, 0x09, 0x40, 0x42, 0x46)),
    *((0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3")),  # MPEG program and video streams
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, and so WMV
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"),  # MXF
    *((4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
)
# Pictures and audio in the container of MP4.
_NO_VIDEO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"M4A ", b"M4B ", b"M4P ")
_TS_SYNC = 0x47
# Packets of MPEG-TS, and those of M2TS, which have a time before each.
_TS_PACKETS = ((0, 188), (4, 192))


def begins_as_video(head: bytes) -> bool:
    """Whether a file begins as videos do: not as GIF and PNG, most of which are no videos.

    A container may hold audio alone, which its beginning doesn't tell.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of a shorter one.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _NO_VIDEO_BRANDS:
        return False
    if any(head.startswith(start, offset) for offset, start in _VIDEO_STARTS):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"AVI "
    for first, length in _TS_PACKETS:
        packets = head[first::length]
        if len(packets) > 2 and all(sync == _TS_SYNC for sync in packets):
            return True
    return False


def _is_text(head: bytes, *, whole: bool) -> bool:
    if _BINARY.search(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        return not whole and error.start >= len(head) - 3
    return True
