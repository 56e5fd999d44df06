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


def _is_text(head: bytes, *, whole: bool) -> bool:
    if _BINARY.search(head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        return not whole and error.start >= len(head) - 3
    return True
