"""What the stages were doing while a run went on, integrated over time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

DECODE_STAGE = "decode_video"
ANSWER_STAGE = "answer_prompts"


@dataclass(frozen=True, slots=True)
class StageState:
    """One look at a stage: its actors, those at work, and the blocks that wait for one."""

    num_actors: int = 0
    num_busy: int = 0
    num_queued: int = 0


@dataclass(slots=True)
class _History:
    state: StageState = StageState()
    last_seen: float | None = None
    actor_seconds: float = 0.0
    busy_seconds: float = 0.0


@dataclass(slots=True)
class StageLoad:
    """How many actors of each stage there were and how many of them were busy.

    Written by one thread and read by another: a reader may see a state one step old.
    """

    _stages: dict[str, _History] = field(default_factory=dict)

    def observe(self, stage: str, state: StageState) -> None:
        """Records the present state; the time since the last call counts with the last state."""
        history = self._stages.setdefault(stage, _History())
        now = time.monotonic()
        if history.last_seen is not None:
            seconds = now - history.last_seen
            history.actor_seconds += history.state.num_actors * seconds
            history.busy_seconds += history.state.num_busy * seconds
        history.last_seen, history.state = now, state

    def now(self, stage: str) -> StageState:
        """The state of a stage as last seen."""
        return self._stages.get(stage, _History()).state

    def busy_share(self, stage: str) -> float:
        """The share of its actors' time that a stage spent working, from 0 to 1."""
        history = self._stages.get(stage, _History())
        return history.busy_seconds / history.actor_seconds if history.actor_seconds else 0.0

    def bottleneck(self) -> str:
        """Which stage held the other back, in a sentence."""
        decode, answer = self.busy_share(DECODE_STAGE), self.busy_share(ANSWER_STAGE)
        if answer >= decode:
            return (
                f"{ANSWER_STAGE} held the run back: its replicas were busy {answer:.0%} of the "
                f"time, the decode workers {decode:.0%}"
            )
        return (
            f"{DECODE_STAGE} held the run back: model replicas waited {1 - answer:.0%} of the time "
            "for decoded videos; more decode workers or keyframe seeking would help"
        )
