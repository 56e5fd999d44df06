from __future__ import annotations

import pyarrow as pa

from sfray.planning.work_items import clip_starts, work_item_blocks
from sfray.records import work_item_from_row

PASSTHROUGH = pa.schema([pa.field("rank", pa.int64())])


def requests(keys: list[tuple[str, float | None]], passthrough: bool = True) -> pa.Table:
    """One request for each (video_id, start_seconds)."""
    num = len(keys)
    columns = {
        "request_id": [f"r{i}" for i in range(num)],
        "video_id": [video for video, _ in keys],
        "video_uri": [f"{video}.mp4" for video, _ in keys],
        "fetch_uri": [f"{video}.mp4" for video, _ in keys],
        "start_seconds": pa.array([start for _, start in keys], pa.float64()),
        "end_seconds": pa.nulls(num, pa.float64()),
        "prompt_id": [f"p{i}" for i in range(num)],
        "prompt": ["What?"] * num,
        "options": pa.array([None] * num, pa.list_(pa.string())),
        "reference_answer": pa.nulls(num, pa.string()),
    }
    if passthrough:
        columns["rank"] = list(range(num))
    return pa.table(columns)


KEYS = [("a", None), ("a", None), ("a", 1.0), ("b", None), ("c", 0.0), ("c", 0.0), ("c", 0.0)]


def test_a_clip_starts_where_video_or_bounds_change() -> None:
    assert clip_starts(requests(KEYS)).tolist() == [0, 2, 3, 4]
    assert clip_starts(requests([])).tolist() == []


def test_blocks_become_smaller_towards_the_end() -> None:
    many = requests([(f"v{n:02d}", None) for n in range(100)])
    blocks = work_item_blocks(many, PASSTHROUGH, items_per_block=10, attempt=1, num_workers=2)
    sizes = [block.num_rows for block in blocks]
    assert sum(sizes) == 100 and sizes == sorted(sizes, reverse=True)
    assert (sizes[:4], sizes[-15:]) == ([10, 10, 10, 8], [1] * 15)


def test_each_clip_is_one_item_with_all_its_requests_in_order() -> None:
    blocks = list(work_item_blocks(requests(KEYS), PASSTHROUGH, items_per_block=3, attempt=2))
    assert [block.num_rows for block in blocks] == [3, 1]
    items = [work_item_from_row(row) for block in blocks for row in block.to_pylist()]
    assert [[r.request_id for r in item.requests] for item in items] == [
        ["r0", "r1"],
        ["r2"],
        ["r3"],
        ["r4", "r5", "r6"],
    ]
    assert [(item.video_id, item.start_seconds) for item in items] == [
        ("a", None),
        ("a", 1.0),
        ("b", None),
        ("c", 0.0),
    ]
    assert items[3].requests[1].passthrough == {"rank": 5}
    assert {item.attempt for item in items} == {2}


def test_without_passthrough_columns() -> None:
    (block,) = work_item_blocks(requests(KEYS[:1], passthrough=False), pa.schema([]), 4, attempt=1)
    assert work_item_from_row(block.to_pylist()[0]).requests[0].passthrough == {}


def test_a_filtered_table_of_many_chunks_gives_the_same_items() -> None:
    whole = requests(KEYS)
    chunked = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 3), whole.slice(5)])
    one = [b.to_pylist() for b in work_item_blocks(whole, PASSTHROUGH, 10, 1)]
    two = [b.to_pylist() for b in work_item_blocks(chunked, PASSTHROUGH, 10, 1)]
    assert one == two
