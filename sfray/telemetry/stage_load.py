"""What the stages were doing while a run went on, sampled over time."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class _Observed:
    seconds: float = 0.0
    busy_actor_seconds: float = 0.0
    actor_seconds: float = 0.0
    waiting_seconds: float = 0.0
    num_actors: int = 0
    num_busy: int = 0
    num_queued: int = 0
    last_seen: float | None = None


class StageLoad:
    """Integrates over time how many actors of each stage were busy and whether work waited.

    Fed from one thread and read from another: reads may be a step old, which a display can bear.
    """

    def __init__(self) -> None:
        self._stages: dict[str, _Observed] = {}

    def observe(self, stage: str, *, num_actors: int, num_busy: int, num_queued: int) -> None:
        """Records the present state; the time since the last call counts with the last state."""
        seen = self._stages.setdefault(stage, _Observed())
        now = time.monotonic()
        if seen.last_seen is not None:
            seconds = now - seen.last_seen
            seen.seconds += seconds
            seen.actor_seconds += seen.num_actors * seconds
            seen.busy_actor_seconds += seen.num_busy * seconds
            if seen.num_queued == 0 and seen.num_busy < seen.num_actors:
                seen.waiting_seconds += seconds
        seen.last_seen = now
        seen.num_actors, seen.num_busy, seen.num_queued = num_actors, num_busy, num_queued

    def now(self, stage: str) -> tuple[int, int, int]:
        """(actors, busy actors, queued blocks) as last seen."""
        seen = self._stages.get(stage, _Observed())
        return seen.num_actors, seen.num_busy, seen.num_queued

    def busy_share(self, stage: str) -> float:
        """The share of actor time that was spent working, from 0 to 1."""
        seen = self._stages.get(stage, _Observed())
        return seen.busy_actor_seconds / seen.actor_seconds if seen.actor_seconds else 0.0
