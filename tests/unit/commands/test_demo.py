"""The demonstration without Ray: what it ends with."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from sfray.commands import demo


def test_it_ends_with_the_next_command_and_the_real_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "task": "qa",
        "video_id": "v",
        "prompt": "What?",
        "code": None,
        "choice": None,
        "text": "a",
    }
    monkeypatch.setattr(demo, "connected", lambda address: nullcontext())
    monkeypatch.setattr(demo, "_answer", lambda *_: [row | {"reference_answer": "a"}])
    monkeypatch.setattr(demo, "program_name", lambda: ".venv/bin/sfray")
    screen = io.StringIO()
    demo.run_demo(tmp_path / "my demo", 1, 0, Console(file=screen, width=40))
    assert screen.getvalue().splitlines()[-1] == (
        f"next: .venv/bin/sfray show '{tmp_path}/my demo/qa'"
    )
