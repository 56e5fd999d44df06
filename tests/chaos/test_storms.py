"""A few fixed storms over whole jobs, one fault of a kind; `python -m benchmarks.chaos` runs many,
of eight faults each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.chaos import commands
from tests.chaos.storm import Plan, Storm, undisturbed
from tests.chaos.world import World, world


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def texts(running: World) -> dict[str, str]:
    return undisturbed(running, real_decode=False)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("on_s3", "faults", "poison"),
    [
        pytest.param(
            False, ("decode_worker_killed", "driver_killed", "node_killed"), (), id="kills"
        ),
        pytest.param(True, ("s3_weather", "writer_stopped"), ("v007",), id="s3-and-poison"),
    ],
)
def test_nothing_is_lost_or_doubled(
    running: World,
    texts: dict[str, str],
    on_s3: bool,
    faults: tuple[str, ...],
    poison: tuple[str, ...],
) -> None:
    moments = tuple((10 + 25 * number, kind) for number, kind in enumerate(faults))
    account = Storm(running, Plan(seed=1, on_s3=on_s3, faults=moments, poison=poison)).run(texts)
    assert account.landed.total() >= len(faults)
    assert (account.num_lost, account.num_doubled, account.num_texts_different) == (0, 0, 0)
    assert account.complaints == []
    assert account.num_reads > 0


def test_the_commands_of_a_table_repeat_its_storms() -> None:
    rows = [{"only": None, "seed": seed} for seed in (2, 0, 1, 5)]
    rows += [{"only": "poison", "seed": 7}]
    assert commands(rows) == [
        "python -m benchmarks.chaos --storms 3 --seed 0",
        "python -m benchmarks.chaos --storms 1 --seed 5",
        "python -m benchmarks.chaos --storms 1 --seed 7 --only poison",
    ]


def test_a_seed_plans_the_same_storm() -> None:
    assert Plan.of(7) == Plan.of(7)
    assert Plan.of(7) != Plan.of(8)
