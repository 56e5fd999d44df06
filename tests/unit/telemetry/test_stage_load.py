from __future__ import annotations

from sfray.telemetry.stage_load import StageLoad, StageState

LOADED = StageState(num_actors=2, num_busy=2, num_queued=9)


def test_time_counts_with_the_state_that_it_was_spent_in() -> None:
    load = StageLoad()
    load.observe(LOADED, StageState(num_actors=4, num_busy=1), 0.0)
    load.observe(LOADED, StageState(num_actors=4, num_busy=4), 10.0)
    load.observe(LOADED, StageState(num_actors=4, num_busy=0), 20.0)
    assert load.replica_seconds == 80.0
    assert load.replica_waiting_seconds == 30.0
    assert load.stall_share == 0.375
    assert load.model_busy_seconds == 50.0
    assert load.worker_busy_share == 1.0


def test_loading_and_draining_are_nobodys_fault() -> None:
    load = StageLoad()
    load.observe(LOADED, StageState(), 0.0)
    load.observe(StageState(num_actors=2, num_busy=1), StageState(num_actors=1, num_busy=1), 30.0)
    load.observe(StageState(num_actors=2), StageState(num_actors=1), 60.0)
    load.observe(StageState(num_actors=2), StageState(num_actors=1), 90.0)
    assert load.steady_seconds == 0.0
    assert load.stall_share is None and load.worker_busy_share is None
    assert load.model_busy_seconds == 30.0


def test_time_between_two_rounds_does_not_count() -> None:
    load = StageLoad()
    load.observe(LOADED, StageState(num_actors=1), 0.0)
    load.pause()
    load.observe(LOADED, StageState(num_actors=1), 100.0)
    load.observe(LOADED, StageState(num_actors=1), 101.0)
    assert load.replica_waiting_seconds == 1.0
