"""When each displayed frame is shown, and which frames a clip takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfray.errors import RequestError

# Timestamps in containers are rounded, in Matroska to a millisecond.
_ROUNDING_SECONDS = 1e-3
DEFAULT_FPS = 25.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The displayed frames of a video in order.

    Attributes:
        pts_seconds: float64 (N,), strictly increasing, 0 for the first frame.
        last_frame_seconds: how long the last frame is shown.
    """

    pts_seconds: np.ndarray
    last_frame_seconds: float

    @classmethod
    def of(
        cls, pts_seconds: list[float | None], fps: float | None, last_frame_seconds: float | None
    ) -> Timeline:
        """The timeline of frames in display order.

        Where timestamps are missing or don't increase they tell nothing: then frames follow
        each other at `fps`, or at 25 a second where the file names no rate.
        """
        fps = fps or DEFAULT_FPS
        times = np.array([np.nan if t is None else t for t in pts_seconds], dtype=np.float64)
        if np.isnan(times).any() or (np.diff(times) <= 0).any():
            return cls(np.arange(len(times)) / fps, 1 / fps)
        if len(times):
            times -= times[0]
        if not last_frame_seconds or last_frame_seconds < 0:
            last_frame_seconds = float(np.median(np.diff(times))) if len(times) > 1 else 1 / fps
        return cls(times, last_frame_seconds)

    def __len__(self) -> int:
        return len(self.pts_seconds)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's appearance to the last one's end."""
        return float(self.pts_seconds[-1]) + self.last_frame_seconds if len(self) else 0.0

    @property
    def fps(self) -> float | None:
        """The mean rate; None for less than two frames."""
        return (len(self) - 1) / float(self.pts_seconds[-1]) if len(self) > 1 else None

    def span(self, start_seconds: float | None, end_seconds: float | None) -> tuple[float, float]:
        """The bounds of a clip in seconds, None replaced by the video's own.

        Raises:
            RequestError: `clip_out_of_range`, with the video's duration. An end beyond the
                duration by less than a frame is no error.
        """
        start = 0.0 if start_seconds is None else start_seconds
        duration = self.duration_seconds
        end = duration if end_seconds is None else end_seconds
        slack = max(self.last_frame_seconds, _ROUNDING_SECONDS)
        if not 0 <= start < min(end, duration) or end >= duration + slack:
            shown = f"{start:g} s to " + ("its end" if end_seconds is None else f"{end:g} s")
            raise RequestError(
                "clip_out_of_range",
                f"the clip from {shown} lies outside the {duration:.3f} s video",
            )
        return start, end

    def clip(self, start_seconds: float | None, end_seconds: float | None) -> tuple[int, int]:
        """The frames on display in [start, end): first index and the one after the last.

        Raises:
            RequestError: as of `span`.
        """
        if start_seconds is None and end_seconds is None:
            return 0, len(self)
        start, end = self.span(start_seconds, end_seconds)
        times = self.pts_seconds
        low = int(np.searchsorted(times, start + _ROUNDING_SECONDS, side="right")) - 1
        high = int(np.searchsorted(times, end - _ROUNDING_SECONDS, side="left"))
        return max(low, 0), max(high, low + 1, 1)
