"""`sfray init`: a job file in which every key stands, those at their default commented out."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import yaml
from pydantic import BaseModel

from sfray.config import JobSpec, PromptSpec, StorageSpec, parse_job_spec
from sfray.demo.questions import CAPTION_PROMPT
from sfray.errors import SpecError, StorageError
from sfray.model.presets import DEMO
from sfray.storage.faults import storage_faults

# Not `demo`: it answers on any machine, but real videos with coloured shapes, and no row fails.
DEFAULT_MODEL = "llava-hf/llava-v1.6-vicuna-7b-hf"

_HEAD = """\
# A job of sfray: `sfray plan` says what it would do, `sfray run` does it.
# A key behind a # has its default; take the # away to change it. Texts stand in double quotes, so
# that no comma, colon or question mark in one is taken for YAML."""
_QUESTIONS = "The questions of this task come from the manifest: columns question_id, question"
# What no class says.
_NOTES = {
    "name": "What tables, logs and metrics call the job.",
    "template": "How a prompt is put to the model: built-in, or a text file that is all of it.",
}
_CAPTION_PROMPT = "Describe this video in detail."


def write_job_file(
    path: Path,
    *,
    task: str,
    manifest: str,
    model: str,
    output: str,
    storage: StorageSpec,
    force: bool,
) -> None:
    """Writes a job file that has these values, and all others at their default.

    Raises:
        SpecError: a value is none, or the file is there and `force` isn't given.
        StorageError: it can't be written.
    """
    text = job_file(task, manifest, model, output, storage)
    with storage_faults(StorageError, f"the job file {path} can't be written"):
        try:
            with path.open("w" if force else "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise _is_there(path) from error


def check_new(path: Path) -> None:
    """Raises `SpecError` if the file is there, `StorageError` if none can be."""
    with storage_faults(StorageError, f"the job file {path} can't be written"):
        is_there = path.exists()
    if is_there:
        raise _is_there(path)


def _is_there(path: Path) -> SpecError:
    return SpecError(f"{path} is there already: --force writes over it")


def job_file(task: str, manifest: str, model: str, output: str, storage: StorageSpec) -> str:
    """The text of a job file.

    Raises:
        SpecError: a value is none that a job may have.
    """
    given: dict[str, Any] = {
        "manifest": {"uri": manifest},
        "task": task,
        "model": {"id": model},
        "output": {"uri": output},
    }
    if task == "caption":
        text = CAPTION_PROMPT if model == DEMO else _CAPTION_PROMPT  # all that the demo model knows
        given["prompts"] = [{"prompt_id": "caption", "text": text}]
    if reached := storage.model_dump(exclude_unset=True):
        given["storage"] = reached
    values = parse_job_spec(given).model_dump(mode="json")
    parts = [_HEAD]
    for name in JobSpec.model_fields:
        lines = [*_explained(name, task), *_key(JobSpec, name, values, given)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _explained(name: str, task: str) -> Iterator[str]:
    """What a section's class says of it, as comments."""
    if name == "prompts" and task != "caption":
        with_options = ", options" if task == "multiple_choice" else ""
        yield f"# {_QUESTIONS}{with_options}, answer."
        return
    kind = PromptSpec if name == "prompts" else JobSpec.model_fields[name].annotation
    text = inspect.getdoc(kind) if _is_section(kind) else _NOTES.get(name)
    yield from _as_comment(text)


def _as_comment(text: str | None) -> Iterator[str]:
    # What is None here is null in the file.
    for line in re.sub(r"\bNone\b", "null", text or "").splitlines():
        yield f"# {line}".rstrip()


def _key(
    section: type[BaseModel], name: str, values: dict[str, Any], given: dict[str, Any]
) -> list[str]:
    """The lines of one key and all below it; behind a # unless it is given."""
    kind, value = section.model_fields[name].annotation, values[name]
    if _is_section(kind):
        below = given.get(name, value)
        inner = [line for key in kind.model_fields for line in _key(kind, key, value, below)]
        lines = [f"{name}:", *(f"  {line}" for line in inner)]
    else:
        first, *rest = _block(name, value)
        note = _allowed(kind)
        lines = [f"{first}  # {note}" if note else first, *rest]
        if section is not JobSpec:
            lines = [*_as_comment(section.model_fields[name].description), *lines]
    if name in given:
        return lines
    return [line if line.startswith("# ") else f"#{line}" for line in lines]


def _block(name: str, value: Any) -> list[str]:
    """A key and its value in block style."""
    if not (value and isinstance(value, list)):
        return [f"{name}: {_scalar(value)}"]
    lines = [f"{name}:"]
    for item in value:
        if isinstance(item, dict):
            first, *rest = (line for key, one in item.items() for line in _block(key, one))
            lines += [f"  - {first}", *(f"    {line}" for line in rest)]
        else:
            lines.append(f"  - {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        quoted: str = yaml.safe_dump(
            value, default_style='"', allow_unicode=True, width=float("inf")
        )
        return quoted.strip()
    return json.dumps(value)


def _allowed(kind: Any) -> str:
    """The values that a key may have where they can be listed, or the keys of a section that may
    stand in place of null."""
    names = _choices(kind)
    if names and all(isinstance(name, str) for name in names):
        return " | ".join(names)
    options = get_args(kind)
    for option in options:
        if _is_section(option) and type(None) in options:
            return f"or a section of: {', '.join(option.model_fields)}"
    return ""


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a literal, or of one beside None."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    options = [option for option in get_args(kind) if option is not type(None)]
    if len(options) == 1 and len(get_args(kind)) == 2:
        return _choices(options[0])
    return ()


def _is_section(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
