"""Runs a job: the driver feeds the stages and is the only writer of the results."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from rich.console import Console

from sfray.columns import outcomes_schema
from sfray.config import JobSpec
from sfray.model.checkpoints.checkpoint import check_checkpoint, pinned
from sfray.pipeline.actors import Stages
from sfray.pipeline.cluster import ClusterShare, cluster_share, connected, share_now
from sfray.pipeline.gpu_share import with_gpu_share
from sfray.pipeline.job_stages import job_stages
from sfray.pipeline.metrics_export import RunMetrics
from sfray.pipeline.ray_data import StageStream, answering, finding_windows
from sfray.planning.plan import JobPlan, make_plan
from sfray.planning.windows import clips_of, uncut_requests, with_windows
from sfray.planning.work_items import clip_starts, ids_of, only, without, work_item_blocks
from sfray.records import (
    DecodedItem,
    Outcome,
    RequestFailure,
    outcome_row,
    work_item_from_row,
)
from sfray.redaction import redact_values
from sfray.results.log import ResultsLog
from sfray.runs.model_watch import ModelWatch
from sfray.runs.rounds import Rounds
from sfray.runs.stop_signal import StopSignal, stop_signal
from sfray.runs.summary import RunSummary
from sfray.runs.versions import versions
from sfray.runs.window_search import WindowSearch
from sfray.telemetry.bottleneck import bottleneck
from sfray.telemetry.logs import run_logged
from sfray.telemetry.progress import Display, make_display
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad

logger = logging.getLogger("sfray")

# So many failures of each code are told in the log, with these columns.
_FAILURES_TOLD = 10
_TOLD = ["request_id", "video_id", "stage", "code"]


def run_job(
    spec: JobSpec,
    *,
    limit: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    stages: Stages | None = None,
    retry: pa.ChunkedArray | None = None,
) -> RunSummary:
    """Runs a job until every request is an answer or a failure, and says how it went.

    Args:
        limit: only the first so many requests, in the order of work.
        address: a Ray cluster; None takes the one at hand or starts a local one.
        console: where progress goes; None for standard error.
        stages: other stages than the spec's, for measuring the rest of the machinery.
        retry: ids of failed requests to try once more, though they failed for good.

    Raises:
        RunError: what stops a run, in one sentence, with an exit code.
    """
    console = console or Console(stderr=True)
    plan = make_plan(spec.model_copy(update={"model": pinned(spec.model, spec.storage)}), limit)
    # What only planning needed goes back to the system: at a million requests 450 MB.
    pa.default_memory_pool().release_unused()
    output = plan.spec.output
    with (
        run_logged(plan.run.run_id),
        ResultsLog.open(
            output.uri,
            plan.spec.storage,
            partition=output.part,
            passthrough=plan.requests.passthrough,
            run_id=plan.run.run_id,
            flush_rows=output.flush_rows,
            flush_seconds=output.flush_seconds,
        ) as log,
    ):
        if (older := log.columns.older_than_now) is not None:
            logger.info("%s", older, extra={"output": output.uri})
        run = _Run(plan, limit, log, retry)
        if run.num_pending:
            if stages is None:
                check_checkpoint(plan.spec)
            with connected(address), stop_signal() as stop:
                run.answer_all(stages, console, stop)
        return run.finish()


class _Run:
    """One run: what is still open, and what has come in."""

    def __init__(
        self, plan: JobPlan, limit: int | None, log: ResultsLog, retry: pa.ChunkedArray | None
    ) -> None:
        self._of_clips = plan
        self._limit = limit
        self._log = log
        self._load = StageLoad()
        self._stop = StopSignal()
        self._model_watch = ModelWatch()
        self._failures_before = failures = log.latest_failures()
        self._for_good = without(failures.filter(pc.invert(failures["transient"])), retry)[
            "request_id"
        ]
        # Tried alone, but without an outcome: the driver was lost with them.
        self._lone_attempts = without(log.lone_attempts(), retry)
        self._retried_ids = set() if retry is None else set(retry.to_pylist())
        self._started = time.monotonic()
        self._failures_told: Counter[str] = Counter()
        self._metrics: RunMetrics | None = None
        self._display: Display | None = None
        self._rounds: Rounds | None = None
        self._cut(log.windows() if plan.spec.sampling.windows else None)

    def _cut(self, windows: pa.Table | None) -> None:
        """Says what is to do, given the windows that are known."""
        plan = self._of_clips
        if windows is not None:
            plan = with_windows(plan, windows, self._limit)
        self._plan, self._windows = plan, windows
        self._pending = without(
            without(plan.requests.table, self._log.answered_ids()), self._for_good
        )
        failed_before = self._failures_before["request_id"]
        self._new_failures = without(plan.requests.failures, failed_before)
        self._counters = RunCounters(
            num_requests=self._pending.num_rows, num_videos=len(clip_starts(self._pending))
        )

    @property
    def num_pending(self) -> int:
        """How many requests this run has to answer."""
        return self._pending.num_rows

    def _log_what_is_asked(self) -> None:
        """Logs the resolved spec and the requests, so that completeness can be proven later."""
        logger.info(
            "%s: %d requests on %d videos to do",
            self._plan.spec.name,
            self._counters.num_requests,
            self._counters.num_videos,
            extra={"output": self._plan.spec.output.uri},
        )
        values = redact_values(self._plan.spec.model_dump(mode="json"))
        spec = yaml.safe_dump(values, sort_keys=False)
        run_id = self._plan.run.run_id
        self._log.write_run_file(run_id, "spec.yaml", spec.encode())
        self._log.write_run_file(run_id, "versions.yaml", yaml.safe_dump(versions()).encode())
        self._log.write_requests(self._pending)

    def answer_all(self, stages: Stages | None, console: Console, stop: StopSignal) -> None:
        """Finds windows where clips are cut, logs what is asked, and answers it."""
        self._stop = stop
        if stages is None:
            spec = with_gpu_share(self._plan.spec, self._plan.profile)
            stages = job_stages(spec, self._plan.profile)
        else:
            spec = self._plan.spec
        first = cluster_share(spec.resources)
        find_share = partial(share_now, spec.resources, first)
        uncut = self._find_windows(stages, find_share, stop)
        if stop.number is not None:
            return
        self._log_what_is_asked()
        if first.model_gpus == 0:
            logger.info("no GPU in this cluster: the model runs on the CPU")
        run, passthrough = self._plan.run, self._plan.requests.passthrough
        self._rounds = Rounds(
            self._pending, passthrough, self._lone_attempts, self._log, self, stop
        )
        if uncut.num_rows:
            self._rounds.take(only(uncut, self._rounds.open_ids))
        with make_display(console) as self._display:
            self._metrics = RunMetrics(self._plan.spec.name, run.run_id)
            try:
                self._rounds.run(
                    lambda blocks, share: StageStream(
                        blocks, answering(stages, share, run, passthrough), self._load
                    ),
                    find_share,
                )
            finally:
                # Ray goes on exporting what it was told last: the stages are gone.
                self.pause()
                self.wait()
                self._metrics = None

    def _find_windows(
        self, stages: Stages, find_share: Callable[[], ClusterShare], stop: StopSignal
    ) -> pa.Table:
        """Looks for the windows that are not known yet; returns the outcomes of what has none."""
        passthrough = self._plan.requests.passthrough
        nothing = outcomes_schema(passthrough).empty_table()
        how, known = self._plan.spec.sampling.windows, self._windows
        if how is None or known is None or (make_stage := stages.make_find_windows) is None:
            return nothing
        all_uncut = uncut_requests(self._of_clips, known)
        uncut = only(all_uncut, ids_of(self._pending))
        if not uncut.num_rows:
            return nothing
        clips = clips_of(uncut, how)
        again = only(uncut, self._retried_ids)
        attempts = without(self._lone_attempts, clips_of(again, how)["request_id"])
        search = WindowSearch(self._log, clips.num_rows)
        load = StageLoad()
        Rounds(clips, passthrough, attempts, self._log, search, stop).run(
            lambda blocks, share: StageStream(
                blocks, finding_windows(make_stage, share, self._plan.run), load
            ),
            find_share,
        )
        windows = pa.concat_tables([known, search.windows])
        # What failed for good with the whole clip is asked of its first window under the same id.
        cut_now = ids_of(all_uncut) - ids_of(uncut_requests(self._of_clips, windows))
        kept = [one for one in self._for_good.to_pylist() if one not in cut_now]
        self._for_good = pa.chunked_array([kept], pa.string())
        self._cut(windows)
        failures = [search.failures.get(clip_id) for clip_id in clips["request_id"].to_pylist()]
        return self._failed(uncut, failures, attempt=1)

    def wait(self) -> None:
        """Shows how far the run is."""
        if self._display:
            self._display.update(self._counters, self._load, self._bottleneck())
        if self._metrics:
            self._metrics.update(self._counters, self._load)

    def pause(self) -> None:
        """Counts no time of a stage until work goes on."""
        self._load.pause()

    def _bottleneck(self) -> str | None:
        keyframes = self._plan.spec.sampling.seek == "keyframe"
        return bottleneck(self._counters, self._load, keyframe_seeking=keyframes)

    def take(self, outcomes: pa.Table) -> None:
        """Logs and counts outcomes that are new."""
        self._log.append(outcomes)
        self._tell_failures(outcomes)
        clips = self._counters.add(outcomes)
        if self._metrics:
            self._metrics.observe(clips)
        self._model_watch.see(outcomes)

    def _tell_failures(self, outcomes: pa.Table) -> None:
        """Logs the first failures of each code; `failures/` has them all."""
        failed = outcomes.filter(pc.is_valid(outcomes["code"]))
        messages = failed["message"].to_pylist()
        for about, message in zip(failed.select(_TOLD).to_pylist(), messages, strict=True):
            code = about["code"]
            self._failures_told[code] += 1
            if self._failures_told[code] <= _FAILURES_TOLD:
                logger.warning("%s: %s: %s", about["video_id"], code, message, extra=about)
            elif self._failures_told[code] == _FAILURES_TOLD + 1:
                logger.warning("more failures of code %s are in the results only", code)

    def lost(self, requests: pa.Table) -> pa.Table:
        """The failures of requests whose worker was lost each time."""
        failure = RequestFailure(
            code="worker_lost", message="its worker was lost each time, the last time alone"
        )
        return self._failed(requests, repeat(failure), attempt=3)

    def _failed(
        self, requests: pa.Table, failures: Iterable[RequestFailure | None], attempt: int
    ) -> pa.Table:
        """The outcomes of requests, given each clip's failure; of clips without one there are
        none."""
        passthrough = self._plan.requests.passthrough
        rows = []
        blocks = work_item_blocks(requests, passthrough, 1, attempt)
        for block, failure in zip(blocks, failures, strict=False):
            if failure is None:
                continue
            item = work_item_from_row(block.to_pylist()[0])
            decoded = DecodedItem(item=item, video=None, failure=failure)
            rows += [
                outcome_row(Outcome(request=r, decoded=decoded, result=failure), self._plan.run)
                for r in item.requests
            ]
        return pa.Table.from_pylist(rows, schema=outcomes_schema(passthrough))

    def finish(self) -> RunSummary:
        """Logs the manifest's own failures and the summary."""
        if self._stop.number is None and self._new_failures.num_rows:
            self._log.append(self._new_failures)
            self._tell_failures(self._new_failures)
            self._counters.add(self._new_failures)
        self._log.flush()
        summary = self._summary()
        if self.num_pending or self._new_failures.num_rows:
            text = json.dumps(summary.as_dict(), indent=2)
            self._log.write_run_file(self._plan.run.run_id, "summary.json", text.encode())
        return summary

    def _summary(self) -> RunSummary:
        planned, counters, load = self._plan.requests, self._counters, self._load
        answered = (
            planned.table.num_rows - without(planned.table, self._log.answered_ids()).num_rows
        )
        unfinished, again = self.num_pending, 0
        if self._rounds is not None:
            unfinished, again = len(self._rounds.open_ids), self._rounds.num_recomputed
        num_requests = self._plan.num_requests
        ratio = (num_requests - answered - unfinished) / num_requests if num_requests else 0.0
        limit = self._plan.spec.limits.max_failure_ratio
        stopped = self._stop.number
        exit_code = self._stop.exit_code if stopped else (3 if ratio > limit else 0)
        return RunSummary(
            run_id=self._plan.run.run_id,
            job=self._plan.spec.name,
            output=self._plan.spec.output.log_uri,
            fingerprints=self._plan.fingerprints,
            num_requests=num_requests,
            num_videos=counters.num_videos,
            num_done_before=num_requests - self.num_pending - self._new_failures.num_rows,
            num_answers=counters.num_answers,
            num_failures=counters.num_failures,
            num_unfinished=unfinished,
            num_recomputed=self._log.num_lost_before + again,
            failures_by_code=dict(counters.failures_by_code),
            failure_ratio=ratio,
            max_failure_ratio=limit,
            seconds=time.monotonic() - self._started,
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
            bottleneck=self._bottleneck(),
            stopped_by=signal.Signals(stopped).name if stopped else None,
            exit_code=exit_code,
        )
