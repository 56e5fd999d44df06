"""Runs a job: the driver feeds the stages and is the only writer of the results."""

from __future__ import annotations

import json
import logging
import signal
from collections import Counter, deque
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from rich.console import Console

from sfray.config import JobSpec
from sfray.errors import TooManyErrorsError
from sfray.model.checkpoint import check_checkpoint, pinned
from sfray.model.presets import ModelProfile, resolve_sampling_and_pooling
from sfray.pipeline.actors import Stages
from sfray.pipeline.cluster import ClusterShare, cluster_share, connect, disconnect
from sfray.pipeline.gpu_share import with_gpu_share
from sfray.pipeline.logs import run_logged
from sfray.pipeline.metrics_export import RunMetrics
from sfray.pipeline.plan import JobPlan, make_plan
from sfray.pipeline.ray_data import EndOfStream, StageStream
from sfray.pipeline.stop_signal import StopSignal, stop_signal
from sfray.pipeline.summary import RunSummary
from sfray.pipeline.versions import versions
from sfray.pipeline.work_items import clip_starts, work_item_blocks
from sfray.records import (
    DecodedItem,
    Outcome,
    RequestFailure,
    outcome_row,
    outcomes_schema,
    work_item_from_row,
)
from sfray.stages.answer_prompts import AnswerPrompts
from sfray.stages.decode_video import DecodeVideo
from sfray.storage.folders import open_folder
from sfray.storage.output_schema import freeze_schema
from sfray.storage.partitioning import fix_output
from sfray.storage.results_log import CALL_SECONDS, ResultsLog
from sfray.telemetry.bottleneck import bottleneck
from sfray.telemetry.progress import Display, make_display
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad

logger = logging.getLogger("sfray")

_MAX_ITEMS_PER_BLOCK = 32
# A run stops when so large a share of so many outcomes in a row fails in the model, or so many
# requests are lost twice: then the job is broken, and going on would write failures only.
_WATCHED_OUTCOMES = 200
_BROKEN_MODEL_SHARE = 0.9
_MAX_ALONE_SHARE = 0.2
_MIN_ALONE = 16
# A video that was alone so often when the driver was lost is not tried again.
_LONE_ATTEMPTS = 2
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
    output, passthrough = plan.spec.output, plan.requests.passthrough
    if output.part is not None:
        root = open_folder(output.uri, plan.spec.storage)
        fix_output(root, output.part)
        passthrough = freeze_schema(root, passthrough)
    with (
        run_logged(plan.run.run_id),
        ResultsLog.open(
            output.log_uri,
            plan.spec.storage,
            partition=output.part,
            passthrough=passthrough,
            run_id=plan.run.run_id,
            flush_rows=output.flush_rows,
            flush_seconds=output.flush_seconds,
        ) as log,
    ):
        run = _Run(plan, log, retry)
        if run.num_pending:
            if stages is None:
                check_checkpoint(plan.spec)
            run.log_what_is_asked()
            with make_display(console) as display:
                run.answer_all(stages, display, address)
        return run.finish()


def job_stages(spec: JobSpec, profile: ModelProfile) -> Stages:
    """The stages of a job on its model."""
    num_frames, _ = resolve_sampling_and_pooling(spec, profile)
    decode = partial(
        DecodeVideo,
        videos=spec.videos,
        storage=spec.storage,
        decode=spec.decode,
        seek=spec.sampling.seek,
        num_frames=num_frames,
        image_size=profile.image_size,
    )
    return Stages(make_decode=decode, make_answer=partial(AnswerPrompts, spec))


class _Run:
    """One run: what is still open, and what has come in."""

    def __init__(self, plan: JobPlan, log: ResultsLog, retry: pa.ChunkedArray | None) -> None:
        self._plan = plan
        self._log = log
        self._load = StageLoad()
        self._stop = StopSignal()
        self._recent_model_failures: deque[bool] = deque(maxlen=_WATCHED_OUTCOMES)
        failures = log.latest_failures()
        for_good = _without(failures.filter(pc.invert(failures["transient"])), retry)["request_id"]
        planned = plan.requests
        self._pending = _without(_without(planned.table, log.answered_ids()), for_good)
        self._new_failures = _without(planned.failures, failures["request_id"])
        self._open_ids = _ids_of(self._pending)
        # Tried alone, but without an outcome: the driver was lost with them.
        lone = _without(_only(log.lone_attempts(), self._open_ids), retry)
        self._lone_attempts: dict[str, int] = dict(
            zip(lone["request_id"].to_pylist(), lone["attempts"].to_pylist(), strict=True)
        )
        self._num_recomputed = log.num_lost_before
        self._failures_told: Counter[str] = Counter()
        self._metrics: RunMetrics | None = None
        self._counters = RunCounters(
            num_requests=self._pending.num_rows, num_videos=len(clip_starts(self._pending))
        )

    @property
    def num_pending(self) -> int:
        """How many requests this run has to answer."""
        return self._pending.num_rows

    def log_what_is_asked(self) -> None:
        """Logs the resolved spec and the requests, so that completeness can be proven later."""
        logger.info(
            "%s: %d requests on %d videos to do",
            self._plan.spec.name,
            self._counters.num_requests,
            self._counters.num_videos,
            extra={"output": self._plan.spec.output.uri},
        )
        spec = yaml.safe_dump(self._plan.spec.model_dump(mode="json"), sort_keys=False)
        run_id = self._plan.run.run_id
        self._log.write_run_file(run_id, "spec.yaml", spec.encode())
        self._log.write_run_file(run_id, "versions.yaml", yaml.safe_dump(versions()).encode())
        requests = self._pending.drop_columns("fetch_uri")
        self._log.write_run_file(run_id, "requests.parquet", requests)

    def answer_all(self, stages: Stages | None, display: Display, address: str | None) -> None:
        """Two rounds in bulk, then what was lost twice one video at a time.

        What was lost alone in a run before stays out of the bulk.
        """
        connected = connect(address)
        try:
            spec = self._plan.spec
            if stages is None:
                spec = with_gpu_share(spec, self._plan.profile)
                stages = job_stages(spec, self._plan.profile)
            share = cluster_share(spec.resources)
            self._metrics = RunMetrics(self._plan.spec.name, self._plan.run.run_id)
            if share.model_gpus == 0:
                logger.info("no GPU in this cluster: the model runs on the CPU")
            with stop_signal() as self._stop:
                for attempt in (1, 2):
                    bulk = _only(self._pending, self._open_ids - self._lone_attempts.keys())
                    if bulk.num_rows:
                        self._round(bulk, attempt, stages, share, display)
                    if not self._open_ids or self._stop.number is not None:
                        return
                self._answer_lost_alone(stages, share, display)
        finally:
            # Ray goes on exporting what it was told last: the stages are gone.
            self._load.pause()
            self._show(display)
            self._metrics = None
            if connected:
                disconnect()

    def _round(
        self,
        requests: pa.Table,
        attempt: int,
        stages: Stages,
        share: ClusterShare,
        display: Display,
    ) -> None:
        passthrough = self._plan.requests.passthrough
        workers = share.decode_actors[1]
        size = min(_MAX_ITEMS_PER_BLOCK, max(1, len(clip_starts(requests)) // (4 * workers)))
        stream = StageStream(
            work_item_blocks(requests, passthrough, size, attempt),
            stages,
            share,
            self._plan.run,
            passthrough,
            self._load,
        )
        try:
            while self._stop.number is None:
                try:
                    outcomes = stream.poll(timeout_seconds=CALL_SECONDS)
                except EndOfStream:
                    return
                if outcomes is not None and outcomes.num_rows:
                    self._take(outcomes)
                self._log.maybe_flush()
                self._show(display)
            # First of all: whoever asked to stop may not wait for the actors to end.
            self._log.flush()
        finally:
            stream.close()
            self._load.pause()

    def _show(self, display: Display) -> None:
        display.update(self._counters, self._load, self._bottleneck())
        if self._metrics:
            self._metrics.update(self._counters, self._load)

    def _bottleneck(self) -> str | None:
        keyframes = self._plan.spec.sampling.seek == "keyframe"
        return bottleneck(self._counters, self._load, keyframe_seeking=keyframes)

    def _take(self, outcomes: pa.Table) -> None:
        """Logs and counts what is new; a retried task may deliver a row twice."""
        ids = outcomes["request_id"].to_pylist()
        fresh = outcomes.filter(pa.array([request_id in self._open_ids for request_id in ids]))
        self._num_recomputed += outcomes.num_rows - fresh.num_rows
        self._log.append(fresh)
        self._tell_failures(fresh)
        clips = self._counters.add(fresh)
        if self._metrics:
            self._metrics.observe(clips)
        self._open_ids.difference_update(ids)
        stages = fresh["stage"].to_pylist()
        self._recent_model_failures.extend(stage == "model" for stage in stages)
        watched = self._recent_model_failures
        if len(watched) == _WATCHED_OUTCOMES:
            share = sum(watched) / len(watched)
            if share >= _BROKEN_MODEL_SHARE:
                raise TooManyErrorsError(
                    f"{share:.0%} of the last {len(watched)} requests failed in the model, the "
                    f"last with: {fresh['message'].to_pylist()[-1]}"
                )

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

    def _answer_lost_alone(self, stages: Stages, share: ClusterShare, display: Display) -> None:
        """Each video that was lost twice runs alone, its attempt logged before."""
        lost = self._open_requests()
        if lost.num_rows > max(_MIN_ALONE, _MAX_ALONE_SHARE * self._pending.num_rows):
            raise TooManyErrorsError(
                f"{lost.num_rows} of {self._pending.num_rows} requests were lost twice with their "
                "workers: the cluster or the model is at fault, not the videos"
            )
        for low, high in pairwise([*clip_starts(lost).tolist(), lost.num_rows]):
            requests = lost.slice(low, high - low)
            ids = requests["request_id"].to_pylist()
            if max(self._lone_attempts.get(request_id, 0) for request_id in ids) < _LONE_ATTEMPTS:
                self._log.log_attempt(requests["request_id"])
                self._round(requests, 3, stages, share, display)
                if self._stop.number is not None:
                    return
            self._fail_lost(_only(requests, self._open_ids))

    def _open_requests(self) -> pa.Table:
        return _only(self._pending, self._open_ids)

    def _fail_lost(self, requests: pa.Table) -> None:
        passthrough = self._plan.requests.passthrough
        failure = RequestFailure(
            code="worker_lost", message="its worker was lost each time, the last time alone"
        )
        for block in work_item_blocks(requests, passthrough, 1, attempt=3):
            item = work_item_from_row(block.to_pylist()[0])
            decoded = DecodedItem(item=item, video=None, failure=failure)
            rows = [
                outcome_row(Outcome(request=r, decoded=decoded, result=failure), self._plan.run)
                for r in item.requests
            ]
            self._take(pa.Table.from_pylist(rows, schema=outcomes_schema(passthrough)))

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
            planned.table.num_rows - _without(planned.table, self._log.answered_ids()).num_rows
        )
        unfinished = len(self._open_ids)
        num_requests = self._plan.num_requests
        ratio = (num_requests - answered - unfinished) / num_requests if num_requests else 0.0
        limit = self._plan.spec.limits.max_failure_ratio
        stopped = self._stop.number
        exit_code = self._stop.exit_code if stopped else (3 if ratio > limit else 0)
        return RunSummary(
            run_id=self._plan.run.run_id,
            job=self._plan.spec.name,
            output=self._plan.spec.output.log_uri,
            fingerprint=self._plan.run.fingerprint,
            num_requests=num_requests,
            num_videos=counters.num_videos,
            num_done_before=num_requests - self.num_pending - self._new_failures.num_rows,
            num_answers=counters.num_answers,
            num_failures=counters.num_failures,
            num_unfinished=unfinished,
            num_recomputed=self._num_recomputed,
            failures_by_code=dict(counters.failures_by_code),
            failure_ratio=ratio,
            max_failure_ratio=limit,
            seconds=counters.seconds,
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


def _without(table: pa.Table, ids: pa.ChunkedArray | pa.Array | None) -> pa.Table:
    if ids is None:
        return table
    gone = pc.is_in(table["request_id"], value_set=ids)
    # A new job keeps the planned table as it is, the largest thing that the driver holds.
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def _ids_of(table: pa.Table) -> set[str]:
    return set(table["request_id"].to_pylist())


def _only(table: pa.Table, ids: set[str]) -> pa.Table:
    value_set = pa.array(list(ids), pa.string())
    return table.filter(pc.is_in(table["request_id"], value_set=value_set))
