"""Utilization of the two stages: busy, stalled and idle time, integrated over a run."""

from __future__ import annotations

from dataclasses import dataclass

DECODE_STAGE = "decode_video"
ANSWER_STAGE = "answer_prompts"


@dataclass(frozen=True, slots=True)
class StageState:
    """One look at a stage: its actors, those at work, and the blocks that wait for one."""

    num_actors: int = 0
    num_busy: int = 0
    num_queued: int = 0


@dataclass(slots=True)
class StageLoad:
    """How many actors of both stages there were, and how many of them were busy.

    Only time in which a waiting replica can be blamed on decoding counts as steady: actors of both
    stages are up, and the decode stage has as much work as it can do. Before, models load; after,
    what is left drains. Written by one thread and read by another: a reader may see a state one
    step old.

    Attributes:
        decode, answer: the stages as last seen.
        model_busy_seconds: replica-seconds spent with at least one video, steady or not.
        steady_seconds: of the run.
        worker_seconds, worker_busy_seconds: of decode workers, in the steady time.
        replica_seconds, replica_waiting_seconds: of model replicas, in the steady time; waiting
            is being up without a video.
    """

    decode: StageState = StageState()
    answer: StageState = StageState()
    model_busy_seconds: float = 0.0
    steady_seconds: float = 0.0
    worker_seconds: float = 0.0
    worker_busy_seconds: float = 0.0
    replica_seconds: float = 0.0
    replica_waiting_seconds: float = 0.0
    _seen_at: float | None = None

    def observe(self, decode: StageState, answer: StageState, now: float) -> None:
        """Records the present states; the time since the last call counts with the last ones.

        Args:
            now: seconds of a monotonic clock.
        """
        if self._seen_at is not None:
            self._count(now - self._seen_at)
        self.decode, self.answer, self._seen_at = decode, answer, now

    def pause(self) -> None:
        """The stages are gone: the time until the next look doesn't count."""
        self.decode, self.answer, self._seen_at = StageState(), StageState(), None

    def _count(self, seconds: float) -> None:
        decode, answer = self.decode, self.answer
        self.model_busy_seconds += answer.num_busy * seconds
        fully_loaded = decode.num_queued > 0 or decode.num_busy == decode.num_actors
        if answer.num_actors and decode.num_actors and fully_loaded:
            self.steady_seconds += seconds
            self.worker_seconds += decode.num_actors * seconds
            self.worker_busy_seconds += decode.num_busy * seconds
            self.replica_seconds += answer.num_actors * seconds
            self.replica_waiting_seconds += (answer.num_actors - answer.num_busy) * seconds

    @property
    def stall_share(self) -> float | None:
        """The share of their steady time that model replicas waited for decoded videos, 0 to 1."""
        return self.replica_waiting_seconds / self.replica_seconds if self.replica_seconds else None

    @property
    def worker_busy_share(self) -> float | None:
        """The share of their steady time that decode workers had a video, 0 to 1."""
        return self.worker_busy_seconds / self.worker_seconds if self.worker_seconds else None
