"""Intervals by the bootstrap, resampling videos: questions on one video are not independent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_NUM_RESAMPLES = 2000
_CHUNK = 100


class VideoBootstrap:
    """Resamples of a set of videos, the same ones for every mean that is asked for.

    Args:
        videos: the videos, in any order, each once or more.
        seed: of the resamples, so that a report is the same each time.
    """

    def __init__(self, videos: Sequence[str], seed: int = 0) -> None:
        names = sorted(set(videos))
        self._index = {name: number for number, name in enumerate(names)}
        self._seed = seed

    def means(self, values: np.ndarray, videos: Sequence[str]) -> np.ndarray:
        """The mean of the values in each resample.

        Args:
            values: float64 (n,).
            videos: the video of each value.

        Returns:
            float64 (resamples,); NaN where a resample holds none of the values.
        """
        place = np.array([self._index[video] for video in videos])
        size = len(self._index)
        sums = np.bincount(place, weights=values, minlength=size)
        counts = np.bincount(place, minlength=size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.concatenate(
                [(weights @ sums) / (weights @ counts) for weights in self._weights()]
            )

    def _weights(self) -> Iterator[np.ndarray]:
        """How often each video is drawn: float64 (chunk, videos)."""
        rng = np.random.default_rng(self._seed)
        size = len(self._index)
        for _ in range(_NUM_RESAMPLES // _CHUNK):
            yield rng.multinomial(size, np.full(size, 1 / size), _CHUNK).astype(np.float64)


def interval(means: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled means."""
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)


def two_sided_p(differences: np.ndarray) -> float:
    """How often resampled differences lie on the other side of zero, both tails."""
    at_least = float(np.nanmean(differences >= 0))
    at_most = float(np.nanmean(differences <= 0))
    return min(1.0, 2 * min(at_least, at_most))
