"""The kinds of files that readers are tested with, most of them found in the wild."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from tests.resources.make_videos import HEIGHT, WIDTH, Kind

_ONE = 1 << 16
_TALL = (HEIGHT, WIDTH)
_QCIF = (176, 144)
_X264 = "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"
_QUIET = {"x265-params": "log-level=none"}
_OPEN_GOP = {"x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3"}

_BT601 = {"colorspace": Colorspace.ITU601, "color_range": ColorRange.MPEG}
_BT709 = {"colorspace": Colorspace.ITU709, "color_range": ColorRange.MPEG}
# Primaries and curves by their numbers in H.273.
_BT2020 = {
    "colorspace": Colorspace.BT2020,
    "color_primaries": 9,
    "color_range": ColorRange.MPEG,
}
_PQ = _BT2020 | {"color_trc": 16}
_HLG = _BT2020 | {"color_trc": 18}


def _matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    return (a * _ONE, b * _ONE, 0, c * _ONE, d * _ONE, 0, 0, 0, 1 << 30)


def _keep(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def _patch(needle: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Overwrites what stands `offset` bytes after the first `needle`."""

    def patch(data: bytes) -> bytes:
        at = data.index(needle) + offset
        return data[:at] + value + data[at + len(value) :]

    return patch


def _without_first_packets(data: bytes) -> bytes:
    """A transport stream that was tuned into: its tables, then not from the start on."""
    packet = 188
    num_packets = len(data) // packet
    return data[: 3 * packet] + data[num_packets // 3 * packet :]


_CODECS = [
    Kind(name="h264-mp4"),
    Kind(name="h264-mkv", suffix="mkv"),
    Kind(name="h264-mov", suffix="mov"),
    Kind(name="h264-flv", suffix="flv"),
    Kind(name="h264-ts", suffix="ts"),
    Kind(name="h264-nut", suffix="nut"),
    Kind(name="h264-raw", suffix="h264"),
    Kind(name="hevc-mp4", codec="libx265", options=_QUIET),
    Kind(name="hevc-raw", codec="libx265", suffix="hevc", options=_QUIET),
    Kind(name="vp8-webm", codec="libvpx", suffix="webm"),
    Kind(
        name="vp8-altref-webm",
        codec="libvpx",
        suffix="webm",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"},
    ),
    Kind(name="vp9-webm", codec="libvpx-vp9", suffix="webm"),
    Kind(name="vp9-mp4", codec="libvpx-vp9"),
    Kind(name="vp8-ivf", codec="libvpx", suffix="ivf"),
    Kind(name="av1-mp4", codec="libsvtav1", options={"preset": "12"}),
    Kind(name="av1-webm", codec="libsvtav1", suffix="webm", options={"preset": "12"}),
    Kind(name="mpeg4-mp4", codec="mpeg4"),
    Kind(name="mpeg4-avi", codec="mpeg4", suffix="avi"),
    Kind(name="mpeg2-ts", codec="mpeg2video", suffix="ts"),
    Kind(name="mpeg1-ps", codec="mpeg1video", suffix="mpg"),
    Kind(name="mjpeg-avi", codec="mjpeg", suffix="avi", pixel_format="yuvj420p"),
    Kind(name="wmv2-asf", codec="wmv2", suffix="wmv"),
    Kind(name="msmpeg4-avi", codec="msmpeg4", suffix="avi"),
    Kind(name="flv1-flv", codec="flv", suffix="flv"),
    Kind(name="h263-3gp", codec="h263", suffix="3gp", size=_QCIF, displayed_size=(192, 144)),
    Kind(name="rv10-rm", codec="rv10", suffix="rm", size=_QCIF),
    Kind(name="prores-mov", codec="prores_ks", suffix="mov", pixel_format="yuv422p10le"),
    Kind(name="ffv1-mkv", codec="ffv1", suffix="mkv", pixel_format="yuv444p"),
    Kind(name="huffyuv-avi", codec="huffyuv", suffix="avi", pixel_format="yuv422p"),
    Kind(name="png-mov", codec="png", suffix="mov", pixel_format="rgb24"),
    Kind(name="raw-y4m", codec="rawvideo", suffix="y4m"),
    Kind(name="gif", codec="gif", suffix="gif", pixel_format="rgb8"),
    Kind(name="apng", codec="apng", suffix="apng", pixel_format="rgb24"),
]

_TURNED = [
    Kind(
        name=f"turned-{name}",
        size=_TALL if swaps else (WIDTH, HEIGHT),
        displayed_size=(WIDTH, HEIGHT),
        turn=turn,
        display_matrix=matrix,
    )
    for name, swaps, turn, matrix in (
        ("clockwise", True, lambda f: np.rot90(f, 1), _matrix(0, 1, -1, 0)),
        ("counterclockwise", True, lambda f: np.rot90(f, -1), _matrix(0, -1, 1, 0)),
        ("half", False, lambda f: np.rot90(f, 2), _matrix(-1, 0, 0, -1)),
        ("mirrored", False, lambda f: f[:, ::-1], _matrix(-1, 0, 0, 1)),
        ("upside-down", False, lambda f: f[::-1], _matrix(1, 0, 0, -1)),
        ("transposed", True, lambda f: f.swapaxes(0, 1), _matrix(0, 1, 1, 0)),
        ("transversed", True, lambda f: np.rot90(f.swapaxes(0, 1), 2), _matrix(0, -1, -1, 0)),
    )
]

_TIMES = [
    Kind(name="edit-list", times=lambda n: (n - 10) * 40, numbers=range(10, 40)),
    Kind(name="late-start-mp4", times=lambda n: n * 40 + 5000),
    Kind(name="late-start-mkv", suffix="mkv", times=lambda n: n * 40 + 5000),
    Kind(name="late-start-ts", suffix="ts", times=lambda n: n * 40 + 500_000),
    Kind(name="variable-rate-mp4", times=lambda n: n * 40 + n * n * 3),
    Kind(name="variable-rate-mkv", suffix="mkv", times=lambda n: n * 40 + n * n * 3),
    Kind(name="long-pause", suffix="webm", codec="libvpx", times=lambda n: n * 40 + 9000 * (n > 9)),
    Kind(name="one-frame", num_frames=1),
    Kind(name="two-frames", num_frames=2),
    Kind(name="one-a-second", fps=1),
    Kind(name="ntsc", fps=Fraction(30000, 1001)),
    Kind(name="hundred-a-second", fps=100),
]

_GROUPS = [
    Kind(name="closed-gop-b-frames", options={"x264-params": _X264}),
    Kind(name="open-gop-mp4", options={"x264-params": f"{_X264}:open-gop=1"}),
    Kind(name="open-gop-mkv", suffix="mkv", options={"x264-params": f"{_X264}:open-gop=1"}),
    Kind(name="open-gop-ts", suffix="ts", options={"x264-params": f"{_X264}:open-gop=1"}),
    Kind(name="open-gop-hevc", codec="libx265", options=_OPEN_GOP),
    Kind(name="b-frames-avi", codec="mpeg4", suffix="avi", options={"bf": "2"}),
    Kind(name="h264-b-frames-avi", suffix="avi", options={"x264-params": _X264}),
    Kind(name="intra-refresh", options={"x264-params": "intra-refresh=1:keyint=12"}),
    Kind(name="all-intra", gop=1),
    Kind(name="one-gop", num_frames=120, gop=600),
    Kind(name="interlaced", options={"x264-params": "interlaced=1"}),
    Kind(
        name="interlaced-mpeg2", codec="mpeg2video", suffix="ts", options={"flags": "+ildct+ilme"}
    ),
]

_PICTURES = [
    Kind(name="ten-bit", codec="libx265", pixel_format="yuv420p10le", options=_QUIET),
    Kind(name="four-four-four", pixel_format="yuv444p"),
    Kind(name="full-range", pixel_format="yuvj420p"),
    Kind(name="odd-size", pixel_format="yuv444p", size=(127, 95)),
    Kind(name="vertical", size=(72, 128)),
    Kind(name="wide-pixels", pixel_ratio=Fraction(2), displayed_size=(2 * WIDTH, HEIGHT)),
    Kind(name="grey", codec="ffv1", suffix="mkv", pixel_format="gray"),
    Kind(name="bt601", color=_BT601),
    Kind(name="bt709", color=_BT709),
    Kind(name="bt709-full-range", color=_BT709 | {"color_range": ColorRange.JPEG}),
    Kind(name="bt709-webm", codec="libvpx-vp9", suffix="webm", color=_BT709),
    Kind(name="hdr-pq", codec="libx265", pixel_format="yuv420p10le", options=_QUIET, color=_PQ),
    Kind(name="hdr-hlg", codec="libx265", pixel_format="yuv420p10le", options=_QUIET, color=_HLG),
]

_CONTAINERS = [
    Kind(name="index-first", container_options={"movflags": "faststart"}),
    Kind(name="fragmented", container_options={"movflags": "frag_keyframe+empty_moov"}),
    Kind(name="streamed-webm", codec="libvpx", suffix="webm", container_options={"live": "1"}),
    Kind(name="second-stream-is-default", suffix="mkv", other_stream_first=True),
    Kind(name="wrong-suffix", codec="libvpx", container="webm", suffix="mp4"),
    Kind(
        name="size-changes",
        suffix="h264",
        num_frames=20,
        joined_with=Kind(name="size-changes-tail", suffix="h264", num_frames=20, size=(160, 120)),
        numbers=[*range(20), *range(20)],
    ),
]

_LYING = [
    Kind(
        name="lying-count-avi",
        codec="mpeg4",
        suffix="avi",
        damage=_patch(b"avih", 8 + 16, struct.pack("<I", 4_000_000)),
    ),
    Kind(name="lying-duration-mp4", damage=_patch(b"mvhd", 4 + 16, b"\x7f\xff\xff\xff")),
]

_CUT = [
    Kind(name="cut-index-first", container_options={"movflags": "faststart"}, damage=_keep(0.6)),
    Kind(
        name="cut-fragmented",
        container_options={"movflags": "frag_keyframe+empty_moov"},
        damage=_keep(0.6),
    ),
    Kind(name="cut-mkv", suffix="mkv", damage=_keep(0.6)),
    Kind(name="cut-ts", suffix="ts", damage=_keep(0.6)),
    Kind(name="cut-avi", codec="mpeg4", suffix="avi", damage=_keep(0.85)),
    Kind(name="cut-flv", suffix="flv", damage=_keep(0.6)),
    Kind(name="cut-gif", codec="gif", suffix="gif", pixel_format="rgb8", damage=_keep(0.6)),
    Kind(name="tuned-into-ts", codec="mpeg2video", suffix="ts", damage=_without_first_packets),
]

_BROKEN = [
    Kind(name="index-lost", damage=_keep(0.6), failure="not_a_video"),
    Kind(name="head-only", suffix="mkv", damage=lambda data: data[:40], failure="not_a_video"),
    Kind(name="index-without-media", damage=lambda d: d[:36], failure="not_a_video"),
]

READABLE = [*_CODECS, *_TURNED, *_TIMES, *_GROUPS, *_PICTURES, *_CONTAINERS, *_LYING]
CUT = _CUT
BROKEN = _BROKEN
