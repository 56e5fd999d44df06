"""What the clips of an output cost: sums over clips, where rows repeat them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sfray.config import StorageSpec
from sfray.results.read import read_answers

# Costs of a clip, which each of its rows repeats, and those of a request.
_OF_CLIPS = ("bytes_fetched", "fetch_seconds", "decode_seconds")
_OF_REQUESTS = "model_seconds"
# One fetch and decoding of a clip. Without `clip_id`, which outputs of older versions lack.
_CLIP = ("run_id", "attempts", "video_id", "start_seconds", "end_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the answers of an output took.

    Attributes:
        num_clips: how often a clip was fetched and decoded for them.
        bytes_fetched: over the network.
        fetch_seconds, decode_seconds: of decode workers, added up.
        model_seconds: of requests, added up; they overlap on a replica.
    """

    num_clips: int
    bytes_fetched: int
    fetch_seconds: float
    decode_seconds: float
    model_seconds: float


def total_costs(uri: str, storage: StorageSpec | None = None) -> Costs:
    """The costs of all answers in an output.

    A clip that is fetched once for many requests counts once: a sum over rows would count it as
    often as it has requests.

    Args:
        storage: how S3 is reached, where not by its defaults.

    Raises:
        StorageError: the output can't be read.
    """
    rows = read_answers(uri, storage or StorageSpec()).to_table(
        columns=[*_CLIP, *_OF_CLIPS, _OF_REQUESTS]
    )
    clips = rows.group_by(list(_CLIP)).aggregate([(name, "max") for name in _OF_CLIPS])

    def total(column: pa.ChunkedArray) -> float:
        return pc.sum(column).as_py() or 0

    return Costs(
        num_clips=clips.num_rows,
        bytes_fetched=int(total(clips["bytes_fetched_max"])),
        fetch_seconds=total(clips["fetch_seconds_max"]),
        decode_seconds=total(clips["decode_seconds_max"]),
        model_seconds=total(rows[_OF_REQUESTS]),
    )
