"""Rounds end with one outcome a request, whatever is lost, doubled or reordered on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfray.errors import TooManyErrorsError
from sfray.pipeline.cluster import ClusterShare
from sfray.pipeline.ray_data import EndOfStream
from sfray.runs.rounds import Rounds
from sfray.runs.stop_signal import StopSignal
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

SHARE = ClusterShare(
    decode_cpus=1,
    decode_actors=(1, 2),
    decode_node_group=None,
    model_cpus=1,
    model_gpus=0,
    model_actors=(1, 1),
    model_threads=None,
)
NO_ATTEMPTS = pa.table(
    {"request_id": pa.array([], pa.string()), "attempts": pa.array([], pa.int64())}
)


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What happens to the videos of a job.

    Attributes:
        num_requests: of each video.
        poison: videos that no round brings back.
        lost: how many of the first rounds lose a video, whole or the first of its requests.
        seed: of the order in which outcomes come, and of what comes twice.
    """

    num_requests: list[int]
    poison: set[int]
    lost: dict[int, int]
    seed: int


@dataclass
class World:
    """The log, the sink and the stages of a run, none of them real."""

    weather: Weather
    asked: Counter[str] = field(default_factory=Counter)
    taken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lone: list[str] = field(default_factory=list)
    num_flushes: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.weather.seed)

    def stream(self, blocks: Iterable[pa.Table], share: ClusterShare) -> Stream:
        return Stream(self, blocks)

    # As the log.

    def maybe_flush(self) -> None:
        pass

    def flush(self) -> None:
        self.num_flushes += 1

    def log_attempt(self, request_ids: pa.ChunkedArray) -> None:
        self.lone += request_ids.to_pylist()

    # As the sink.

    def take(self, rows: pa.Table) -> None:
        self.taken += rows["request_id"].to_pylist()

    def tick(self) -> None:
        pass

    def round_ended(self) -> None:
        pass

    def lost(self, requests: pa.Table) -> pa.Table:
        self.failed += requests["request_id"].to_pylist()
        return outcomes(failed=requests["request_id"].to_pylist(), code="worker_lost")


class Stream:
    """One round: some of the work comes back, in another order, some of it twice."""

    def __init__(self, world: World, blocks: Iterable[pa.Table]) -> None:
        self._tables = iter(list(self._delivered(world, blocks)))

    def poll(self, timeout_seconds: float) -> pa.Table | None:
        try:
            return next(self._tables)
        except StopIteration:
            raise EndOfStream from None

    def close(self) -> None:
        pass

    def _delivered(self, world: World, blocks: Iterable[pa.Table]) -> Iterator[pa.Table | None]:
        weather, chance = world.weather, world.chance
        tables: list[pa.Table | None] = []
        for item in (row for block in blocks for row in block.to_pylist()):
            video = int(item["video_id"])
            ids = [request["request_id"] for request in item["requests"]]
            for request_id in ids:
                world.asked[request_id] += 1
            if video in weather.poison:
                continue
            if item["attempt"] <= weather.lost.get(video, 0):
                ids = ids[:1] if chance.random() < 0.5 else []
            if ids:
                tables.append(outcomes(answered=ids))
                if chance.random() < 0.3:
                    tables.append(outcomes(answered=ids[::-1]))
                if chance.random() < 0.3:
                    tables.append(pa.concat_tables([outcomes(answered=ids)] * 2))
        tables += [None] * chance.randrange(3)
        chance.shuffle(tables)
        return iter(tables)


def requests_of(weather: Weather) -> pa.Table:
    rows = [
        {
            "request_id": f"{video}-{number}",
            "video_id": str(video),
            "video_uri": f"{video}.mp4",
            "fetch_uri": f"{video}.mp4",
            "start_seconds": None,
            "end_seconds": None,
            "prompt_id": f"q{number}",
            "prompt": "what?",
            "options": None,
            "reference_answer": None,
            "source": "s",
        }
        for video, number_of_requests in enumerate(weather.num_requests)
        for number in range(number_of_requests)
    ]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("request_id", "video_id", "video_uri", "fetch_uri")),
            *((name, pa.float64()) for name in ("start_seconds", "end_seconds")),
            *((name, pa.string()) for name in ("prompt_id", "prompt")),
            ("options", pa.list_(pa.string())),
            ("reference_answer", pa.string()),
            *PASSTHROUGH,
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def rounds_of(world: World, attempts: pa.Table = NO_ATTEMPTS) -> Rounds:
    requests = requests_of(world.weather)
    return Rounds(requests, PASSTHROUGH, attempts, world, world, StopSignal())  # type: ignore[arg-type]


@st.composite
def weathers(draw: st.DrawFn) -> Weather:
    num_videos = draw(st.integers(1, 30))
    videos = st.integers(0, num_videos - 1)
    return Weather(
        num_requests=draw(st.lists(st.integers(1, 4), min_size=num_videos, max_size=num_videos)),
        # So few that no run is stopped for them.
        poison=draw(st.sets(videos, max_size=2)),
        lost=draw(st.dictionaries(videos, st.integers(1, 2), max_size=2)),
        seed=draw(st.integers(0, 2**16)),
    )


@settings(max_examples=40)
@given(weathers())
def test_each_request_has_one_outcome(weather: Weather) -> None:
    world = World(weather)
    rounds = rounds_of(world)
    rounds.run(world.stream, lambda: SHARE)  # type: ignore[arg-type]
    wanted = requests_of(weather)["request_id"].to_pylist()
    assert sorted(world.taken) == sorted(wanted), "none is lost, none is there twice"
    assert not rounds.open_ids
    poison = [one for one in wanted if int(one.partition("-")[0]) in weather.poison]
    assert sorted(world.failed) == sorted(poison), "a video costs itself only"
    assert set(poison) <= set(world.lone), "what is tried alone is logged before"
    assert all(world.asked[one] == 3 for one in poison), "and is tried three times at most"
    assert world.num_flushes > 0


@settings(max_examples=40)
@given(weathers())
def test_what_was_tried_alone_before_stays_out_of_the_bulk(weather: Weather) -> None:
    ids = requests_of(weather)["request_id"].to_pylist()
    before = {one: 1 + len(one) % 2 for one in ids if int(one.partition("-")[0]) in weather.poison}
    attempts = pa.table(
        {
            "request_id": pa.array(list(before), pa.string()),
            "attempts": pa.array(list(before.values()), pa.int64()),
        }
    )
    world = World(weather)
    rounds_of(world, attempts).run(world.stream, lambda: SHARE)  # type: ignore[arg-type]
    assert sorted(world.taken) == sorted(ids)
    assert all(world.asked[one] <= 1 for one in before), "alone once more, and never in bulk"


def test_a_job_that_loses_nearly_all_is_stopped() -> None:
    weather = Weather(num_requests=[1] * 40, poison=set(range(30)), lost={}, seed=0)
    world = World(weather)
    with pytest.raises(TooManyErrorsError, match="30 of 40 requests were lost twice"):
        rounds_of(world).run(world.stream, lambda: SHARE)  # type: ignore[arg-type]
    assert not world.lone, "no video is blamed"


@pytest.mark.parametrize("number", range(3))
def test_a_wish_to_stop_ends_them_with_what_came(number: int) -> None:
    weather = Weather(num_requests=[2] * 10, poison={1}, lost={}, seed=number)
    world = World(weather)
    rounds = rounds_of(world)
    taken = world.take

    def take_and_stop(rows: pa.Table) -> None:
        taken(rows)
        rounds._stop.number = 15

    world.take = take_and_stop  # type: ignore[method-assign]
    rounds.run(world.stream, lambda: SHARE)  # type: ignore[arg-type]
    assert world.taken and not world.failed
    assert len(rounds.open_ids) == 20 - len(world.taken)
