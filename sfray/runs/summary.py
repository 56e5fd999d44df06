"""How a run ended, for people, for files and for exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sfray.telemetry.progress import clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """How a run ended.

    Attributes:
        num_requests: what the job asks for by now, manifest rows that failed included.
        num_done_before: of these, answered or failed for good by earlier runs.
        num_answers, num_failures: what this run added.
        num_unfinished: what a stopped run left for the next one.
        num_recomputed: what was answered twice: Ray tried its task again, or the run before had
            taken it in, but was lost before it was written (on S3 as of its lease's last renewal).
        failure_ratio: failures over requests, as the output stands now.
        seconds_to_first: until the first outcome: Ray and the model start, the first video goes
            through.
        fetch_seconds, decode_seconds: of all decode workers together.
        model_busy_seconds: of all model replicas together, with at least one video.
        worker_busy_share: how much of their time decode workers had a video.
        stall_share: how much of their time model replicas waited for decoded videos; both while
            all were up and there was work, None where that was never so.
    """

    run_id: str
    job: str
    output: str
    fingerprints: list[str]
    num_requests: int
    num_videos: int
    num_done_before: int
    num_answers: int
    num_failures: int
    num_unfinished: int
    num_recomputed: int
    failures_by_code: dict[str, int]
    failure_ratio: float
    max_failure_ratio: float
    seconds: float
    seconds_to_first: float | None
    fetch_seconds: float
    decode_seconds: float
    model_busy_seconds: float
    requests_per_second: float
    num_generated_tokens: int
    num_visual_tokens: int
    bytes_fetched: int
    worker_busy_share: float | None
    stall_share: float | None
    bottleneck: str | None
    stopped_by: str | None
    exit_code: int

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self)

    def print_to(self, console: Console) -> None:
        """A small table, and a sentence on how it ended."""
        table = Table(title=f"{self.job}: run {self.run_id}", show_header=False)
        for name, value in self._lines():
            table.add_row(name, value)
        console.print(table)
        console.print(self.verdict, markup=False)

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "requests", f"{self.num_requests} ({self.num_done_before} done before)"
        yield "answers", str(self.num_answers)
        yield "failures", str(self.num_failures)
        for code, number in sorted(self.failures_by_code.items()):
            yield f"  {code}", str(number)
        if self.num_unfinished:
            yield "left for the next run", str(self.num_unfinished)
        if self.num_recomputed:
            yield "answered twice", str(self.num_recomputed)
        yield "time", clock(self.seconds)
        if self.seconds_to_first is not None:
            yield "  until the first outcome", clock(self.seconds_to_first)
            yield "  decode workers fetching", clock(self.fetch_seconds)
            yield "  decode workers decoding", clock(self.decode_seconds)
            yield "  model replicas answering", clock(self.model_busy_seconds)
        yield "throughput", f"{self.requests_per_second:.2f} requests/s"
        yield "generated tokens", str(self.num_generated_tokens)
        if self.bottleneck:
            yield "bottleneck", self.bottleneck
        yield "output", self.output

    @property
    def verdict(self) -> str:
        """How it ended, in a sentence."""
        if self.stopped_by:
            return f"stopped by {self.stopped_by}; the same command goes on where this run ended"
        if self.exit_code:
            return (
                f"finished, but {self.failure_ratio:.1%} of the requests failed; "
                f"limits.max_failure_ratio is {self.max_failure_ratio:.1%}"
            )
        return "finished: every request is an answer or a failure with a code"
