"""Damaged files by the thousand: what becomes of each, and what it costs.

    python -m benchmarks.fuzz_video [--files 2000] [--seed 0] [--results FOLDER]

Takes the generated files of all kinds, damages each at random (bits flipped, bytes overwritten,
cut, a piece of another file spliced in, pieces of itself doubled or left out, its header put
before another's media) and sends it through the decode stage. Every file must end as frames or as
a failure with a code, within the limit of time, and no process may be left.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processor import processor
from benchmarks.sample_videos import whole_video
from sfray.config import DecodeSpec
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from tests.resources.video_kinds import READABLE

TIMEOUT_SECONDS = 20
HEADER_BYTES = 600
Damage = Callable[[bytearray, bytes, random.Random], bytes]


def flip_bits(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 3, 10, 100))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def flip_header_bits(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 3, 10))):
        data[chance.randrange(min(HEADER_BYTES, len(data)))] ^= 1 << chance.randrange(8)
    return bytes(data)


def overwrite(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(data)), chance.randrange(1, 400)
    filler = chance.choice((b"\x00", b"\xff", chance.randbytes(1)))
    data[at : at + length] = filler * len(data[at : at + length])
    return bytes(data)


def extreme_number(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(max(1, min(4000, len(data)) - 4))
    data[at : at + 4] = chance.choice(
        (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x00")
    )
    return bytes(data)


def cut(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def leave_out(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    del data[at : at + chance.randrange(1, 2000)]
    return bytes(data)


def double(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(data)), chance.randrange(1, 2000)
    return bytes(data[: at + length] + data[at:])


def splice(data: bytearray, other: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(data)), chance.randrange(1, 3000)
    start = chance.randrange(len(other))
    return bytes(data[:at] + other[start : start + length] + data[at:])


def swap_header(data: bytearray, other: bytes, chance: random.Random) -> bytes:
    length = chance.randrange(8, HEADER_BYTES)
    return other[:length] + bytes(data[length:])


DAMAGES: list[Damage] = [
    *(flip_bits, flip_header_bits, overwrite, extreme_number, cut, leave_out, double, splice),
    swap_header,
]


def run(num_files: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damages and decodes so many files, always the same ones for a seed."""
    chance = random.Random(seed)  # noqa: S311 - no secret hangs on it
    originals = {kind.name: kind.write(folder).read_bytes() for kind in READABLE}
    names = list(originals)
    outcomes: Counter[str] = Counter()
    by_damage: dict[str, Counter[str]] = {damage.__name__: Counter() for damage in DAMAGES}
    slowest, children, peak_bytes = 0.0, set(), 0
    path = folder / "damaged.bin"
    decode = DecodeSpec(timeout_seconds=TIMEOUT_SECONDS, max_memory_bytes=2 * 2**30)
    with closing(DecodeVideo(DecodeConfig(decode=decode, num_frames=8, image_size=48))) as stage:
        for number in range(num_files):
            damage = DAMAGES[number % len(DAMAGES)]
            data = bytearray(originals[names[number % len(names)]])
            path.write_bytes(damage(data, originals[chance.choice(names)], chance))
            began = time.monotonic()
            decoded = stage(whole_video(str(path)))
            slowest = max(slowest, time.monotonic() - began)
            outcome = decoded.failure.code if decoded.failure else "frames"
            outcomes[outcome] += 1
            by_damage[damage.__name__][outcome] += 1
            for child in psutil.Process().children(recursive=True):
                children.add(child.pid)
                peak_bytes = max(peak_bytes, _resident_bytes(child))
    return {
        "files": num_files,
        "accounted_for": sum(outcomes.values()),
        "outcomes": dict(outcomes.most_common()),
        "by_damage": {name: dict(counts.most_common()) for name, counts in by_damage.items()},
        "slowest_seconds": round(slowest, 2),
        "limit_seconds": TIMEOUT_SECONDS,
        "child_processes": len(children),
        "largest_child_bytes": peak_bytes,
        "processes_left": sum(psutil.pid_exists(pid) for pid in children),
    }


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def table(told: dict[str, Any]) -> str:
    """Outcomes by damage, as Markdown."""
    codes = list(told["outcomes"])
    lines = ["| damage | " + " | ".join(codes) + " |", "|---|" + "---:|" * len(codes)]
    for name, counts in [*told["by_damage"].items(), ("all", told["outcomes"])]:
        cells = [str(counts.get(code, "")) for code in codes]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(told.files, told.seed, Path(folder))
    summary = (
        f"{result['accounted_for']} of {result['files']} files are accounted for. The slowest took"
        f" {result['slowest_seconds']} s (limit {result['limit_seconds']} s);"
        f" {result['child_processes']} child processes were used, {result['processes_left']} are"
        f" left; the largest held {result['largest_child_bytes'] / 1e6:.0f} MB."
    )
    print(f"{table(result)}\n\n{summary}")
    if told.results:
        day = datetime.now(UTC).date().isoformat()
        command = f"python -m benchmarks.fuzz_video --files {told.files} --seed {told.seed}"
        about = {"date": day, "processor": processor(), "command": command}
        text = json.dumps(about | result, indent=1)
        (told.results / f"{day}-fuzz.json").write_text(text + "\n")
        (told.results / f"{day}-fuzz.md").write_text(
            f"# Damaged files\n\n{processor()}, {day}; `{command}`.\n\n"
            f"{table(result)}\n\n{summary}\n"
        )


if __name__ == "__main__":
    main()
