"""What several commands take, said once."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sfray.config import StorageSpec, load_storage_spec

Output = Annotated[str, typer.Argument(help="The output of a job: a folder or an s3:// prefix.")]
Address = Annotated[
    str | None, typer.Option(help="A Ray cluster; by default the one at hand, else a local one.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]

NumRows = Annotated[
    int | None, typer.Option(min=1, help="How many rows; by default 20 in a table, all in JSON.")
]
ROWS_OF_A_TABLE = 20

# By the keys of a job file's `storage` section.
STORAGE_OPTIONS: dict[str, Any] = {
    "endpoint_url": Annotated[
        str | None, typer.Option(help="The S3 endpoint, where it isn't AWS.")
    ],
    "profile": Annotated[str | None, typer.Option(help="A profile of the AWS files.")],
    "region": Annotated[str | None, typer.Option(help="The region of the bucket.")],
    "anonymous": Annotated[bool | None, typer.Option(help="Reach the storage without keys.")],
}
_STORAGE_FROM = Annotated[
    Path | None,
    typer.Option(
        metavar="JOB.yaml",
        help="Reach the storage as this job file's `storage` section says; the options above go "
        "before it.",
    ),
]


def reaches_storage(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one group of storage options in place of its parameter `storage`.

    The `StorageSpec` that it is called with holds as set only what was given, so that it can go
    before what a job file says (`StorageSpec.over`).
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "storage"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in (*STORAGE_OPTIONS.items(), ("storage_from", _STORAGE_FROM))
    ]

    @functools.wraps(command)
    def with_options(storage_from: Path | None, **values: Any) -> None:
        options = {name: values.pop(name) for name in STORAGE_OPTIONS}
        storage = StorageSpec(**{k: v for k, v in options.items() if v is not None})
        if storage_from is not None:
            storage = storage.over(load_storage_spec(storage_from))
        command(**values, storage=storage)

    parameters = [*own, *added]
    # Typer reads both.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def print_json(document: Any) -> None:
    """Writes one JSON document to standard output; numbers that JSON doesn't have are null."""
    typer.echo(json.dumps(_finite(document), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
