from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from sfray.runs.summary import RunSummary, _next_commands
from tests.unit.planning.test_plan import job


def printed(**values: object) -> str:
    blank: dict[str, object] = {field.name: 0 for field in fields(RunSummary)}
    blank |= {"job": "nightly", "run_id": "r", "output": "out", "failures_by_code": {}}
    blank |= {"bottleneck": None, "stopped_by": None, "seconds_to_first": None}
    blank |= {"next_commands": ()}
    console = Console(file=io.StringIO(), width=100)
    RunSummary(**(blank | values)).print_to(console)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_summary_tells_where_the_time_went() -> None:
    told = printed(
        seconds=3700.0,
        seconds_to_first=21.0,
        fetch_seconds=5.0,
        decode_seconds=65.0,
        model_busy_seconds=3600.0,
    )
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in told.splitlines()
        if line.startswith("│")
    ]
    assert dict(rows) | {
        "time": "1:01:40",
        "until the first outcome": "0:00:21",
        "decode workers fetching": "0:00:05",
        "decode workers decoding": "0:01:05",
        "model replicas answering": "1:00:00",
    } == dict(rows)


def test_a_run_with_nothing_to_do_spends_no_time_on_stages() -> None:
    assert "decode workers" not in printed()


def test_it_ends_with_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfray.runs.summary.program_name", lambda: "sfray")
    spec = job(tmp_path, output={"uri": "my out", "partition": "1/2"})
    place = "'my out/partition-00001-of-00002'"
    assert _next_commands(spec, num_failed=0) == (f"sfray show {place}",)
    told = printed(next_commands=_next_commands(spec, num_failed=1)).splitlines()
    assert told[-3:] == [
        f"next: sfray show {place}",
        f"next: sfray show {place} --failures",
        f"next: sfray retry {place}",
    ]
    spec = job(tmp_path, storage={"endpoint_url": "http://u:secret@here:9000"})
    (command,) = _next_commands(spec, num_failed=0)
    assert command.endswith("out --endpoint-url http://here:9000")
    spec = job(tmp_path, storage={"profile": "p 1", "region": "r", "anonymous": True})
    (command,) = _next_commands(spec, num_failed=0)
    assert command.endswith("out --profile 'p 1' --region r --anonymous")
