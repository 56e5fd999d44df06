"""The dry run of a job: what `sfray plan` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from sfray.config import JobSpec
from sfray.model.memory import GIB, InFlight, memory_need
from sfray.planning.plan import JobPlan, make_plan, prompt_tokenizer
from sfray.planning.to_do import ToDo, what_is_to_do
from sfray.planning.windows import clips_of
from sfray.results.partitioning import check_log, check_output
from sfray.results.read import progress_of
from sfray.results.run_files import run_windows
from sfray.results.schema import OutputColumns, check_columns
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder
from sfray.video.readers.selection import check_reader

# Of the GPUs that people have most.
_GPU_SIZES = (24, 48, 80)
# Prompts are alike but for their questions: the longest of them tell the rest.
_PROMPTS_MEASURED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a job would do now.

    Attributes:
        num_uncut: clips to do whose windows no run has found yet; None where clips stay whole.
        problems: by code, how many rows of the manifest can't be asked, and an example.
        num_prompt_tokens: of the longest of the measured prompts, text only; None where the
            model's tokenizer isn't on this machine.
        columns: those that the output has or would begin with.
    """

    to_do: ToDo
    num_uncut: int | None
    problems: dict[str, tuple[int, str]]
    num_prompt_tokens: int | None
    columns: OutputColumns

    def print_to(self, console: Console) -> None:
        """The outlook as a table, problems of the manifest last."""
        to_do, plan = self.to_do, self.to_do.plan
        spec, planned = plan.spec, plan.requests
        table = Table(title=f"{spec.name}: {spec.task} with {spec.model.id}", show_header=False)
        collapsed = f"{planned.num_collapsed} collapsed as equal"
        table.add_row("manifest rows", f"{planned.num_rows} ({collapsed})")
        num_videos = pc.count_distinct(planned.table["video_id"]).as_py()
        table.add_row("videos", str(num_videos))
        table.add_row("requests", str(plan.num_requests))
        table.add_row("answered", str(to_do.num_answered))
        table.add_row("failed", str(to_do.num_failed))
        table.add_row("to do", str(to_do.num_open))
        table.add_row("a run asks", self._asked())
        if self.num_uncut is not None:
            table.add_row("clips without windows", self._uncut())
        table.add_row("tokens a request", self._tokens())
        table.add_row("memory a replica", self._memory())
        for size in _GPU_SIZES:
            table.add_row(f"on a GPU of {size} GiB", self._fitting(size))
        table.add_row("fingerprint", " ".join(plan.fingerprints))
        table.add_row("output", spec.output.log_uri)
        if (older := self.columns.older_than_now) is not None:
            table.add_row("columns", older)
        for name, column in self.columns.renamed.items():
            table.add_row(f"passthrough {name}", f"in the results {column}")
        console.print(table)
        for code, (number, example) in self.problems.items():
            console.print(f"problem: {number} rows are {code}, such as: {example}", markup=False)

    def _asked(self) -> str:
        to_do = self.to_do
        asked = f"{to_do.requests.num_rows} requests on {to_do.num_clips} videos"
        num_again = to_do.requests.num_rows - to_do.num_open
        return f"{asked}, {num_again} of them failed and may pass now" if num_again else asked

    def as_dict(self) -> dict[str, Any]:
        """The outlook as JSON values."""
        to_do, plan = self.to_do, self.to_do.plan
        spec, need = plan.spec, memory_need(plan.spec, plan.profile)
        return {
            "job": spec.name,
            "task": spec.task,
            "model": spec.model.id,
            "output": spec.output.log_uri,
            "fingerprints": plan.fingerprints,
            "num_rows": plan.requests.num_rows,
            "num_collapsed": plan.requests.num_collapsed,
            "num_videos": pc.count_distinct(plan.requests.table["video_id"]).as_py(),
            "num_requests": plan.num_requests,
            "num_answered": to_do.num_answered,
            "num_failed": to_do.num_failed,
            "num_to_do": to_do.num_open,
            "num_asked_by_a_run": to_do.requests.num_rows,
            "num_clips_asked_by_a_run": to_do.num_clips,
            "num_clips_without_windows": self.num_uncut,
            "num_visual_tokens": plan.num_visual_tokens,
            "num_prompt_tokens": self.num_prompt_tokens,
            "max_new_tokens": spec.generation.max_new_tokens,
            "num_positions": plan.profile.max_position_embeddings,
            "weights_bytes": need.weights,
            "one_request_bytes": need.total(InFlight(1, 1)),
            "num_replicas_by_gpu_gib": {s: need.replicas_on(s * GIB) for s in _GPU_SIZES},
            "older_columns": self.columns.older_than_now,
            "renamed_passthrough": dict(self.columns.renamed),
            "problems": [
                {"code": code, "num_rows": number, "example": example}
                for code, (number, example) in self.problems.items()
            ],
        }

    def _uncut(self) -> str:
        if not self.num_uncut:
            return "none: all windows are found"
        return f"{self.num_uncut}, each counted as one window until a run has found its windows"

    def _memory(self) -> str:
        need = memory_need(self.to_do.plan.spec, self.to_do.plan.profile)
        one = need.total(InFlight(1, 1))
        return f"{need.weights / GIB:.1f} GiB weights, {one / GIB:.1f} GiB with one request"

    def _fitting(self, size: int) -> str:
        need = memory_need(self.to_do.plan.spec, self.to_do.plan.profile)
        num_replicas = need.replicas_on(size * GIB)
        fitting = need.fitting(size * GIB / num_replicas) if num_replicas else None
        if fitting is None:
            return "too small"
        return (
            f"replicas: {num_replicas}, each up to {fitting.num_requests} requests of "
            f"{fitting.num_videos} videos at once"
        )

    def _tokens(self) -> str:
        plan = self.to_do.plan
        answer, num_positions = (
            plan.spec.generation.max_new_tokens,
            plan.profile.max_position_embeddings,
        )
        visual = f"{plan.num_visual_tokens} visual ({plan.spec.sampling.num_frames} frames)"
        if self.num_prompt_tokens is None:
            return f"{visual} + the prompt + up to {answer}, of {num_positions}"
        total = plan.num_visual_tokens + self.num_prompt_tokens + answer
        return (
            f"{visual} + up to {self.num_prompt_tokens} prompt + up to {answer} answer = {total} "
            f"of {num_positions}"
        )


def outlook(spec: JobSpec, limit: int | None = None) -> Outlook:
    """Plans a job and looks at what its output holds already; writes nothing.

    Raises:
        RunError: what a run would refuse before it starts, as far as it needs no cluster.
    """
    check_reader(spec.decode.reader)
    plan = make_plan(spec, limit)
    output, storage = plan.spec.output, plan.spec.storage
    root, log = (open_folder(uri, storage) for uri in (output.uri, output.log_uri))
    columns = _checked(root, log, plan)
    how = plan.spec.sampling.windows
    windows = None if how is None else run_windows(log)
    to_do = what_is_to_do(plan, progress_of(log), windows, limit=limit)
    if to_do.requests.num_rows:
        plan.checkpoint.check_unfetched()
    return Outlook(
        to_do=to_do,
        num_uncut=None if how is None else clips_of(to_do.uncut, how).num_rows,
        problems=_problems(to_do.plan.requests.failures),
        num_prompt_tokens=_longest_prompt(to_do.plan),
        columns=columns,
    )


def _checked(root: Folder, log: Folder, plan: JobPlan) -> OutputColumns:
    """The columns of an output that a run of a plan could write to; raises what it would raise."""
    part, ours = plan.spec.output.part, OutputColumns.of_today(plan.requests.passthrough)
    check_output(root, part)
    check_log(log, part)
    columns = check_columns(root, ours)
    check_columns(log, columns)
    log.check_writable()
    return columns


def _problems(failures: pa.Table) -> dict[str, tuple[int, str]]:
    """How many rows of each code there are, with the first one's message."""
    codes = Counter(failures["code"].to_pylist())
    messages: dict[str, str] = {}
    for row in failures.select(["code", "message"]).to_pylist():
        messages.setdefault(row["code"], row["message"])
    return {code: (number, messages[code]) for code, number in codes.items()}


def _longest_prompt(plan: JobPlan) -> int | None:
    """Text tokens of the longest prompt, or None where no tokenizer is at hand."""
    table = plan.requests.table
    if not table.num_rows:
        return 0
    tokenizer = prompt_tokenizer(plan)
    if tokenizer is None:
        return None
    lengths = pc.utf8_length(table["prompt"])
    longest = table.take(pc.sort_indices(lengths, sort_keys=[("", "descending")]))
    num_tokens = 0
    for row in longest.select(["prompt", "options"]).slice(0, _PROMPTS_MEASURED).to_pylist():
        rendered = plan.template.render(row["prompt"], row["options"] or ())
        before, after = tokenizer.encode(rendered)
        num_tokens = max(num_tokens, len(before) + len(after))
    return num_tokens
