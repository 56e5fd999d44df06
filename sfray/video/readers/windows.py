"""What a clip is cut into: pieces of equal length, or scenes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sfray.video.container import Opener
from sfray.video.packets import read_table
from sfray.video.readers.probe import first_frame, proven_timeline
from sfray.video.timeline import Timeline

Window = tuple[float, float]

# Bounds are part of a request's identity: equal ones must come out equal to the last bit.
_DECIMALS = 6


def find_windows(
    opener: Opener,
    start_seconds: float | None,
    end_seconds: float | None,
    *,
    seconds: float | None,
    overlap_seconds: float,
    min_scene_seconds: float,
) -> list[Window]:
    """The windows of a clip, in order, at least one.

    Args:
        seconds: the length of a window; None stands for scenes.

    Raises:
        RequestError: the file can't be read, or the clip lies outside of it.
    """
    if seconds is None:
        # OpenCV, which detection brings along, is loaded where scenes are asked for only.
        from sfray.video.readers.scenes import detect_cuts

        timeline, cuts_seconds = detect_cuts(opener, start_seconds, end_seconds)
        start, end = timeline.span(start_seconds, end_seconds)
        return scene_windows(start, end, cuts_seconds, min_scene_seconds)
    timeline = proven_timeline(opener, read_table(opener), first_frame(opener))
    start, end = timeline.span(start_seconds, end_seconds)
    return _with_frames(uniform_windows(start, end, seconds, overlap_seconds), timeline)


def uniform_windows(
    start_seconds: float, end_seconds: float, seconds: float, overlap_seconds: float
) -> list[Window]:
    """Windows of `seconds`, each beginning `overlap_seconds` before the end of the last.

    The last one ends with the clip and may be shorter; what the one before it holds already is
    no window. Bounds are rounded to microseconds.
    """
    windows: list[Window] = []
    for number in range(int((end_seconds - start_seconds) / (seconds - overlap_seconds)) + 1):
        begin = start_seconds + number * (seconds - overlap_seconds)
        end = round(min(begin + seconds, end_seconds), _DECIMALS)
        if windows and end <= windows[-1][1]:
            break
        windows.append((round(begin, _DECIMALS), end))
    return windows


def scene_windows(
    start_seconds: float, end_seconds: float, cuts_seconds: Sequence[float], min_seconds: float
) -> list[Window]:
    """The scenes between cuts. A cut that comes less than `min_seconds` after the one before it,
    or before the end, doesn't count."""
    bounds = [start_seconds]
    for cut in cuts_seconds:
        if cut - bounds[-1] >= min_seconds and cut > bounds[-1]:
            bounds.append(cut)
    if len(bounds) > 1 and end_seconds - bounds[-1] < min_seconds:
        bounds.pop()
    rounded = [round(bound, _DECIMALS) for bound in (*bounds, end_seconds)]
    return list(pairwise(rounded))


def _with_frames(windows: list[Window], timeline: Timeline) -> list[Window]:
    """Those in which a frame comes up, and the first: a gap of hours between two frames would
    else be cut into windows that all show the same one."""
    times = timeline.pts_seconds
    bounds = np.searchsorted(times, np.array(windows))
    return [window for i, window in enumerate(windows) if i == 0 or bounds[i, 0] < bounds[i, 1]]
