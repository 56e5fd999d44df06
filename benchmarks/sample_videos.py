"""Videos for benchmarks: moving texture, ten seconds of it encoded and repeated to any length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from sfray.records import Request, WorkItem
from tests.resources.scheduling import kept_scheduling

SEGMENT_SECONDS = 10
FPS = 30


def whole_video(uri: str, requests: tuple[Request, ...] = ()) -> WorkItem:
    """A work item of all of a file."""
    return WorkItem(
        video_id=uri,
        video_uri=uri,
        fetch_uri=uri,
        start_seconds=None,
        end_seconds=None,
        requests=requests,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One file; `gop` is how many frames lie from keyframe to keyframe at most."""

    codec: str
    suffix: str
    height: int
    seconds: int
    gop: int

    @property
    def name(self) -> str:
        codec = self.codec.removeprefix("lib")
        return f"{codec} {self.suffix} {self.height}p {self.seconds} s GOP {self.gop}"

    @property
    def size(self) -> tuple[int, int]:
        return self.height * 16 // 9 // 2 * 2, self.height


def write(case: Case, folder: Path) -> Path:
    """Encodes ten seconds and repeats them, without encoding again, as often as needed."""
    path = folder / f"{case.name.replace(' ', '-')}.{case.suffix}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # Matroska lacks decoding times of the first packets, without which nothing can be appended.
    suffix = "mp4" if case.suffix == "mkv" else case.suffix
    part = folder / f"part-{path.stem}.{suffix}"
    encode(case, part)
    if case.seconds > SEGMENT_SECONDS:
        repeat(part, path, case.seconds // SEGMENT_SECONDS)
        part.unlink()
    else:
        part.rename(path)
    return path


def encode(case: Case, path: Path) -> None:
    """Writes ten seconds."""
    quick = {
        "libx264": {"preset": "veryfast", "x264-params": "open-gop=0"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        "libsvtav1": {"preset": "12"},
    }
    width, height = case.size
    texture = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8 + 64, 3))
    wide = Image.fromarray(texture.astype(np.uint8)).resize((width + 512, height))
    picture_HWC = np.asarray(wide)
    with kept_scheduling(), av.open(str(path), "w") as container:
        stream = container.add_stream(case.codec, rate=FPS, options=quick.get(case.codec, {}))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = case.gop
        stream.bit_rate = width * height * 3
        for number in range(SEGMENT_SECONDS * FPS):
            x = number * 512 // (SEGMENT_SECONDS * FPS)
            frame_HWC = np.ascontiguousarray(picture_HWC[:, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC)))
        container.mux(stream.encode(None))


def repeat(part: Path, path: Path, times: int, options: dict[str, str] | None = None) -> None:
    """Writes a file's packets again and again; `options` are those of the container."""
    with av.open(str(path), "w", options=options or {}) as output:
        target = None
        for turn in range(times):
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                target = target or output.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if not packet.size:
                        continue
                    shift = round(turn * SEGMENT_SECONDS / float(stream.time_base))
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = target
                    output.mux(packet)
