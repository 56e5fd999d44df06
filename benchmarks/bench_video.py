"""What reading videos costs: time and memory, bytes fetched from S3, throughput of a whole job.

    python -m benchmarks.bench_video [--part PART] [--only NAME] [--folder VIDEOS]
        [--results FOLDER]

A row replaces that of the same name in the day's results.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.processor import processor

PARTS = {
    "reading": "Reading 50 frames",
    "fetching": "Fetching from S3",
    "stage": "A whole job against a bare loop",
}


def module_of(part: str) -> ModuleType:
    """What measures a part, loaded when it does: the processes of one need no other's libraries."""
    return import_module(f"benchmarks.video_{part}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--only", default="")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/sfray-bench-videos"))  # noqa: S108
    parser.add_argument("--results", type=Path)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    path = told.results / f"{day}-video.json" if told.results else None
    rows: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    if path and path.exists():
        rows |= json.loads(path.read_text())["rows"]
    for part in told.part or PARTS:
        for row in module_of(part).measure(told.folder, told.only):
            rows[part][row["name"]] = row
            print(json.dumps(row), flush=True)
            if path:
                save(rows, path, day)
    print(text_of(rows))


def save(rows: dict[str, dict[str, Any]], path: Path, day: str) -> None:
    """The tables as JSON and Markdown, with where they come from."""
    about = {"date": day, "processor": processor(), "command": "python -m benchmarks.bench_video"}
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    path.with_suffix(".md").write_text(
        f"# Reading videos\n\n{about['processor']}, {day}; `{about['command']}`.\n{text_of(rows)}"
    )


def text_of(rows: dict[str, dict[str, Any]]) -> str:
    return "".join(
        f"\n## {title}\n\n{module_of(part).report(list(rows[part].values()))}"
        for part, title in PARTS.items()
        if rows[part]
    )


if __name__ == "__main__":
    main()
