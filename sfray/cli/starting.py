"""Commands before the first job: its manifest, its job file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.prompt import Prompt

from sfray.cli.options import reaches_storage
from sfray.config import StorageSpec, Task
from sfray.process import as_options, program_name
from sfray.redaction import redact
from sfray.telemetry.terminal import terminal

app = typer.Typer()

Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


@app.command()
@reaches_storage
def manifest(
    prefix: Annotated[
        str,
        typer.Argument(help="A local folder, or an s3:// or gs:// prefix, searched in depth."),
    ],
    output: Annotated[str, typer.Option(help="The manifest to write: .parquet or .csv.")],
    extension: Annotated[
        list[str] | None,
        typer.Option(help="Only files that end so, in place of what is usual; repeatable."),
    ] = None,
    by_content: Annotated[
        bool,
        typer.Option(
            "--by-content",
            help="Take what begins as a video, whatever it is called: one small read a file, on "
            "S3 one GET request each, besides one request for 1000 names.",
        ),
    ] = False,
    force: Force = False,
    *,
    storage: StorageSpec,
) -> None:
    """Make a manifest of the videos below a folder or prefix, with their sizes and ETags.

    Sizes and ETags are columns of it: `passthrough: [size_bytes, etag]` takes them along.
    """
    from sfray.commands.make_manifest import VideosFound, make_manifest

    with terminal(stderr=True).status("listing") as status:

        def show(found: VideosFound) -> None:
            status.update(f"{found.num_videos} videos")

        found = make_manifest(
            prefix,
            output,
            storage,
            extensions=extension,
            by_content=by_content,
            force=force,
            show=show,
        )
    typer.echo(f"{output}: {found.num_videos} videos, {found.num_bytes} bytes")
    options = ["--manifest", output, *as_options(storage.model_dump(exclude_unset=True))]
    command = shlex.join(["init", "job.yaml", "--task", "caption", *map(redact, options)])
    typer.echo(f"next: {program_name()} {command}")


@app.command()
@reaches_storage
def init(
    job_file: Annotated[
        Path, typer.Argument(metavar="JOB.yaml", help="The job file to write.")
    ] = Path("job.yaml"),
    task: Annotated[
        Task | None, typer.Option(help="What is asked of the videos; by default caption.")
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="Where the manifest is; by default manifest.parquet.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A hub id, a folder, here or on S3; by default LLaVA-1.6 7B. `demo` answers on "
            "any machine, but knows a toy world of coloured shapes only."
        ),
    ] = None,
    output_uri: Annotated[
        str | None, typer.Option(help="Where results go; by default the folder output.")
    ] = None,
    force: Force = False,
    *,
    storage: StorageSpec,
) -> None:
    """Write a commented job file: every key, with its default.

    Asks for what isn't given when it is on a terminal. Storage options go into the file.
    """
    from sfray.commands.init_job import DEFAULT_MODEL, check_new, write_job_file

    if not force:
        check_new(job_file)
    write_job_file(
        job_file,
        task=task or _asked("What is asked of the videos", "caption", get_args(Task)),
        manifest=manifest or _asked("Where is the manifest", "manifest.parquet"),
        model=model or _asked("Which model answers", DEFAULT_MODEL),
        output=output_uri or _asked("Where do results go", "output"),
        storage=storage,
        force=force,
    )
    typer.echo(f"{job_file} is written; next: sfray plan {shlex.quote(str(job_file))}")


def _asked(question: str, default: str, choices: Sequence[str] | None = None) -> str:
    """The answer on a terminal, else the default."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return default
    names = None if choices is None else list(choices)
    return Prompt.ask(question, default=default, choices=names, console=terminal())
