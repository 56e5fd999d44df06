"""How a run ended, for people, for files and for exit codes."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sfray.config import JobSpec
from sfray.planning.to_do import ToDo
from sfray.planning.work_items import anti_join
from sfray.process import as_options, program_name
from sfray.redaction import redact
from sfray.results.log import ResultsLog
from sfray.runs.outcome_sink import OutcomeSink
from sfray.runs.stop_signal import StopSignal
from sfray.telemetry.progress import clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """How a run ended.

    Attributes:
        num_requests: what the job asks for by now, manifest rows that failed included; each is
            answered, failed or unfinished.
        num_answered, num_failed: of these, as the output stands now.
        num_done_before: of the requests, answered or failed for good by earlier runs.
        num_answers, num_failures: what this run added.
        num_unfinished: requests without an outcome, left by a stopped run for the next one.
        num_recomputed: what was answered twice: Ray tried its task again, or the run before had
            taken it in, but was lost before it was written (on S3 as of its lease's last renewal).
        failure_ratio: failures over requests, as the output stands now.
        seconds_to_first: until the first outcome: Ray and the model start, the first video goes
            through.
        fetch_seconds, decode_seconds: of all decode workers together.
        model_busy_seconds: of all model replicas together, with at least one video.
        worker_busy_share: how much of their time decode workers had a video.
        next_commands: what to type to look at the output and go on.
        stall_share: how much of their time model replicas waited for decoded videos; both while
            all were up and there was work, None where that was never so.
    """

    run_id: str
    job: str
    output: str
    fingerprints: list[str]
    num_requests: int
    num_answered: int
    num_failed: int
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
    next_commands: tuple[str, ...]

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
        for command in self.next_commands:
            console.print(f"next: {command}", markup=False, soft_wrap=True)

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "requests", f"{self.num_requests} ({self.num_done_before} done before)"
        yield "answered", f"{self.num_answered} ({self.num_answers} by this run)"
        yield "failed", f"{self.num_failed} ({self.num_failures} in this run)"
        for code, number in sorted(self.failures_by_code.items()):
            yield f"  {code}", str(number)
        yield "to do", str(self.num_unfinished)
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


def summarize(
    to_do: ToDo,
    log: ResultsLog,
    sink: OutcomeSink,
    stop: StopSignal,
    *,
    num_unfinished: int,
    num_recomputed: int,
    seconds: float,
) -> RunSummary:
    """How a run ended, all of it flushed.

    Args:
        num_recomputed: outcomes that came again in this run.
    """
    plan, counters, load = to_do.plan, sink.counters, sink.load
    table, num_requests = plan.requests.table, plan.num_requests
    num_answered = table.num_rows - anti_join(table, log.answered_ids()).num_rows
    num_failed = num_requests - num_answered - num_unfinished
    failure_ratio = num_failed / num_requests if num_requests else 0.0
    max_failure_ratio = plan.spec.limits.max_failure_ratio
    too_many = failure_ratio > max_failure_ratio
    exit_code = stop.exit_code if stop.number else (3 if too_many else 0)
    return RunSummary(
        run_id=plan.run.run_id,
        job=plan.spec.name,
        output=plan.spec.output.log_uri,
        fingerprints=plan.fingerprints,
        num_requests=num_requests,
        num_answered=num_answered,
        num_failed=num_failed,
        num_videos=counters.num_videos,
        num_done_before=to_do.num_done_before,
        num_answers=counters.num_answers,
        num_failures=counters.num_failures,
        num_unfinished=num_unfinished,
        num_recomputed=log.num_lost_before + num_recomputed,
        failures_by_code=dict(counters.failures_by_code),
        failure_ratio=failure_ratio,
        max_failure_ratio=max_failure_ratio,
        seconds=seconds,
        seconds_to_first=counters.seconds_to_first,
        fetch_seconds=counters.fetch_seconds,
        decode_seconds=counters.decode_seconds,
        model_busy_seconds=load.model_busy_seconds,
        requests_per_second=counters.requests_per_second,
        num_generated_tokens=counters.num_generated_tokens,
        num_visual_tokens=counters.num_visual_tokens,
        bytes_fetched=counters.bytes_fetched,
        worker_busy_share=load.worker_busy_share,
        stall_share=load.stall_share,
        bottleneck=sink.bottleneck(),
        stopped_by=signal.Signals(stop.number).name if stop.number else None,
        exit_code=exit_code,
        next_commands=_next_commands(plan.spec, num_failed),
    )


def _next_commands(spec: JobSpec, num_failed: int) -> tuple[str, ...]:
    """What to type to look at the output and, where something failed, to go on."""
    storage = as_options(spec.storage.model_dump(exclude_defaults=True))
    output = shlex.join(redact(word) for word in (spec.output.log_uri, *storage))
    program = program_name()
    failed = (f"{program} show {output} --failures", f"{program} retry {output}")
    return (f"{program} show {output}", *(failed if num_failed else ()))
