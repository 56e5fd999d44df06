"""Runs a job: the driver feeds the stages and is the only writer of the results."""

from __future__ import annotations

import json
import logging
import time

import pyarrow as pa
import yaml
from rich.console import Console

from sfray.config import JobSpec
from sfray.pipeline.actors import Stages
from sfray.pipeline.cluster import connected
from sfray.pipeline.placement import Placement, place_job
from sfray.pipeline.ray_data import StageStream, answering
from sfray.planning.plan import JobPlan, make_plan
from sfray.planning.to_do import ToDo, what_is_to_do
from sfray.planning.work_items import anti_join, semi_join
from sfray.redaction import redact_values
from sfray.results.log import ResultsLog
from sfray.runs.outcome_sink import OutcomeSink
from sfray.runs.rounds import Rounds
from sfray.runs.stop_signal import StopSignal, stop_signal
from sfray.runs.summary import RunSummary, summarize
from sfray.runs.versions import versions
from sfray.runs.window_search import find_windows
from sfray.storage.s3_terms import S3Terms
from sfray.telemetry.logs import run_logged
from sfray.telemetry.terminal import terminal
from sfray.video.readers.selection import check_reader

logger = logging.getLogger("sfray")


def run_job(
    spec: JobSpec,
    *,
    limit: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    stages: Stages | None = None,
    retry: pa.ChunkedArray | None = None,
    s3_terms: S3Terms = S3Terms(),
) -> RunSummary:
    """Runs a job until every request is an answer or a failure, and says how it went.

    It is idempotent: what the output holds already is not asked again, so that the same call
    resumes a run that was stopped.

    Args:
        limit: only the first so many requests, in the order of work.
        address: a Ray cluster; None takes the one at hand or starts a local one.
        console: where progress goes; None for standard error.
        stages: other stages than the spec's, for measuring the rest of the machinery.
        retry: ids of failed requests to try once more, though they failed for good.
        s3_terms: how long an output on S3 is waited for.

    Raises:
        RunError: what stops a run, in one sentence, with an exit code.
    """
    console = console or terminal(stderr=True)
    check_reader(spec.decode.reader)
    plan = make_plan(spec, limit, pin=True)
    # What only planning needed goes back to the system: at a million requests 450 MB.
    pa.default_memory_pool().release_unused()
    with run_logged(plan.run.run_id), _open_log(plan, s3_terms) as log:
        started = time.monotonic()
        windows = log.windows() if plan.spec.sampling.windows else None
        to_do = what_is_to_do(plan, log.before, windows, limit=limit, retry=retry)
        sink, stop, rounds = OutcomeSink(to_do, log), StopSignal(), None
        if to_do.requests.num_rows:
            if stages is None:
                plan.checkpoint.check()
            with connected(address), stop_signal() as stop:
                placed = place_job(plan, stages)
                windowless = None
                if to_do.uncut.num_rows:
                    to_do, windowless = find_windows(to_do, placed, log, stop)
                    sink = OutcomeSink(to_do, log)
                if stop.number is None:
                    _log_what_is_asked(to_do, log)
                    rounds = _answer(to_do, windowless, placed, log, sink, stop, console)
        if to_do.new_failures.num_rows:
            sink.add_manifest_failures(to_do.new_failures)
        log.flush()
        unfinished = to_do.requests
        if rounds:
            unfinished = semi_join(unfinished, rounds.open_ids)
        # What failed before and was not reached again goes on being a failure.
        unfinished = anti_join(unfinished, to_do.progress.latest_failures["request_id"])
        summary = summarize(
            to_do,
            log,
            sink,
            stop,
            num_unfinished=unfinished.num_rows,
            num_recomputed=rounds.num_recomputed if rounds else 0,
            seconds=time.monotonic() - started,
        )
        if to_do.requests.num_rows or to_do.new_failures.num_rows:
            text = json.dumps(summary.as_dict(), indent=2)
            log.write_run_file(plan.run.run_id, "summary.json", text.encode())
        return summary


def _open_log(plan: JobPlan, s3_terms: S3Terms) -> ResultsLog:
    output = plan.spec.output
    log = ResultsLog.open(
        output.uri,
        plan.spec.storage,
        partition=output.part,
        passthrough=plan.requests.passthrough,
        run_id=plan.run.run_id,
        flush_rows=output.flush_rows,
        flush_seconds=output.flush_seconds,
        terms=s3_terms,
    )
    if (older := log.columns.older_than_now) is not None:
        logger.info("%s", older, extra={"output": output.uri})
    return log


def _log_what_is_asked(to_do: ToDo, log: ResultsLog) -> None:
    """Logs the resolved spec and the requests, so that completeness can be proven later."""
    plan = to_do.plan
    logger.info(
        "%s: %d requests on %d videos to do",
        plan.spec.name,
        to_do.requests.num_rows,
        to_do.num_clips,
        extra={"output": plan.spec.output.uri},
    )
    values = redact_values(plan.spec.model_dump(mode="json"))
    spec = yaml.safe_dump(values, sort_keys=False)
    log.write_run_file(plan.run.run_id, "spec.yaml", spec.encode())
    log.write_run_file(plan.run.run_id, "versions.yaml", yaml.safe_dump(versions()).encode())
    log.write_requests(to_do.requests)


def _answer(
    to_do: ToDo,
    windowless: pa.Table | None,
    placed: Placement,
    log: ResultsLog,
    sink: OutcomeSink,
    stop: StopSignal,
    console: Console,
) -> Rounds:
    """Answers what is to do.

    Args:
        windowless: outcomes of requests on clips that have no windows.
    """
    if placed.first.model_gpus == 0:
        logger.info("no GPU in this cluster: the model runs on the CPU")
    run, passthrough = to_do.plan.run, to_do.plan.requests.passthrough
    rounds = Rounds(to_do.requests, passthrough, to_do.lone_attempts, log, sink, stop)
    if windowless is not None and windowless.num_rows:
        rounds.take(semi_join(windowless, rounds.open_ids))
    with sink.shown_on(console):
        rounds.run(
            lambda blocks, share: StageStream(
                blocks, answering(placed.stages, share, run, passthrough), sink.load
            ),
            placed.share,
        )
    return rounds
