"""Where scenes change, by PySceneDetect's adaptive detector."""

from __future__ import annotations

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode

from sfray.video.container import Opener
from sfray.video.pyav_reader import decoded_frames
from sfray.video.timeline import DEFAULT_FPS, Timeline

# Detection looks at frames of about this width, as PySceneDetect itself does.
_WIDTH = 256

cv2.setNumThreads(1)


def detect_cuts(
    opener: Opener, start_seconds: float | None, end_seconds: float | None
) -> tuple[Timeline, list[float]]:
    """Decodes a file and finds the first frames of new scenes within a clip.

    Returns:
        the exact timeline, and the times at which scenes begin, that of the first one excluded.

    Raises:
        RequestError: the file can't be decoded.
    """
    start = 0.0 if start_seconds is None else start_seconds
    end = np.inf if end_seconds is None else end_seconds
    # Its own least length counts frames; what is too short is merged by time, by the caller.
    detector = AdaptiveDetector(min_scene_len=0)
    pts_seconds: list[float | None] = []
    last_frame_seconds = 0.0
    cuts: list[int] = []
    size: tuple[int, int] | None = None
    with opener() as video:
        fps = video.facts.fps or DEFAULT_FPS
        for index, frame in enumerate(decoded_frames(video)):
            pts = None if frame.pts is None else frame.pts * video.time_base
            pts_seconds.append(pts)
            last_frame_seconds = (frame.duration or 0) * video.time_base
            first = pts_seconds[0]
            shown = index / fps if pts is None or first is None else pts - first
            if not start <= shown < end:
                continue
            # All of one size, whatever a video does in its middle.
            size = size or _reduced(frame.width, frame.height)
            image = frame.reformat(*size, format="bgr24", interpolation="AREA").to_ndarray()
            found = detector.process_frame(FrameTimecode(index, fps), image)
            cuts += [cut.frame_num for cut in found]
        timeline = Timeline.of(pts_seconds, fps, last_frame_seconds)
    return timeline, timeline.pts_seconds[cuts].tolist()


def _reduced(width: int, height: int) -> tuple[int, int]:
    factor = max(1.0, width / _WIDTH)
    return max(1, round(width / factor)), max(1, round(height / factor))
