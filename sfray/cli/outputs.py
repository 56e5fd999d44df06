"""Commands on outputs that exist: proof, retries, copies, comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sfray.config import StorageSpec
from sfray.telemetry.terminal import terminal

app = typer.Typer()

Endpoint = Annotated[str | None, typer.Option(help="The S3 endpoint, where it isn't AWS.")]
Output = Annotated[str, typer.Argument(help="The output of a job: a folder or an s3:// prefix.")]


@app.command()
def verify(
    output: Output,
    manifest: Annotated[
        str | None,
        typer.Option(metavar="SPEC.yaml", help="Compare with what this job file asks for now."),
    ] = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Prove that an output is complete and intact; exit code 0 only then.

    Every request that the runs were asked is one answer or one failure, nothing is there twice,
    every part is readable, of the schema and with its digest, and none is missing.
    """
    from sfray.results.verify import verify as verify_output

    storage = StorageSpec(endpoint_url=endpoint_url)
    wanted = None
    if manifest is not None:
        from sfray.planning.job_file import load_job
        from sfray.planning.plan import make_plan
        from sfray.planning.windows import asked_ids

        wanted = asked_ids(make_plan(load_job(manifest)), output, storage)
    report = verify_output(output, storage, wanted)
    typer.echo(
        f"{report.num_requested} requests, {report.num_answered} answers, "
        f"{report.num_failed} failures, {report.num_open} to do"
    )
    for problem in report.problems:
        typer.echo(f"problem: {problem}")
    typer.echo("complete" if report.ok else "NOT complete")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def retry(
    output: Output,
    code: Annotated[
        list[str] | None, typer.Option(help="Only failures with this code; repeatable.")
    ] = None,
    transient: Annotated[
        bool, typer.Option("--transient", help="Only failures that can pass by themselves.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster; by default the one at hand.")
    ] = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Retry failed requests, permanent failures too, with the job file of the last run."""
    from sfray.commands.retry import retry_output

    storage = StorageSpec(endpoint_url=endpoint_url)
    summary = retry_output(output, storage, tuple(code or ()), transient, address)
    summary.print_to(terminal(stderr=True))
    raise typer.Exit(summary.exit_code)


@app.command()
def compact(
    output: Output,
    to: Annotated[str, typer.Option(help="Where the copy goes: a folder or an s3:// prefix.")],
    endpoint_url: Endpoint = None,
) -> None:
    """Merge an output's small files into a copy of few large ones, verified and resumable.

    The copy has the newest format: columns that the output of an older version lacks are added.
    """
    from sfray.results.compact import compact as compact_output

    report = compact_output(output, to, StorageSpec(endpoint_url=endpoint_url))
    typer.echo(f"{report.num_copied} rows copied to {to}, verified")
    if report.older_than_now is not None:
        typer.echo(report.older_than_now)


@app.command()
def diff(
    output: Output,
    before: Annotated[str, typer.Argument(help="A fingerprint, or its beginning.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 20,
    endpoint_url: Endpoint = None,
) -> None:
    """Compare two fingerprints (prompts, models, settings): what they answered differently."""
    import pyarrow.compute as pc

    from sfray.results.diff import diff as diff_output

    found = diff_output(output, StorageSpec(endpoint_url=endpoint_url), before, after)
    table = Table("video", "prompt", "change", before, after)
    changed = found.rows.filter(pc.not_equal(found.rows["change"], "same"))
    for row in changed.slice(0, limit).to_pylist():
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
def explain(
    output: Output,
    request_id: Annotated[str, typer.Argument(help="A request's id, or its beginning.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    thumbnails: Annotated[
        Path | None, typer.Option(help="Decode again and draw the sampled frames into this PNG.")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Decode and answer again, and compare.")
    ] = False,
    endpoint_url: Endpoint = None,
) -> None:
    """Show everything that decided one row: model, prompt as sent, frames, reader, versions.

    With --replay the exit code is 0 only if frames, tokens and text are the same again.
    """
    from sfray.commands import explain as explaining
    from sfray.commands.explain_report import draw_frames, explanation_as_dict, print_explanation

    explanation = explaining.explain(output, StorageSpec(endpoint_url=endpoint_url), request_id)
    if as_json:
        typer.echo(json.dumps(explanation_as_dict(explanation), indent=2, default=str))
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
