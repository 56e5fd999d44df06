"""The command line. Every command is wiring: what it does lives in the rooms below."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from sfray import cli_eval, cli_jobs, cli_upkeep
from sfray.config import DecodeSpec, JobSpec, StorageSpec, VideosSpec, load_job_spec
from sfray.errors import RequestError, RunError

app = typer.Typer(
    name="sfray",
    help="Captions and answers for large video corpora, with SlowFast-LLaVA on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(cli_jobs.app)
app.add_typer(cli_upkeep.app)
app.add_typer(cli_eval.app, name="eval")

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The job file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Overrides a key of the job file, such as --set output.uri=out; repeatable.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many requests, in the order of work."),
]
PartitionOption = Annotated[
    str | None,
    typer.Option(
        "--partition",
        metavar="i/n",
        help="Only the videos whose identity hashes to i modulo n (0 <= i < n), with a log of "
        "their own below the output; short for --set output.partition=i/n.",
    ),
]
Endpoint = Annotated[str | None, typer.Option(help="The S3 endpoint, where it isn't AWS.")]
Output = Annotated[str, typer.Argument(help="The output of a job: a folder or an s3:// prefix.")]


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = None,
    partition: PartitionOption = None,
    limit: Limit = None,
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster; by default the one at hand, else a local one."),
    ] = None,
) -> None:
    """Run a job until every request is an answer or a failure.

    Running it again answers only what is missing and tries transient failures again.

    Exit codes: 0 done; 1 unexpected error; 2 bad spec, manifest, credentials or bucket;
    3 done, but more failures than limits.max_failure_ratio; 4 the output is in use by another
    run; 130 and 143 after a clean stop by Ctrl-C and SIGTERM.
    """
    job = _job(spec, overrides, partition)
    from sfray.pipeline.run import run_job

    summary = run_job(job, limit=limit, address=address)
    summary.print_to(Console(stderr=True))
    raise typer.Exit(summary.exit_code)


@app.command()
def plan(
    spec: SpecFile,
    overrides: Overrides = None,
    partition: PartitionOption = None,
    limit: Limit = None,
) -> None:
    """Show what a job would do: requests, videos, what is done already, tokens, problems.

    Starts neither Ray nor the model and opens no video.
    """
    job = _job(spec, overrides, partition)
    from sfray.pipeline.outlook import outlook

    outlook(job, limit).print_to(Console())


def _job(spec: Path, overrides: list[str] | None, partition: str | None) -> JobSpec:
    # Quoted, so that nothing that is given here means no partition.
    split = [] if partition is None else [f"output.partition={json.dumps(partition)}"]
    return load_job_spec(spec, (*(overrides or ()), *split))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where videos and answers go.")] = Path(
        "demo-output"
    ),
    num_videos: Annotated[int, typer.Option(min=1, help="How many sample videos to make.")] = 8,
    seed: Annotated[int, typer.Option(help="The first video's seed.")] = 1_000_000,
) -> None:
    """Make sample videos, caption and question them with the demonstration model, show scores.

    The demonstration model knows a toy world only: coloured shapes that move. One line of a job
    file, `model: {id: llava-hf/llava-v1.6-vicuna-7b-hf}`, switches to a real one.
    """
    from sfray.pipeline.demo import run_demo

    run_demo(output, num_videos, seed, Console())


@app.command()
def probe(
    videos: Annotated[list[str], typer.Argument(help="Files or URIs.")],
    endpoint_url: Endpoint = None,
    allow_http: Annotated[bool, typer.Option(help="Allow http:// URIs too.")] = False,
) -> None:
    """Print the facts of videos, one JSON line each; a video without facts has its failure."""
    from dataclasses import asdict

    from sfray.stages.decode_video import DecodeVideo
    from sfray.storage.uris import redact

    schemes: dict[str, list[str]] = {}
    if allow_http:
        schemes = {"allowed_schemes": ["file", "s3", "gs", "https", "http"]}
    stage = DecodeVideo(
        videos=VideosSpec.model_validate(schemes),
        storage=StorageSpec(endpoint_url=endpoint_url),
        decode=DecodeSpec(),
        seek="exact",
        num_frames=1,
        image_size=32,
    )
    failed = False
    try:
        for uri in videos:
            line = {"video_uri": redact(uri)}
            try:
                line |= asdict(stage.probe(uri))
            except RequestError as error:
                failed = True
                line |= {"stage": error.kind.stage, "code": error.code, "message": str(error)}
            typer.echo(json.dumps(line))
    finally:
        stage.close()
    raise typer.Exit(3 if failed else 0)


@app.command()
def show(
    output: Output,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 20,
    failures: Annotated[bool, typer.Option("--failures", help="Only what failed.")] = False,
    endpoint_url: Endpoint = None,
) -> None:
    """Show the current state of an output as a table: answers, and failures that stand."""
    from sfray.storage.read_results import current_state

    state = current_state(output, StorageSpec(endpoint_url=endpoint_url))
    if failures:
        import pyarrow.compute as pc

        state = state.filter(pc.is_valid(state["code"]))
    table = Table("video", "prompt", "answer", "reference")
    for row in state.slice(0, limit).to_pylist():
        answer = row["text"] if row["code"] is None else f"{row['code']}: {row['message']}"
        prompt = f"{row['prompt_id']}: {row['prompt']}"
        table.add_row(row["video_id"], prompt, answer, row["reference_answer"] or "")
    Console().print(table)
    if state.num_rows > limit:
        typer.echo(f"{limit} of {state.num_rows} rows; --limit shows more")


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(help="One of: job, requests, answers, failures, codes.")
    ] = None,
) -> None:
    """Print the schema of job files, of result tables, or the table of failure codes, as JSON."""
    from sfray.pipeline.schemas import schema_document, schema_names

    if name is None:
        typer.echo("\n".join(schema_names()))
        return
    typer.echo(json.dumps(schema_document(name), indent=2))


def _log_to_stderr() -> None:
    terminal = sys.stderr.isatty()
    handler: logging.Handler = logging.StreamHandler()
    if terminal:
        handler = RichHandler(console=Console(stderr=True), show_path=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("sfray")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """The entry point: errors become one sentence and an exit code."""
    _log_to_stderr()
    try:
        app(standalone_mode=True)
    except RunError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
