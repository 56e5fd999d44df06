"""Scenes as real video files, and manifests that question them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sfray.demo.questions import questions
from sfray.demo.world import FPS, make_scene, render


def write_video(target: Path | BinaryIO, frames_THWC: np.ndarray, fps: int = FPS) -> None:
    """Encodes uint8 (T, H, W, 3) RGB frames as H.264 in mp4."""
    with av.open(target if not isinstance(target, Path) else str(target), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames_THWC:
            out.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                )
            )
        out.mux(stream.encode())


def write_sample_set(
    folder: Path,
    num_videos: int,
    first_seed: int,
    alter: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Path]:
    """Writes videos and the manifests that ask for captions, answers and choices.

    Args:
        alter: changes the frames, uint8 (T, H, W, 3), before they are encoded; the right answers
            stay those of the scene.

    Returns:
        the path of the manifest of each task: `caption`, `qa`, `multiple_choice`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {"caption": [], "qa": [], "multiple_choice": []}
    for seed in range(first_seed, first_seed + num_videos):
        scene = make_scene(seed)
        path = folder / f"scene-{seed}.mp4"
        frames_THWC = render(scene)
        write_video(path, frames_THWC if alter is None else alter(frames_THWC))
        video = {"video_uri": str(path), "video_id": path.stem}
        rows["caption"].append({**video, "answer": scene.caption})
        for asked in questions(scene, seed=0):
            row = {
                **video,
                "question_id": f"{path.stem}/{asked.question_id}",
                "kind": asked.kind,
                "question": asked.question,
                "answer": asked.answer,
            }
            if asked.options:
                rows["multiple_choice"].append({**row, "options": list(asked.options)})
            else:
                rows["qa"].append(row)
    manifests = {task: folder / f"{task}.parquet" for task in rows}
    for task, path in manifests.items():
        pq.write_table(pa.Table.from_pylist(rows[task]), path)
    return manifests
