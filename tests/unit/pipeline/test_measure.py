from __future__ import annotations

import pyarrow as pa

from sfray.pipeline.measure import sample_clips


def requests(num_videos: int) -> pa.Table:
    """Two requests for each clip of 10 s."""
    rows = [
        {
            "video_id": f"v{n:03d}",
            "start_seconds": 0.0,
            "end_seconds": 10.0,
            "request_id": f"{n}{q}",
        }
        for n in range(num_videos)
        for q in "ab"
    ]
    return pa.Table.from_pylist(rows)


def test_a_sample_has_whole_clips_from_all_over_the_manifest() -> None:
    sampled = sample_clips(requests(500), 20, seed=0)
    videos = sampled["video_id"].to_pylist()
    assert sampled.num_rows == 40 and len(set(videos)) == 20
    assert videos[::2] == videos[1::2] == sorted(set(videos))
    assert videos[-1] > "v400", "not the first ones"


def test_a_seed_draws_the_same_again() -> None:
    table = requests(500)
    assert sample_clips(table, 20, seed=1) == sample_clips(table, 20, seed=1)
    assert sample_clips(table, 20, seed=1) != sample_clips(table, 20, seed=2)


def test_a_small_job_is_measured_whole() -> None:
    assert sample_clips(requests(3), 20, seed=0) == requests(3)
