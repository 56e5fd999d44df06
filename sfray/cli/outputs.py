"""Commands on outputs that exist: proof, retries, copies, comparisons."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sfray import api
from sfray.cli.options import (
    ROWS_OF_A_TABLE,
    Address,
    AsJson,
    NumRows,
    Output,
    print_json,
    reaches_storage,
)
from sfray.config import StorageSpec
from sfray.telemetry.terminal import terminal

app = typer.Typer()


@app.command()
@reaches_storage
def verify(
    output: Output,
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="JOB.yaml",
            help="Compare with what this job file asks for now; its storage section holds too.",
        ),
    ] = None,
    # The first name of --spec.
    manifest: Annotated[Path | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Prove that an output is complete and intact; exit code 0 only then.

    Every request that the runs were asked is one answer or one failure, nothing is there twice,
    every part is readable, of the schema and with its digest, and none is missing.
    """
    job = None
    if (file := spec or manifest) is not None:
        job = api.job(file)
        storage = storage.over(job.storage)
    report = api.verify(output, spec=job, storage=storage)
    if as_json:
        print_json(asdict(report) | {"complete": report.ok})
    else:
        typer.echo(
            f"{report.num_requested} requests, {report.num_answered} answers, "
            f"{report.num_failed} failures, {report.num_open} to do"
        )
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        typer.echo("complete" if report.ok else "NOT complete")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
@reaches_storage
def retry(
    output: Output,
    code: Annotated[
        list[str] | None, typer.Option(help="Only failures with this code; repeatable.")
    ] = None,
    transient: Annotated[
        bool, typer.Option("--transient", help="Only failures that can pass by themselves.")
    ] = False,
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="JOB.yaml",
            help="Take this job file in place of the last run's: with other resources, limits or "
            "decode settings, but asking the same.",
        ),
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Retry failed requests, permanent failures too, with the job file of the last run."""
    summary = api.retry(
        output,
        code=code or (),
        transient=transient,
        spec=spec,
        address=address,
        storage=storage,
    )
    if as_json:
        print_json(summary.as_dict())
    else:
        summary.print_to(terminal(stderr=True))
    raise typer.Exit(summary.exit_code)


@app.command()
@reaches_storage
def compact(
    output: Output,
    to: Annotated[str, typer.Option(help="Where the copy goes: a folder or an s3:// prefix.")],
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Merge an output's small files into a copy of few large ones, verified and resumable.

    The copy has the newest format: columns that the output of an older version lacks are added.
    """
    from sfray.results.compact import compact as compact_output

    report = compact_output(output, to, storage)
    if as_json:
        print_json(asdict(report) | {"output": to})
        return
    typer.echo(f"{report.num_copied} rows copied to {to}, verified")
    if report.older_than_now is not None:
        typer.echo(report.older_than_now)


@app.command()
@reaches_storage
def diff(
    output: Output,
    before: Annotated[str, typer.Argument(help="A fingerprint, or its beginning.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    limit: NumRows = None,
    as_json: AsJson = False,
    *,
    storage: StorageSpec,
) -> None:
    """Compare two fingerprints (prompts, models, settings): what they answered differently."""
    import pyarrow.compute as pc

    from sfray.results.diff import diff as diff_output

    found = diff_output(output, storage, before, after)
    changed = found.rows.filter(pc.not_equal(found.rows["change"], "same"))
    if as_json:
        print_json(changed.slice(0, limit).to_pylist())
        return
    table = Table("video", "prompt", "change", before, after)
    for row in changed.slice(0, limit or ROWS_OF_A_TABLE).to_pylist():
        said = [row[f"{name}_{side}"] for side in ("before", "after") for name in ("text", "code")]
        table.add_row(
            row["video_id"],
            row["prompt_id"],
            row["change"],
            said[0] or said[1] or "",
            said[2] or said[3] or "",
        )
    terminal().print(table)
    typer.echo(", ".join(f"{number} {change}" for change, number in found.counts.items()))


@app.command()
@reaches_storage
def explain(
    output: Output,
    request_id: Annotated[str, typer.Argument(help="A request's id, or its beginning.")],
    as_json: AsJson = False,
    thumbnails: Annotated[
        Path | None, typer.Option(help="Decode again and draw the sampled frames into this PNG.")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Decode and answer again, and compare.")
    ] = False,
    *,
    storage: StorageSpec,
) -> None:
    """Show everything that decided one row: model, prompt as sent, frames, reader, versions.

    With --replay the exit code is 0 only if frames, tokens and text are the same again.
    """
    from sfray.commands import explain as explaining
    from sfray.commands.explain_report import draw_frames, explanation_as_dict, print_explanation

    explanation = explaining.explain(output, storage, request_id)
    if as_json:
        print_json(explanation_as_dict(explanation))
    else:
        print_explanation(explanation, terminal())
    if thumbnails is None and not replay:
        return
    decoded = explaining.decode_again(explanation)
    if thumbnails is not None and decoded.video is not None:
        draw_frames(decoded.video, thumbnails)
        typer.echo(f"frames: {thumbnails}", err=True)
    if decoded.failure is not None:
        typer.echo(f"no frames: {decoded.failure.code}: {decoded.failure.message}", err=True)
    if replay:
        different = explaining.replay(explanation, decoded)
        for name, (logged, now) in different.items():
            typer.echo(f"{name} differs: {logged!r} was logged, now it is {now!r}", err=True)
        typer.echo("replayed: " + ("DIFFERENT" if different else "the same"), err=True)
        raise typer.Exit(1 if different else 0)
