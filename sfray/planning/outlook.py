"""What `sfray plan` tells of a job before it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from sfray.config import JobSpec
from sfray.model.memory import GIB, InFlight, memory_need
from sfray.planning.plan import JobPlan, make_plan, prompt_tokenizer
from sfray.planning.windows import clips_of, uncut_requests, with_windows
from sfray.planning.work_items import clip_starts, without
from sfray.results.partitioning import check_output
from sfray.results.read import read_progress
from sfray.results.run_files import run_windows
from sfray.results.schema import OutputColumns, read_columns
from sfray.storage.folders import open_folder

# Of the GPUs that people have most.
_GPU_SIZES = (24, 48, 80)
# Prompts are alike but for their questions: the longest of them tell the rest.
_PROMPTS_MEASURED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a job would do now; `to_do` are its requests, those of a clip together.

    `num_prompt_tokens` is the longest of the measured prompts, text only; None where the model's
    tokenizer isn't on this machine. `num_uncut` are clips to do whose windows no run has found yet;
    None where clips stay whole. `columns` are those that the output has or would begin with.
    """

    plan: JobPlan
    num_rows: int
    num_collapsed: int
    num_videos: int
    num_requests: int
    num_answered: int
    num_failed_for_good: int
    to_do: pa.Table
    num_videos_to_do: int
    num_uncut: int | None
    problems: dict[str, tuple[int, str]]
    num_frames: int
    num_visual_tokens: int
    num_prompt_tokens: int | None
    max_positions: int
    columns: OutputColumns

    @property
    def num_to_do(self) -> int:
        """Requests without an answer that can be tried."""
        return self.to_do.num_rows

    def print_to(self, console: Console) -> None:
        """The outlook as a table, problems of the manifest last."""
        spec = self.plan.spec
        table = Table(title=f"{spec.name}: {spec.task} with {spec.model.id}", show_header=False)
        table.add_row("manifest rows", f"{self.num_rows} ({self.num_collapsed} collapsed as equal)")
        table.add_row("videos", str(self.num_videos))
        table.add_row("requests", str(self.num_requests))
        table.add_row("answered already", str(self.num_answered))
        table.add_row("failed for good", str(self.num_failed_for_good))
        table.add_row("to do", f"{self.num_to_do} requests on {self.num_videos_to_do} videos")
        if self.num_uncut is not None:
            table.add_row("clips without windows", self._uncut())
        table.add_row("tokens a request", self._tokens())
        table.add_row("memory a replica", self._memory())
        for size in _GPU_SIZES:
            table.add_row(f"on a GPU of {size} GiB", self._fitting(size))
        table.add_row("fingerprint", " ".join(self.plan.fingerprints))
        table.add_row("output", spec.output.log_uri)
        if (older := self.columns.older_than_now) is not None:
            table.add_row("columns", older)
        for name, column in self.columns.renamed.items():
            table.add_row(f"passthrough {name}", f"in the results {column}")
        console.print(table)
        for code, (number, example) in self.problems.items():
            console.print(f"problem: {number} rows are {code}, such as: {example}", markup=False)

    def _uncut(self) -> str:
        if not self.num_uncut:
            return "none: all windows are found"
        return f"{self.num_uncut}, each counted as one window until a run has found its windows"

    def _memory(self) -> str:
        need = memory_need(self.plan.spec, self.plan.profile)
        one = need.total(InFlight(1, 1))
        return f"{need.weights / GIB:.1f} GiB weights, {one / GIB:.1f} GiB with one request"

    def _fitting(self, size: int) -> str:
        need = memory_need(self.plan.spec, self.plan.profile)
        num_replicas = need.replicas_on(size * GIB)
        most = need.fitting(size * GIB / num_replicas) if num_replicas else None
        if most is None:
            return "too small"
        return (
            f"replicas: {num_replicas}, each up to {most.num_requests} requests of "
            f"{most.num_videos} videos at once"
        )

    def _tokens(self) -> str:
        answer = self.plan.spec.generation.max_new_tokens
        visual = f"{self.num_visual_tokens} visual ({self.num_frames} frames)"
        if self.num_prompt_tokens is None:
            return f"{visual} + the prompt + up to {answer}, of {self.max_positions}"
        total = self.num_visual_tokens + self.num_prompt_tokens + answer
        return (
            f"{visual} + up to {self.num_prompt_tokens} prompt + up to {answer} answer = {total} "
            f"of {self.max_positions}"
        )


def outlook(spec: JobSpec, limit: int | None = None) -> Outlook:
    """Plans a job and looks at what its output holds already; writes nothing."""
    plan = make_plan(spec, limit)
    output, storage = plan.spec.output, plan.spec.storage
    check_output(open_folder(output.uri, storage), output.part)
    progress = read_progress(output.log_uri, storage)
    failures = progress.latest_failures
    for_good = failures.filter(pc.invert(failures["transient"]))["request_id"]
    num_uncut = None
    if (how := plan.spec.sampling.windows) is not None:
        windows = run_windows(open_folder(output.log_uri, storage))
        uncut = without(without(uncut_requests(plan, windows), progress.answered_ids), for_good)
        num_uncut = clips_of(uncut, how).num_rows
        plan = with_windows(plan, windows, limit)
    requests = plan.requests
    ids = requests.table["request_id"]
    answered = pc.is_in(ids, value_set=progress.answered_ids)
    failed = pc.and_not(pc.is_in(ids, value_set=for_good), answered)
    to_do = requests.table.filter(pc.invert(pc.or_(answered, failed)))
    return Outlook(
        plan=plan,
        num_rows=requests.num_rows,
        num_collapsed=requests.num_collapsed,
        num_videos=pc.count_distinct(requests.table["video_id"]).as_py(),
        num_requests=plan.num_requests,
        num_answered=pc.sum(answered).as_py() or 0,
        num_failed_for_good=pc.sum(failed).as_py() or 0,
        to_do=to_do,
        num_videos_to_do=len(clip_starts(to_do)),
        num_uncut=num_uncut,
        problems=_problems(requests.failures),
        num_frames=plan.spec.sampling.num_frames or plan.profile.num_frames,
        num_visual_tokens=plan.num_visual_tokens,
        num_prompt_tokens=_longest_prompt(plan),
        max_positions=plan.profile.max_position_embeddings,
        columns=read_columns(open_folder(output.uri, storage))
        or OutputColumns.of_today(requests.passthrough),
    )


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
    most = 0
    for row in longest.select(["prompt", "options"]).slice(0, _PROMPTS_MEASURED).to_pylist():
        rendered = plan.template.render(row["prompt"], row["options"] or ())
        before, after = tokenizer.encode(rendered)
        most = max(most, len(before) + len(after))
    return most
