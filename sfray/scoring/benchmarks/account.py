"""A conversion's account, for people."""

from __future__ import annotations

from collections.abc import Iterator

from sfray.scoring.benchmarks.convert import Conversion
from sfray.scoring.benchmarks.definitions import benchmark_named

_NUM_EXAMPLES = 3


def account_lines(account: Conversion) -> Iterator[str]:
    """Every number by name, then each kind of repair with its first places."""
    yield f"rows read: {account.num_read}"
    yield f"rows kept: {account.num_kept}"
    yield f"identical rows collapsed: {account.num_collapsed}"
    yield f"questions repeated under another id (kept): {account.num_repeated}"
    yield f"repairs: {sum(len(places) for places in account.repairs.values())}"
    for kind, places in account.repairs.items():
        more = ", ..." if len(places) > _NUM_EXAMPLES else ""
        yield f"  {kind}: {len(places)} ({', '.join(places[:_NUM_EXAMPLES])}{more})"
    yield f"question ids made unique (the source's own are kept): {account.num_ids_changed}"
    yield f"questions without a reference answer: {account.num_without_answer}"
    yield f"rows without a video's name: {account.num_without_video}"
    yield f"rows without a question: {account.num_without_question}"
    if account.num_unpaired:
        yield f"questions of a pair without the other one: {account.num_unpaired}"
    yield f"answers to no question: {account.num_unused_answers}"
    yield f"videos: {account.num_videos}"
    yield from _video_lines(account)
    yield _split_line(account)


def _video_lines(account: Conversion) -> Iterator[str]:
    missing = account.videos_missing
    if missing is None:
        yield "videos found: not looked for (--videos FOLDER does)"
        return
    yield f"videos found: {account.num_videos - len(missing)}"
    names = f" ({', '.join(missing[:_NUM_EXAMPLES])})" if missing else ""
    yield f"videos missing: {len(missing)}{names}"


def _split_line(account: Conversion) -> str:
    if account.split:
        return f"of the size of: {account.split}"
    splits = benchmark_named(account.benchmark).splits
    known = "; ".join(f"{split.name} {split.num_questions}" for split in splits)
    return f"of the size of no published part ({known})"
