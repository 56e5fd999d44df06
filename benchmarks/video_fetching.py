"""How much of a video on S3 is fetched for 50 frames of it.

A real S3 server on this machine, 1080p H.264 of 1, 10 and 60 minutes with the index at either end;
bytes that came over the bytes of the file, as in the column `bytes_fetched` of results. Keyframes
are a second apart, or as far as x264 has them by itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.sample_videos import FPS, SEGMENT_SECONDS, Case, encode, repeat, whole_video
from sfray.config import DecodeSpec
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from tests.integration.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_s3_server

MINUTES = (1, 10, 60)
GOPS = (FPS, 250)
INDEX_AT = {"start": {"movflags": "faststart"}, "end": {}}
SEEKS = ("exact", "keyframe")
NUM_FRAMES, IMAGE_SIZE = 50, 336


def measure(folder: Path, only: str) -> Iterator[dict[str, Any]]:
    """A row for each video whose name holds `only`, and each way of seeking."""
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with tempfile.TemporaryDirectory() as name, running_s3_server(Path(name)) as server:
        for gop, minutes, index_at in product(GOPS, MINUTES, INDEX_AT):
            video = f"{minutes} min GOP {gop} index at {index_at}"
            if only not in video:
                continue
            part, path = folder / f"part-1080p-{gop}.mp4", folder / "fetched.mp4"
            if not part.exists():
                encode(Case("libx264", "mp4", 1080, SEGMENT_SECONDS, gop), part)
            repeat(part, path, minutes * 60 // SEGMENT_SECONDS, INDEX_AT[index_at])
            for seek in SEEKS:
                file_bytes = path.stat().st_size
                fetched = _fetched_bytes(server, path, seek)
                bytes_told = {"file_bytes": file_bytes, "fetched_bytes": fetched}
                facts = {"minutes": minutes, "gop": gop, "index_at": index_at, "seek": seek}
                yield {"name": f"{video} {seek}", **facts, **bytes_told}
            path.unlink()


def _fetched_bytes(server: S3Server, path: Path, seek: str) -> int:
    bucket, client = server.new_bucket(), server.client()
    client.upload_file(str(path), bucket, path.name)
    limits = DecodeSpec(timeout_seconds=900)
    config = DecodeConfig(
        storage=server.storage,
        decode=limits,
        seek=seek,
        num_frames=NUM_FRAMES,
        image_size=IMAGE_SIZE,
    )
    stage = DecodeVideo(config)
    try:
        decoded = stage(whole_video(f"s3://{bucket}/{path.name}"))
    finally:
        stage.close()
        client.delete_object(Bucket=bucket, Key=path.name)
    if decoded.video is None:
        raise RuntimeError(f"the benchmark's own video doesn't decode: {decoded.failure}")
    return decoded.bytes_fetched


def report(rows: list[dict[str, Any]]) -> str:
    """The table: a line for each kind of file, a column for each way of seeking."""
    shares = {row["name"]: row["fetched_bytes"] / row["file_bytes"] for row in rows}
    lines = [
        "| 1080p H.264 | file, MB | fetched, exact | fetched, keyframe |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["gop"], row["minutes"], row["index_at"])):
        video, _, seek = row["name"].rpartition(" ")
        if seek == SEEKS[0]:
            cells = [f"{shares.get(f'{video} {seek}', float('nan')):.1%}" for seek in SEEKS]
            lines.append(f"| {video} | {row['file_bytes'] / 1e6:.0f} | {' | '.join(cells)} |")
    return (
        "\n".join(lines) + f"\n\nBytes fetched over bytes of the file, for {NUM_FRAMES} frames.\n"
    )
