"""An explanation for people: tables, and the sampled frames as one picture."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sfray.commands.explain import Explanation
from sfray.records import DecodedVideo

_COLUMNS = 10
_THUMBNAIL_PIXELS = 160
_CAPTION_PIXELS = 14


def explanation_as_dict(explanation: Explanation) -> dict[str, Any]:
    """The whole of an explanation in JSON's types."""
    values = {
        one.name: getattr(explanation, one.name)
        for one in fields(explanation)
        if one.name != "checkpoint"
    }
    return values | {"spec": explanation.spec and explanation.spec.model_dump(mode="json")}


def print_explanation(explanation: Explanation, console: Console) -> None:
    state = "failed" if "code" in explanation.row else "answered"
    sections: dict[str, dict[str, Any] | None] = {
        f"request, {state}": explanation.row | {"tried alone": explanation.num_lone_attempts},
        "decided by": explanation.decides,
        "versions": explanation.versions,
    }
    for title, values in sections.items():
        if values is None:
            console.print(f"{title}: the run left nothing about it here")
            continue
        table = Table("", "", title=title, title_justify="left", show_header=False)
        for name, value in values.items():
            table.add_row(name, Text(_shown(value)))
        console.print(table)
    for failure in explanation.earlier_failures:
        where = f"run {failure['run_id']}, attempt {failure['attempts']}"
        console.print(Text(f"before, {where}: {failure['code']}: {failure['message']}"))
    if explanation.prompt_as_sent is not None:
        console.print("the prompt as sent:")
        console.print(Text(explanation.prompt_as_sent))
    if explanation.changed_since is not None:
        console.print(
            f"the same job file gives the fingerprint {explanation.changed_since} now: "
            "its template or the model's files have changed since"
        )


def draw_frames(video: DecodedVideo, path: Path) -> None:
    """A PNG of the sampled frames in reading order, each with its index and time."""
    num_rows = -(-len(video.frames_THWC) // _COLUMNS)
    cell = _THUMBNAIL_PIXELS + _CAPTION_PIXELS
    sheet = Image.new("RGB", (_COLUMNS * _THUMBNAIL_PIXELS, num_rows * cell), "white")
    draw = ImageDraw.Draw(sheet)
    frames = zip(video.frames_THWC, video.frame_indices, video.pts_seconds, strict=True)
    for number, (frame_HWC, index, seconds) in enumerate(frames):
        left, top = number % _COLUMNS * _THUMBNAIL_PIXELS, number // _COLUMNS * cell
        small = Image.fromarray(frame_HWC).resize((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
        sheet.paste(small, (left, top + _CAPTION_PIXELS))
        draw.text((left + 2, top + 1), f"{index}  {seconds:.3f} s", fill="black")
    sheet.save(path)


def _shown(value: Any) -> str:
    """Frame times and the like to the millisecond, on one line."""
    if isinstance(value, list):
        return ", ".join(f"{one:.3f}" if isinstance(one, float) else str(one) for one in value)
    return str(value)
