"""Commands on a Ray cluster elsewhere: send a job, look at it, follow it, stop it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfray.cli.options import AsJson, print_json
from sfray.errors import SpecError

if TYPE_CHECKING:
    from sfray.submission.job_api import JobServer, JobState

app = typer.Typer()

Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        help="The address of the cluster's dashboard, such as http://head:8265.",
    ),
]
SubmissionId = Annotated[str, typer.Argument(metavar="ID", help="What `sfray submit` printed.")]


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The job file.")],
    address: Address = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Overrides a key of the job file; repeatable."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many requests.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Write the job's log until it ends.")
    ] = False,
    shared_paths: Annotated[
        bool,
        typer.Option(
            "--shared-paths",
            help="Local paths of the job hold on every node; relative ones are below this folder.",
        ),
    ] = False,
    ship: Annotated[
        bool, typer.Option(help="Send this machine's sfray along; else the nodes have one.")
    ] = True,
    pip: Annotated[
        bool, typer.Option("--pip", help="Have Ray install what sfray needs on the nodes.")
    ] = False,
) -> None:
    """Check a job and send it to a Ray cluster; print its submission id.

    A template and a small local manifest travel with the job; keys and tokens don't: storage is
    reached with what the nodes have. With RAY_AUTH_MODE=token, Ray's token is used.

    With --follow the exit code is the job's, as of `sfray run`; Ctrl-C ends the following only.
    """
    from sfray.planning.job_file import load_job

    job = load_job(spec, tuple(overrides or ()))
    from sfray.submission.shipment import pack

    shipment = pack(job, shared_paths=shared_paths)
    server = _connect(address)
    submission_id = server.submit(shipment, limit=limit, ship=ship, pip=pip)
    typer.echo(submission_id)
    if follow:
        _follow(server, submission_id)


@app.command()
def status(submission_id: SubmissionId, address: Address = None, as_json: AsJson = False) -> None:
    """Show how a submitted job stands."""
    _show_state(_connect(address).state(submission_id), as_json)


@app.command()
def logs(
    submission_id: SubmissionId,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends; exit with its exit code.")
    ] = False,
) -> None:
    """Print what a submitted job has written."""
    server = _connect(address)
    if follow:
        _follow(server, submission_id)
    typer.echo(server.logs(submission_id), nl=False)


@app.command()
def stop(submission_id: SubmissionId, address: Address = None, as_json: AsJson = False) -> None:
    """Stop a submitted job cleanly: it writes what it holds, and submitted again it resumes."""
    _show_state(_connect(address).stop(submission_id), as_json)


def _connect(address: str | None) -> JobServer:
    if address is None:
        raise SpecError(
            "no cluster is named: give --address, such as http://head:8265, or set "
            "RAY_API_SERVER_ADDRESS"
        )
    from sfray.submission.job_api import JobServer

    return JobServer(address)


def _follow(server: JobServer, submission_id: str) -> None:
    try:
        state = server.follow(submission_id, _write)
    except KeyboardInterrupt:
        typer.echo(
            f"the job goes on; `sfray stop {submission_id} --address {server.address}` ends it",
            err=True,
        )
        raise
    _print_state(state, err=True)
    raise typer.Exit(state.exit_code or 0)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _show_state(state: JobState, as_json: bool) -> None:
    if as_json:
        print_json(asdict(state))
    else:
        _print_state(state)


def _print_state(state: JobState, *, err: bool = False) -> None:
    lines = {"job": state.submission_id, "status": state.status}
    if state.exit_code is not None:
        lines["exit code"] = str(state.exit_code)
    for name, moment in (("started", state.started), ("ended", state.ended)):
        if moment is not None:
            lines[name] = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    if state.message:
        lines["message"] = state.message
    if "output" in state.metadata:
        lines["output"] = state.metadata["output"]
    if state.reason:
        lines["reason"] = state.reason
    for name, value in lines.items():
        typer.echo(f"{name}: {value}", err=err)
