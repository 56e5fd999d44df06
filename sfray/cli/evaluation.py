"""`sfray eval`: benchmarks from their official files to a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sfray.cli.options import Address, AsJson, print_json, reaches_storage
from sfray.config import JobSpec, StorageSpec
from sfray.errors import SpecError, StorageError, TooManyErrorsError
from sfray.telemetry.terminal import terminal

app = typer.Typer(
    name="eval",
    help="Run the public benchmarks and score them; coverage stands beside every score.",
    no_args_is_help=True,
)

Outputs = Annotated[
    list[str],
    typer.Argument(
        help="Outputs of jobs: folders or s3:// prefixes; of a folder that is none, those in it."
    ),
]
Manifest = Annotated[str, typer.Option(help="A manifest made by `sfray eval convert`.")]
Model = Annotated[
    str | None,
    typer.Option(help="A hub id, a folder, or `demo`, which demo-world has by default."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the job; repeatable."),
]


class Format(StrEnum):
    """How a report is printed."""

    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"


ReportFormat = Annotated[Format, typer.Option("--format", help="How the report is printed.")]
ReportAsJson = Annotated[bool, typer.Option("--json", help="Short for --format json.")]


@app.command()
def benchmarks(as_json: AsJson = False) -> None:
    """List the benchmarks, their sizes and the published numbers."""
    from sfray.scoring.benchmarks.definitions import BENCHMARKS

    if as_json:
        print_json([benchmark.as_dict() for benchmark in BENCHMARKS.values()])
        return
    for benchmark in BENCHMARKS.values():
        sizes = "; ".join(f"{s.name} {s.num_questions} questions" for s in benchmark.splits)
        typer.echo(f"{benchmark.name}: {benchmark.title}. {sizes}. {benchmark.source}.")


@app.command()
@reaches_storage
def convert(
    benchmark: Annotated[str, typer.Argument(help="Its name; `sfray eval benchmarks` lists them.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Questions, answers, maps of videos.")
    ],
    output: Annotated[Path, typer.Option(help="The manifest to write, a .parquet file.")],
    videos: Annotated[
        str | None,
        typer.Option(help="The folder or prefix below which the videos are; they are looked for."),
    ] = None,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Turn a benchmark's official files into a manifest, and account for every row."""
    import pyarrow.parquet as pq

    from sfray.scoring.benchmarks.account import account_lines
    from sfray.scoring.benchmarks.convert import convert as convert_files
    from sfray.scoring.benchmarks.definitions import benchmark_named
    from sfray.sources.listing import list_videos

    chosen = benchmark_named(benchmark)
    if output.suffix != ".parquet":
        raise SpecError(f"--output {output} is no .parquet file, which a manifest is written as")
    root, paths = "", None
    if videos is not None:
        root, paths = list_videos(videos, storage)
    table, account = convert_files(chosen, files, root=root, video_paths=paths)
    with _writes(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, output)
    if as_json:
        print_json(account.as_dict())
        return
    for line in account_lines(account):
        typer.echo(line)
    typer.echo(f"manifest: {output}")


@app.command()
@reaches_storage
def run(
    benchmark: Annotated[str, typer.Argument(help="A benchmark's name, or demo-world.")],
    output: Annotated[str, typer.Option(help="Where answers go.")] = "eval-output",
    manifest: Annotated[
        str | None, typer.Option(help="A manifest made by `sfray eval convert`.")
    ] = None,
    model: Model = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="demo-world: the folder of its videos, made where it holds none."),
    ] = None,
    num_videos: Annotated[int, typer.Option(min=1, help="demo-world: how many videos.")] = 24,
    seed: Annotated[int, typer.Option(help="demo-world: the first video's seed.")] = 2_000_000,
    overrides: Overrides = None,
    address: Address = None,
    report_format: ReportFormat = Format.MARKDOWN,
    as_json: ReportAsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Ask a benchmark's questions, then print its report.

    Running it again asks only what has no answer yet, also where a video that was missing is there
    now. `demo-world` needs no files: it makes videos of coloured shapes and questions with known
    answers for the demonstration model.
    """
    from sfray.commands.evaluate import (
        DEMO_WORLD,
        demo_world_manifests,
        evaluation_job,
        manifest_scorers,
    )
    from sfray.scoring.benchmarks.definitions import benchmark_named
    from sfray.storage.uris import join

    manifests: dict[str, str] = {}
    if benchmark == DEMO_WORLD:
        model = model or "demo"
        folder = videos or Path(output) / "videos"
        made = demo_world_manifests(folder, num_videos, seed)
        manifests = {join(output, task): str(path) for task, path in made.items()}
    else:
        benchmark_named(benchmark)
        if manifest is None:
            raise SpecError(
                f"--manifest is missing: make one with `sfray eval convert {benchmark} FILE...`"
            )
        manifests = {output: manifest}
        if model is None:
            raise SpecError(
                "--model is missing: a folder or a hub id, such as "
                "llava-hf/llava-v1.6-vicuna-7b-hf (`demo` knows coloured shapes only)"
            )
    extra = _overrides(storage, overrides)
    jobs = [
        evaluation_job(benchmark, source, target, model, manifest_scorers(source), extra)
        for target, source in manifests.items()
    ]
    _run_jobs(jobs, address, _format(report_format, as_json))


@app.command()
@reaches_storage
def ablate(
    folder: Annotated[Path, typer.Argument(help="A folder of job files, one a row of a table.")],
    manifest: Manifest,
    output: Annotated[str, typer.Option(help="Below it, each job has an output of its name.")],
    overrides: Overrides = None,
    address: Address = None,
    report_format: ReportFormat = Format.MARKDOWN,
    as_json: ReportAsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Run every job file of a folder on one manifest, then print one report."""
    from sfray.commands.evaluate import ablation_jobs

    jobs = ablation_jobs(folder, manifest, output, _overrides(storage, overrides))
    _run_jobs(jobs, address, _format(report_format, as_json))


@app.command()
@reaches_storage
def judge(
    outputs: Outputs,
    model: Annotated[str, typer.Option(help="The judge's name at its endpoint.")],
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint; by default OPENAI_BASE_URL or OpenAI."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts (YAML).")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="No more requests than this.")
    ] = None,
    price_prompt: Annotated[float, typer.Option(help="Price of a million prompt tokens.")] = 0.0,
    price_completion: Annotated[
        float, typer.Option(help="Price of a million completion tokens.")
    ] = 0.0,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Have an LLM judge open answers; the key comes from OPENAI_API_KEY.

    Verdicts are kept beside the answers and never asked for twice: running it again judges only
    what is new or was not answered.
    """
    from rich.progress import Progress, TaskID

    from sfray.commands.evaluate import asked_rows, judge_folder, outputs_in
    from sfray.scoring.judge import OPENAI_URL, JudgeSpec, JudgeSummary
    from sfray.scoring.judge import judge as judge_answers
    from sfray.scoring.judge_log import JudgeLog
    from sfray.scoring.judge_prompts import load_prompts

    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    api_key = os.environ.get("OPENAI_API_KEY")
    if not api_key and urlsplit(base_url or OPENAI_URL).hostname == urlsplit(OPENAI_URL).hostname:
        raise SpecError(
            "OpenAI wants a key: put it into OPENAI_API_KEY, or name another endpoint by --base-url"
        )
    spec = JudgeSpec(
        model=model,
        base_url=base_url,
        api_key=api_key or "none",
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
    )
    texts = load_prompts(prompts)
    num_lost, summaries = 0, []
    for output in outputs_in(outputs, storage):
        rows = asked_rows(output, storage)
        folder = judge_folder(output, storage)
        lease = folder.take_lease(f"sfray eval judge (process {os.getpid()})", wait=False)
        try:
            with Progress(console=terminal(stderr=True), transient=True) as bar:
                task = bar.add_task("judging", total=None)

                def show(now: JudgeSummary, bar: Progress = bar, task: TaskID = task) -> None:
                    bar.update(task, completed=now.num_done, total=now.num_wanted)

                summary = judge_answers(rows, JudgeLog(folder), spec, texts, show)
        finally:
            lease.release()
        cost = summary.cost(price_prompt, price_completion)
        num_lost += summary.num_lost
        summaries.append({"output": output} | asdict(summary) | {"cost": cost})
        if as_json:
            continue
        typer.echo(
            f"{output}: {summary.num_wanted} verdicts wanted, {summary.num_known} known before, "
            f"{summary.num_judged} judged now, {summary.num_refused} refused, "
            f"{summary.num_unreadable} unreadable, {summary.num_lost} not answered; "
            f"{summary.num_prompt_tokens} + {summary.num_completion_tokens} tokens, cost {cost:.4f}"
        )
    if as_json:
        print_json(summaries)
    raise typer.Exit(3 if num_lost else 0)


@app.command()
@reaches_storage
def report(
    outputs: Outputs,
    report_format: ReportFormat = Format.MARKDOWN,
    as_json: ReportAsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Score outputs: one table with intervals, coverage and the published numbers."""
    from sfray.commands.evaluate import outputs_in

    _print_report(outputs_in(outputs, storage), storage, _format(report_format, as_json))


@app.command()
@reaches_storage
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="An output.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, on the same questions.")],
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Compare two outputs by the paired bootstrap over their videos."""
    from sfray.commands.evaluate import asked_rows, judge_folder
    from sfray.scoring.compare import compare as compare_rows
    from sfray.scoring.judge_log import JudgeLog
    from sfray.scoring.report_formats import comparison_markdown

    verdicts = [JudgeLog(judge_folder(output, storage)).rows() for output in (a, b)]
    found = compare_rows(asked_rows(a, storage), verdicts[0], asked_rows(b, storage), verdicts[1])
    if as_json:
        print_json([comparison.as_dict() for comparison in found])
        return
    typer.echo(comparison_markdown(found), nl=False)


@app.command()
@reaches_storage
def submission(
    output: Annotated[str, typer.Argument(help="The output of an EgoSchema job.")],
    file: Annotated[Path, typer.Argument(help="The .csv to write.")],
    *,
    storage: StorageSpec,
) -> None:
    """Write the file that EgoSchema's server scores: `q_uid,answer`, the option's number from 0.

    Questions without an answer have -1; how many there are is printed.
    """
    from sfray.commands.evaluate import asked_rows
    from sfray.scoring.submission import submission_csv

    text, num_open = submission_csv(asked_rows(output, storage))
    with _writes(file):
        file.write_text(text, encoding="utf-8")
    typer.echo(f"{file}: {text.count(chr(10)) - 1} questions, {num_open} of them without a choice")


@contextmanager
def _writes(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} can't be written: {os.strerror(error.errno or 0)}") from error


def _overrides(storage: StorageSpec, overrides: list[str] | None) -> tuple[str, ...]:
    """The storage options and then `--set`, as overrides of a job file."""
    given = storage.model_dump(exclude_unset=True)
    reached = [f"storage.{name}={json.dumps(value)}" for name, value in given.items()]
    return (*reached, *(overrides or ()))


def _format(report_format: Format, as_json: bool) -> Format:
    return Format.JSON if as_json else report_format


def _run_jobs(jobs: list[JobSpec], address: str | None, report_format: Format) -> None:
    """Runs jobs one after the other on one cluster, then prints their report.

    Raises:
        TooManyErrorsError: a job has no answer at all, which is no score of 0.
    """
    from sfray.commands.evaluate import found_again, why_nothing_is_answered
    from sfray.pipeline.cluster import connected
    from sfray.runs.run import run_job

    console = terminal(stderr=True)
    exit_code = 0
    answered: list[JobSpec] = []
    unanswered: list[JobSpec] = []
    with connected(address):
        for job in jobs:
            summary = run_job(job, address=address, console=console, retry=found_again(job))
            summary.print_to(console)
            exit_code = exit_code or summary.exit_code
            if summary.stopped_by:
                raise typer.Exit(exit_code)
            (answered if summary.num_answered else unanswered).append(job)
    if answered:
        _print_report([job.output.uri for job in answered], answered[0].storage, report_format)
    if unanswered:
        raise TooManyErrorsError("; ".join(map(why_nothing_is_answered, unanswered)))
    raise typer.Exit(exit_code)


def _print_report(outputs: list[str], storage: StorageSpec, report_format: Format) -> None:
    from sfray.commands.evaluate import report_on
    from sfray.scoring.report_formats import as_csv, as_json, as_markdown

    write = {Format.MARKDOWN: as_markdown, Format.JSON: as_json, Format.CSV: as_csv}
    typer.echo(write[report_format](report_on(outputs, storage)).rstrip("\n"))
