"""How long 50 frames of a video take, by codec, size, length and way of reading.

    python -m benchmarks.bench_video [--folder VIDEOS] [--only NAME] [--results FOLDER]

Every cell is the best of three runs, each in a process of its own, in seconds of processor time
(other work on the machine adds to wall time, not to it), with the process's peak memory.
"decord" is what the reference does: `get_batch`, then PIL.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.processor import processor
from sfray.video import pyav_reader
from sfray.video.container import open_video
from sfray.video.pyav_reader import ClipRequest, PyavReader
from sfray.video.reading import read_clip
from sfray.video.sampling import sample_frame_indices

NUM_FRAMES, IMAGE_SIZE = 50, 336
RUNS = 2
SEGMENT_SECONDS = 10
FPS = 30


@dataclass(frozen=True, slots=True)
class Case:
    """One file: so many seconds of moving texture."""

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


CASES = [
    Case("libx264", "mp4", 240, 10, 250),
    Case("libx264", "mp4", 360, 10, 30),
    Case("libx264", "mp4", 720, 10, 250),
    Case("libx264", "mp4", 1080, 10, 250),
    Case("libx264", "mp4", 360, 60, 30),
    Case("libx264", "mp4", 360, 60, 250),
    Case("libvpx", "webm", 360, 10, 120),
    Case("libvpx-vp9", "webm", 360, 10, 120),
    Case("mpeg4", "mp4", 360, 60, 12),
    Case("libx265", "mp4", 720, 10, 250),
    Case("libsvtav1", "mp4", 360, 10, 120),
    Case("libx264", "mp4", 360, 600, 30),
    Case("libx264", "mkv", 720, 60, 30),
    Case("libx264", "mp4", 720, 600, 250),
]
# What decord gives wrongly or not at all is no measure.
NOT_FOR_DECORD = {"libx265", "libsvtav1"}


def write(case: Case, folder: Path) -> Path:
    """Encodes ten seconds and repeats them, without encoding again, as often as needed."""
    path = folder / f"{case.name.replace(' ', '-')}.{case.suffix}"
    if path.exists():
        return path
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
    with av.open(str(path), "w") as container:
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


# Ways of reading: each takes a path and gives uint8 (50, 336, 336, 3).


def with_decord(path: Path) -> np.ndarray:
    import decord

    video = decord.VideoReader(str(path), num_threads=1)
    batch = video.get_batch(sample_frame_indices(len(video), NUM_FRAMES)).asnumpy()
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.stack([np.asarray(Image.fromarray(one).resize(size, 3)) for one in batch])


def with_pyav(path: Path, *, seek: bool) -> np.ndarray:
    pyav_reader._seeking_saves = lambda *_: seek
    with path.open("rb") as file:
        opener = partial(open_video, file.fileno(), 2**26)
        clip = PyavReader(opener).read(_request("exact"))
    return np.stack([clip.frames[index] for index in clip.indices.tolist()])


def with_sfray(path: Path, *, seek: str) -> np.ndarray:
    frames_THWC = np.empty((NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    with path.open("rb") as file:
        read_clip(
            file.fileno(),
            _request(seek),
            reader="auto",
            max_substituted_ratio=0.0,
            frames_THWC=frames_THWC,
        )
    return frames_THWC


def _request(seek: str) -> ClipRequest:
    return ClipRequest(
        start_seconds=None,
        end_seconds=None,
        num_frames=NUM_FRAMES,
        image_size=IMAGE_SIZE,
        seek=seek,
        max_frame_pixels=2**26,
    )


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "decord": with_decord,
    "PyAV seeking": partial(with_pyav, seek=True),
    "PyAV through": partial(with_pyav, seek=False),
    "keyframe": partial(with_sfray, seek="keyframe"),
    "sfray": partial(with_sfray, seek="exact"),
}


def measure_here(way: str, path: Path) -> dict[str, float]:
    """What one read takes in this process, imports not counted."""

    import decord  # noqa: F401 - so that every way has it loaded

    began, used = time.perf_counter(), time.process_time()
    frames_THWC = WAYS[way](path)
    return {
        "cpu_seconds": time.process_time() - used,
        "wall_seconds": time.perf_counter() - began,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "checksum": zlib.crc32(frames_THWC.tobytes()),
    }


def measure(way: str, path: Path) -> dict[str, float]:
    """The quickest of some runs in processes of their own."""
    command = [sys.executable, __file__, "--measure", way, str(path)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603
        for _ in range(RUNS)
    ]
    return min(runs, key=lambda run: run["cpu_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/sfray-bench-videos"))  # noqa: S108
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "PATH"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.measure:
        print(json.dumps(measure_here(told.measure[0], Path(told.measure[1]))))
        return
    told.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    print(heading(), flush=True)
    for case in CASES:
        if told.only not in case.name:
            continue
        path = write(case, told.folder)
        ways = [way for way in WAYS if way != "decord" or case.codec not in NOT_FOR_DECORD]
        cells = {way: measure(way, path) for way in ways}
        rows.append({"case": case.name, "file_bytes": path.stat().st_size, "ways": cells})
        print(line(rows[-1]), flush=True)
        if told.results:
            save(rows, told.results)


def heading() -> str:
    names = ["video", *(f"{way}, s" for way in WAYS), "MB, decord", "MB, sfray", "same pixels"]
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)


def line(row: dict) -> str:
    cells = row["ways"]
    seconds = [f"{cells[way]['cpu_seconds']:.2f}" if way in cells else "" for way in WAYS]
    memory = [
        f"{cells[w]['peak_bytes'] / 1e6:.0f}" if w in cells else "" for w in ("decord", "sfray")
    ]
    exact = {cells[way]["checksum"] for way in cells if way != "keyframe"}
    return f"| {' | '.join([row['case'], *seconds, *memory, 'yes' if len(exact) == 1 else 'NO'])} |"


def save(rows: list[dict], folder: Path) -> None:
    """The table as JSON and Markdown, with where it comes from."""
    day = datetime.now(UTC).date().isoformat()
    about = {"date": day, "processor": processor(), "command": "python -m benchmarks.bench_video"}
    by_decord = [row for row in rows if "decord" in row["ways"]]
    total = {
        way: sum(row["ways"][way]["cpu_seconds"] for row in by_decord)
        for way in ("decord", "sfray")
    }
    worst = max(
        row["ways"]["sfray"]["cpu_seconds"]
        / min(row["ways"][way]["cpu_seconds"] for way in row["ways"] if way not in ("keyframe",))
        for row in rows
    )
    summary = (
        f"Over the videos that decord reads rightly, sfray takes {total['sfray']:.1f} s and decord"
        f" {total['decord']:.1f} s ({total['decord'] / total['sfray']:.2f} times as long)."
        f" At worst sfray takes {worst:.2f} times as long as the best exact way."
    )
    text = "\n".join([heading(), *map(line, rows)])
    (folder / f"{day}-video.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    (folder / f"{day}-video.md").write_text(
        f"# Reading 50 frames of a video\n\n{about['processor']}, {day}; `{about['command']}`.\n"
        f"Seconds of processor time, best of {RUNS}; {NUM_FRAMES} frames at"
        f" {IMAGE_SIZE}x{IMAGE_SIZE}.\n\n{text}\n\n{summary}\n"
    )


if __name__ == "__main__":
    main()
