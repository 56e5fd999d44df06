"""How much of a video on S3 is fetched for 50 frames of it.

    python -m benchmarks.bench_fetch [--results FOLDER]

A real S3 server on this machine, 1080p H.264 of 1, 10 and 60 minutes with the index at either end;
bytes that came over the bytes of the file, as in the column `bytes_fetched` of results. Keyframes
are a second apart, or as far as x264 has them by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.bench_video import FPS, NUM_FRAMES, SEGMENT_SECONDS, Case, encode, repeat
from benchmarks.processor import processor
from sfray.config import DecodeSpec, VideosSpec
from sfray.records import WorkItem
from sfray.stages.decode_video import DecodeVideo
from tests.integration.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3_server

MINUTES = (1, 10, 60)
GOPS = (FPS, 250)
INDEX_AT = {"start": {"movflags": "faststart"}, "end": {}}
SEEKS = ("exact", "keyframe")
IMAGE_SIZE = 336


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Bytes, for one video read in one way."""

    minutes: int
    gop: int
    index_at: str
    seek: str
    file_bytes: int
    fetched_bytes: int

    @property
    def share(self) -> float:
        return self.fetched_bytes / self.file_bytes


def measure(server: S3Server, folder: Path, gop: int, minutes: int, index_at: str) -> list[Row]:
    """One video, written and uploaded, read in each way."""
    part, path = folder / f"part-{gop}.mp4", folder / "video.mp4"
    if not part.exists():
        encode(Case("libx264", "mp4", 1080, SEGMENT_SECONDS, gop), part)
    repeat(part, path, minutes * 60 // SEGMENT_SECONDS, INDEX_AT[index_at])
    bucket = server.new_bucket()
    server.client().upload_file(str(path), bucket, path.name)
    rows = []
    for seek in SEEKS:
        stage = DecodeVideo(
            VideosSpec(),
            server.storage,
            DecodeSpec(timeout_seconds=900),
            seek,
            NUM_FRAMES,
            IMAGE_SIZE,
        )
        try:
            decoded = stage(_item(f"s3://{bucket}/{path.name}"))
        finally:
            stage.close()
        if decoded.video is None:
            raise RuntimeError(f"the benchmark's own video doesn't decode: {decoded.failure}")
        size, fetched = path.stat().st_size, decoded.bytes_fetched
        row = {"minutes": minutes, "gop": gop, "index_at": index_at, "seek": seek}
        rows.append(Row(**row, file_bytes=size, fetched_bytes=fetched))
    server.client().delete_object(Bucket=bucket, Key=path.name)
    return rows


def _item(uri: str) -> WorkItem:
    return WorkItem(
        video_id="v",
        video_uri=uri,
        fetch_uri=uri,
        start_seconds=None,
        end_seconds=None,
        requests=(),
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| minutes | keyframe every | index at | seek | file, MB | fetched |",
        "|---" * 6 + "|",
    ]
    lines += [
        f"| {row.minutes} | {row.gop / FPS:.1f} s | {row.index_at} | {row.seek} "
        f"| {row.file_bytes / 1e6:.0f} | {row.share:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="a folder for the dated table")
    told = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, running_s3_server(Path(name) / "s3") as server:
        for gop, minutes, index_at in product(GOPS, MINUTES, INDEX_AT):
            rows += measure(server, Path(name), gop, minutes, index_at)
            print(table(rows[-len(SEEKS) :]).splitlines()[-len(SEEKS) :], flush=True)
    about = {
        "command": "python -m benchmarks.bench_fetch",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": processor(),
    }
    text = (
        f"# How much of a video on S3 is fetched\n\n{about['processor']}, {about['date']}; "
        f"`{about['command']}`.\n{NUM_FRAMES} frames of 1080p H.264 in MP4, spread over the whole "
        f"video.\n\n{table(rows)}\n"
    )
    print(text)
    if told.results:
        stem = told.results / f"{about['date']}-fetch"
        stem.with_suffix(".md").write_text(text)
        rows_as_json = [asdict(row) | {"share": row.share} for row in rows]
        stem.with_suffix(".json").write_text(json.dumps(about | {"rows": rows_as_json}, indent=1))


if __name__ == "__main__":
    main()
