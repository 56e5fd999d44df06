"""What a run does with outcomes as they come: logs, counts, shows and watches them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from sfray.pipeline.metrics_export import RunMetrics
from sfray.planning.to_do import ToDo
from sfray.records import RequestFailure
from sfray.results.log import ResultsLog
from sfray.runs.failed_outcomes import failed_outcomes
from sfray.runs.model_watch import ModelWatch
from sfray.telemetry.bottleneck import bottleneck
from sfray.telemetry.progress import Display, make_display
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad

logger = logging.getLogger("sfray")

# So many failures of each code get a line in the log, with these columns.
_FAILURES_LOGGED = 10
_LOGGED_COLUMNS = ["request_id", "video_id", "stage", "code"]


class OutcomeSink:
    """Takes the outcomes of a run; see `rounds.Sink`.

    Attributes:
        counters: of what has come in.
        load: of the stages while they work.
    """

    def __init__(self, to_do: ToDo, log: ResultsLog) -> None:
        self._plan = to_do.plan
        self._log = log
        self.counters = RunCounters(
            num_requests=to_do.requests.num_rows, num_videos=to_do.num_clips
        )
        self.load = StageLoad()
        self._model_watch = ModelWatch()
        self._num_by_code: Counter[str] = Counter()
        self._metrics: RunMetrics | None = None
        self._display: Display | None = None

    @contextmanager
    def shown_on(self, console: Console) -> Iterator[None]:
        """Shows progress and exports metrics inside the block."""
        with make_display(console) as display:
            self._display = display
            self._metrics = RunMetrics(self._plan.spec.name, self._plan.run.run_id)
            try:
                yield
            finally:
                # Ray goes on exporting what it got last: the stages are gone.
                self.round_ended()
                self._metrics.update(self.counters, self.load)
                self._metrics = None
                display.ended(self.counters)

    def take(self, outcomes: pa.Table) -> None:
        """See `rounds.Sink`."""
        clips = self._add(outcomes)
        if self._metrics:
            self._metrics.observe(clips)
        self._model_watch.see(outcomes)

    def add_manifest_failures(self, failures: pa.Table) -> None:
        """Logs and counts the manifest's own failures."""
        self._add(failures)

    def tick(self) -> None:
        """See `rounds.Sink`."""
        if self._display:
            self._display.update(self.counters, self.load, self.bottleneck())
        if self._metrics:
            self._metrics.update(self.counters, self.load)

    def round_ended(self) -> None:
        """See `rounds.Sink`: no time of a stage counts until work goes on."""
        self.load.pause()

    def lost(self, requests: pa.Table) -> pa.Table:
        """See `rounds.Sink`."""
        failure = RequestFailure(
            code="worker_lost", message="its worker was lost each time, the last time alone"
        )
        passthrough = self._plan.requests.passthrough
        return failed_outcomes(requests, repeat(failure), self._plan.run, passthrough, attempt=3)

    def bottleneck(self) -> str | None:
        """The stage that the others wait for, where one can be told."""
        keyframes = self._plan.spec.sampling.seek == "keyframe"
        return bottleneck(self.counters, self.load, keyframe_seeking=keyframes)

    def _add(self, outcomes: pa.Table) -> pa.Table:
        self._log.append(outcomes)
        self._log_failures(outcomes)
        return self.counters.add(outcomes)

    def _log_failures(self, outcomes: pa.Table) -> None:
        """Logs the first failures of each code; `failures/` has them all."""
        failed = outcomes.filter(pc.is_valid(outcomes["code"]))
        messages = failed["message"].to_pylist()
        for about, message in zip(
            failed.select(_LOGGED_COLUMNS).to_pylist(), messages, strict=True
        ):
            code = about["code"]
            self._num_by_code[code] += 1
            if self._num_by_code[code] <= _FAILURES_LOGGED:
                logger.warning("%s: %s: %s", about["video_id"], code, message, extra=about)
            elif self._num_by_code[code] == _FAILURES_LOGGED + 1:
                logger.warning("more failures of code %s are in the results only", code)
