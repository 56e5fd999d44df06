"""Where scenes change, by PySceneDetect's adaptive detector."""

from __future__ import annotations

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode

from sfray.video.container import Opener
from sfray.video.readers.pyav import FrameTimes, decoded_frames
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
    times = FrameTimes()
    cuts: list[int] = []
    size: tuple[int, int] | None = None
    with opener() as video:
        fps = video.facts.fps or DEFAULT_FPS
        for index, frame in enumerate(decoded_frames(video)):
            times.add(frame, video.time_base)
            shown = index / fps if times.last_seconds is None else times.last_seconds
            if not start <= shown < end:
                continue
            # All of one size, whatever a video does in its middle.
            size = size or _reduced(frame.width, frame.height)
            image = frame.reformat(*size, format="bgr24", interpolation="AREA").to_ndarray()
            found = detector.process_frame(FrameTimecode(index, fps), image)
            cuts += [cut.frame_num for cut in found]
        timeline = times.timeline(fps)
    return timeline, timeline.pts_seconds[cuts].tolist()


def _reduced(width: int, height: int) -> tuple[int, int]:
    factor = max(1.0, width / _WIDTH)
    return max(1, round(width / factor)), max(1, round(height / factor))
