"""What of a job is still to be done: the anti-join of what it asks for with what its log holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from sfray.planning.plan import JobPlan
from sfray.planning.windows import uncut_requests, with_windows
from sfray.planning.work_items import anti_join, clip_starts, request_ids, semi_join
from sfray.records import WINDOWS_SCHEMA
from sfray.results.read import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ToDo:
    """What a run of a plan has to do, and what it goes by. See `what_is_to_do`.

    Attributes:
        asked: the plan as the manifest has it.
        progress: what the log held.
        windows: those that are known, of `WINDOWS_SCHEMA`; None where clips stay whole.
        limit: only so many requests are asked for.
        retry: ids of failed requests that are tried again, though they failed for good.
        plan: `asked`, with a request for each window that is known.
        requests: those without an answer that can be tried, those of one clip together.
        uncut: of the requests, those on clips whose windows are not known.
        new_failures: the manifest's own failures that no run has logged.
        num_answered: requests that have an answer.
        num_failed: requests whose last attempt failed, transient failures too, and rows of the
            manifest that can't be asked.
    """

    asked: JobPlan
    progress: Progress
    windows: pa.Table | None
    limit: int | None
    retry: pa.ChunkedArray | None
    plan: JobPlan
    requests: pa.Table
    uncut: pa.Table
    new_failures: pa.Table
    num_answered: int
    num_failed: int

    @property
    def num_open(self) -> int:
        """Requests that have neither an answer nor a failure."""
        return self.plan.num_requests - self.num_answered - self.num_failed

    @property
    def num_clips(self) -> int:
        """Clips, or windows of clips, that the requests are about."""
        return len(clip_starts(self.requests))

    @property
    def num_done_before(self) -> int:
        """Requests, and manifest rows that failed, that earlier runs are done with."""
        return self.plan.num_requests - self.requests.num_rows - self.new_failures.num_rows

    @property
    def lone_attempts(self) -> pa.Table:
        """`request_id, attempts` of what was tried alone, but had no outcome: the driver was lost
        with it."""
        return anti_join(self.progress.lone_attempts, self.retry)


def what_is_to_do(
    asked: JobPlan,
    progress: Progress,
    windows: pa.Table | None,
    *,
    limit: int | None = None,
    retry: pa.ChunkedArray | None = None,
) -> ToDo:
    """What of a plan has no outcome that lasts; see `ToDo` for the arguments."""
    plan = asked if windows is None else with_windows(asked, windows, limit)
    failures = progress.latest_failures
    for_good = anti_join(failures.filter(pc.invert(failures["transient"])), retry)["request_id"]
    unanswered = anti_join(plan.requests.table, progress.answered_ids)
    requests = anti_join(unanswered, for_good)
    uncut = requests.slice(0, 0)
    if windows is not None:
        uncut = semi_join(uncut_requests(asked, windows), request_ids(requests))
    return ToDo(
        asked=asked,
        progress=progress,
        windows=windows,
        limit=limit,
        retry=retry,
        plan=plan,
        requests=requests,
        uncut=uncut,
        new_failures=anti_join(plan.requests.failures, failures["request_id"]),
        num_answered=plan.requests.table.num_rows - unanswered.num_rows,
        num_failed=unanswered.num_rows
        - anti_join(unanswered, failures["request_id"]).num_rows
        + plan.requests.failures.num_rows,
    )


def with_found_windows(to_do: ToDo, found: pa.Table) -> ToDo:
    """What is to do once more windows are known.

    What failed for good with a whole clip is asked of the clip's first window, under the same id.
    """
    known = WINDOWS_SCHEMA.empty_table() if to_do.windows is None else to_do.windows
    windows = pa.concat_tables([known, found])
    uncut_before, uncut_now = (
        request_ids(uncut_requests(to_do.asked, those)) for those in (known, windows)
    )
    cut_now = uncut_before - uncut_now
    failures = anti_join(to_do.progress.latest_failures, pa.array(list(cut_now), pa.string()))
    progress = replace(to_do.progress, latest_failures=failures)
    return what_is_to_do(to_do.asked, progress, windows, limit=to_do.limit, retry=to_do.retry)
