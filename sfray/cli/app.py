"""The entry point and the commands on jobs. Wiring only: what they do lives in the rooms below."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sfray import __version__, api
from sfray.cli import evaluation, jobs, outputs, starting
from sfray.cli.options import (
    ROWS_OF_A_TABLE,
    Address,
    AsJson,
    NumRows,
    Output,
    print_json,
    reaches_storage,
)
from sfray.config import StorageSpec, VideosSpec
from sfray.errors import RequestError, RunError
from sfray.redaction import redact_text
from sfray.telemetry.logs import LogFormat, configure_logs, log_format
from sfray.telemetry.terminal import terminal

_LOG_FORMAT = "SFRAY_LOG_FORMAT"
logger = logging.getLogger("sfray")

app = typer.Typer(
    name="sfray",
    help="Captions and answers for large video corpora, with SlowFast-LLaVA on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(starting.app)
app.add_typer(jobs.app)
app.add_typer(outputs.app)
app.add_typer(evaluation.app, name="eval")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sfray {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass  # what an option is for, its callback does


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
        help="One shard: the videos whose identity hashes to i modulo n (0 <= i < n), with a log "
        "of their own below the output; short for --set output.partition=i/n.",
    ),
]


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = None,
    partition: PartitionOption = None,
    limit: Limit = None,
    address: Address = None,
    log: Annotated[
        LogFormat,
        typer.Option(
            "--log-format", envvar=_LOG_FORMAT, help="Lines for people, or a JSON object a line."
        ),
    ] = LogFormat.TEXT,
    as_json: AsJson = False,
) -> None:
    """Run a job until every request is an answer or a failure with a code.

    Idempotent: the same command resumes a run that was stopped. It asks only what has no answer
    yet (rows that were added to the manifest too) and retries transient failures.

    Exit codes: 0 done; 1 unexpected error; 2 bad spec, manifest, credentials or bucket;
    3 done, but more failures than limits.max_failure_ratio; 4 the output is in use by another
    run; 130 and 143 after a clean stop by Ctrl-C and SIGTERM.
    """
    configure_logs(log)
    summary = api.run(
        spec,
        set=overrides or (),
        partition=partition,
        limit=limit,
        address=address,
        console=Console(stderr=True, force_terminal=False) if log == LogFormat.JSON else None,
    )
    if log == LogFormat.JSON:
        logger.info(summary.verdict, extra=summary.as_dict())
    elif not as_json:
        summary.print_to(terminal(stderr=True))
    if as_json:
        print_json(summary.as_dict())
    raise typer.Exit(summary.exit_code)


@app.command()
def plan(
    spec: SpecFile,
    overrides: Overrides = None,
    partition: PartitionOption = None,
    limit: Limit = None,
    measure: Annotated[
        int | None,
        typer.Option(min=1, help="Decode and answer so many random clips, predict the whole."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs to predict for; by default the cluster's.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs to predict for; by default the cluster's.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="A YAML file with cpu_hour, gpu_hour and currency.")
    ] = None,
    cpu_hour: Annotated[float | None, typer.Option(min=0, help="Price of a CPU's hour.")] = None,
    gpu_hour: Annotated[float | None, typer.Option(min=0, help="Price of a GPU's hour.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Dry run: show a job's requests, videos, what is done already, tokens and problems.

    Starts neither Ray nor the model and opens no video, except with --measure: that decodes and
    answers a sample on the cluster, keeps nothing of it, and predicts how long the whole takes and
    what it costs, with 95 % intervals.
    """
    prospects = api.plan(spec, set=overrides or (), partition=partition, limit=limit)
    predicted = None
    if not as_json:
        prospects.print_to(terminal())
    if measure is not None:
        from sfray.commands.forecast import forecast, read_prices

        all_prices = read_prices(prices, cpu_hour, gpu_hour)
        predicted = forecast(prospects, measure, seed, (cpus, gpus), all_prices, address)
        if not as_json:
            predicted.print_to(terminal())
    if as_json:
        print_json(prospects.as_dict() | {"forecast": predicted and predicted.as_dict()})


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where videos and answers go.")] = Path(
        "demo-output"
    ),
    num_videos: Annotated[int, typer.Option(min=1, help="How many sample videos to make.")] = 8,
    seed: Annotated[int, typer.Option(help="The first video's seed.")] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Make sample videos, caption and question them with the demonstration model, show scores.

    The demonstration model knows a toy world only: coloured shapes that move. One line of a job
    file, `model: {id: llava-hf/llava-v1.6-vicuna-7b-hf}`, switches to a real one.
    """
    from sfray.commands.demo import run_demo

    rows = run_demo(output, num_videos, seed, terminal(stderr=as_json))
    if as_json:
        print_json(rows)


@app.command()
@reaches_storage
def probe(
    videos: Annotated[list[str], typer.Argument(help="Files or URIs.")],
    allow_http: Annotated[bool, typer.Option(help="Allow http:// URIs too.")] = False,
    *,
    storage: StorageSpec,
) -> None:
    """Print the facts of videos, one JSON line each; a video without facts has its failure."""
    from dataclasses import asdict

    from sfray.redaction import redact
    from sfray.stages.decode_video import DecodeConfig, DecodeVideo

    schemes: dict[str, list[str]] = {}
    if allow_http:
        schemes = {"allowed_schemes": ["file", "s3", "gs", "https", "http"]}
    config = DecodeConfig(
        videos=VideosSpec.model_validate(schemes),
        storage=storage,
        num_frames=1,
        image_size=32,
    )
    stage = DecodeVideo(config)
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
@reaches_storage
def show(
    output: Output,
    limit: NumRows = None,
    failures: Annotated[bool, typer.Option("--failures", help="Only what failed.")] = False,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Show the current state of an output as a table: answers, and failures that stand."""
    import pyarrow.compute as pc

    from sfray.results.counts import count_requests, requested_ids
    from sfray.results.read import current_state

    columns = (
        *("request_id", "video_id", "start_seconds", "end_seconds", "prompt_id", "prompt", "text"),
        *("choice", "code", "message", "reference_answer"),
    )
    requested = None if as_json else requested_ids(output, storage)
    everything = state = current_state(output, storage, columns)
    if failures:
        state = state.filter(pc.is_valid(state["code"]))
    if requested is None:
        print_json(state.slice(0, limit).to_pylist())
        return
    num_shown = limit or ROWS_OF_A_TABLE
    table = Table("video", "prompt", "answer", "reference")
    for row in state.slice(0, num_shown).to_pylist():
        answer = row["text"] if row["code"] is None else f"{row['code']}: {row['message']}"
        prompt = f"{row['prompt_id']}: {row['prompt']}"
        table.add_row(row["video_id"], prompt, answer, row["reference_answer"] or "")
    terminal().print(table)
    if state.num_rows > num_shown:
        typer.echo(f"{num_shown} of {state.num_rows} rows; --limit shows more")
    typer.echo(str(count_requests(requested, everything)))


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(help="One of: job, requests, answers, failures, codes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the schema of job files, of result tables, or the table of failure codes, as JSON."""
    from sfray.commands.schemas import schema_document, schema_names

    if name is not None:
        print_json(schema_document(name))
    elif as_json:
        print_json(schema_names())
    else:
        typer.echo("\n".join(schema_names()))


def _format_of_environment() -> LogFormat:
    """For errors before the options are read; `run` refuses what is no format."""
    wanted = os.environ.get(_LOG_FORMAT)
    return LogFormat.JSON if wanted == LogFormat.JSON else LogFormat.TEXT


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """The entry point: errors become one sentence and an exit code."""
    configure_logs(_format_of_environment())
    # What is open is closed on the way out, an output's lease given back.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except RunError as error:
        if log_format() == LogFormat.JSON:
            logger.error("%s", error, extra={"exit_code": error.exit_code})
        else:
            # Whatever a message quotes: a job file's text may hold a signed address anywhere.
            typer.echo(f"error: {redact_text(str(error))}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
