"""How long 50 frames of a video take, and how much memory, by codec, size, length and way.

Ways take turns, each in a process of its own that has read a small file before, as the processes
of a job have. The least processor time of all rounds counts, since other work on the machine adds
to it, and the peak memory of the first. "decord" is what the reference does: `get_batch`, then PIL.
"PyAV seeking" decodes all frames from a keyframe to the one that is wanted; where sfray seeks, it
passes over those that no other leans on.
"""

from __future__ import annotations

import multiprocessing
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.sample_videos import Case, write
from sfray.video.container import open_video
from sfray.video.readers import pyav as pyav_reader
from sfray.video.readers.pyav import ClipRequest, PyavReader
from sfray.video.readers.reading import read_clip
from sfray.video.sampling import sample_frame_indices

NUM_FRAMES, IMAGE_SIZE = 50, 336
LIMITS = {"max_frame_pixels": 2**26, "max_frames": 10**6}
# Rounds go on until they took so long in all.
MIN_ROUNDS, MAX_ROUNDS, ENOUGH_SECONDS = 3, 12, 30
# A way that takes so many times as long as another is measured once.
HOPELESS = 2

WARM_UP = Case("libx264", "mp4", 120, 10, 30)
CASES = [
    Case("libx264", "mp4", 240, 10, 250),
    Case("libx264", "mp4", 360, 10, 30),
    Case("libx264", "mp4", 720, 10, 250),
    Case("libx264", "mp4", 1080, 10, 250),
    Case("libx264", "mp4", 360, 60, 30),
    Case("libx264", "mp4", 360, 60, 250),
    Case("libx264", "mkv", 720, 60, 30),
    Case("libx264", "mp4", 360, 600, 30),
    Case("libx264", "mp4", 720, 600, 250),
    Case("libvpx", "webm", 360, 10, 120),
    Case("libvpx-vp9", "webm", 360, 10, 120),
    Case("mpeg4", "mp4", 360, 60, 12),
    Case("libx265", "mp4", 720, 10, 250),
    Case("libsvtav1", "mp4", 360, 10, 120),
]
# What decord gives wrongly or not at all is no measure.
NOT_FOR_DECORD = {"libx265", "libsvtav1"}


# Ways of reading: each takes a path and gives uint8 (50, 336, 336, 3).


def with_decord(path: Path) -> np.ndarray:
    import decord

    video = decord.VideoReader(str(path), num_threads=1)
    batch = video.get_batch(sample_frame_indices(len(video), NUM_FRAMES)).asnumpy()
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.stack([np.asarray(Image.fromarray(one).resize(size, 3)) for one in batch])


def with_pyav(path: Path, *, seek: bool) -> np.ndarray:
    pyav_reader._seeking_saves = lambda *_: seek
    pyav_reader._spare = lambda *_, **__: None
    with path.open("rb") as file:
        opener = partial(open_video, file.fileno(), **LIMITS)
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
        **LIMITS,
    )


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "decord": with_decord,
    "PyAV seeking": partial(with_pyav, seek=True),
    "PyAV through": partial(with_pyav, seek=False),
    "keyframe": partial(with_sfray, seek="keyframe"),
    "sfray": partial(with_sfray, seek="exact"),
}
EXACT_WAYS = [way for way in WAYS if way != "keyframe"]


def measure(folder: Path, only: str) -> Iterator[dict[str, Any]]:
    """A row for each video whose name holds `only`."""
    warm_up = write(WARM_UP, folder)
    for case in CASES:
        if only in case.name:
            path = write(case, folder)
            ways = [way for way in WAYS if way != "decord" or case.codec not in NOT_FOR_DECORD]
            cells = _take_turns(ways, path, warm_up)
            yield {"name": case.name, "file_bytes": path.stat().st_size, "ways": cells}


def _take_turns(ways: list[str], path: Path, warm_up: Path) -> dict[str, dict[str, float]]:
    # Processes are copies of one that has loaded the libraries, and no video.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["decord", "benchmarks.video_reading"])
    best: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        pools = {
            way: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for way in ways
        }
        for way, pool in pools.items():
            pool.submit(WAYS[way], warm_up).result()
        began = time.monotonic()
        for number in range(MAX_ROUNDS):
            if number >= MIN_ROUNDS and time.monotonic() - began > ENOUGH_SECONDS:
                break
            least = min((best[way]["cpu_seconds"] for way in EXACT_WAYS if way in best), default=0)
            for way, pool in pools.items():
                if way in best and best[way]["cpu_seconds"] > HOPELESS * least:
                    continue
                run = pool.submit(_measure_here, way, path).result()
                first = best.setdefault(way, run)
                first["cpu_seconds"] = min(first["cpu_seconds"], run["cpu_seconds"])
    return best


def _measure_here(way: str, path: Path) -> dict[str, float]:
    used = time.process_time()
    frames_THWC = WAYS[way](path)
    return {
        "cpu_seconds": time.process_time() - used,
        "peak_bytes": _peak_bytes(),
        "checksum": zlib.crc32(frames_THWC.tobytes()),
    }


def _peak_bytes() -> int:
    """Of this process; `getrusage` would tell that of its parent where that is more."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def report(rows: list[dict[str, Any]]) -> str:
    """The table, and what it says as a whole."""
    order = [case.name for case in CASES]
    rows = sorted(rows, key=lambda row: order.index(row["name"]))
    names = ["video", *(f"{way}, s / MB" for way in WAYS), "sfray / best exact", "same pixels"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    by_decord = [row["ways"] for row in rows if "decord" in row["ways"]]
    decord, sfray = (
        sum(ways[way]["cpu_seconds"] for ways in by_decord) for way in ("decord", "sfray")
    )
    return "\n".join(lines) + (
        f"\n\nProcessor time for {NUM_FRAMES} frames of {IMAGE_SIZE}x{IMAGE_SIZE}, the least of"
        f" {MIN_ROUNDS} to {MAX_ROUNDS} runs in turns (of one where another way takes less than"
        " half), and peak memory of the process in its first. Where decord gives wrong frames or"
        " none it has no cell. keyframe gives other frames. Over the videos that decord reads"
        f" rightly it takes {decord:.1f} s and sfray {sfray:.1f} s: sfray is {decord / sfray:.2f}"
        f" times as fast. At worst sfray takes {max(map(_over_best, rows)):.2f} times as long as"
        " the best exact way.\n"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    ways = row["ways"]
    times = [
        f"{ways[way]['cpu_seconds']:.2f} / {ways[way]['peak_bytes'] / 1e6:.0f}"
        if way in ways
        else ""
        for way in WAYS
    ]
    checksums = {ways[way]["checksum"] for way in EXACT_WAYS if way in ways}
    return [row["name"], *times, f"{_over_best(row):.2f}", "yes" if len(checksums) == 1 else "NO"]


def _over_best(row: dict[str, Any]) -> float:
    ways = row["ways"]
    best = min(ways[way]["cpu_seconds"] for way in EXACT_WAYS if way in ways)
    return float(ways["sfray"]["cpu_seconds"] / best)
