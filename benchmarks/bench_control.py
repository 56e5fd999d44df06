"""What the machinery around the stages costs: jobs without pixels or a model.

    python -m benchmarks.bench_control [--row REQUESTS] [--folder FOLDER] [--results FOLDER]
        [--written] [--note WORDS]

A row is a job of so many videos with one caption each, in steps, each in a process of its own:
99 % of a new job, the rest, once more when there is nothing left to do, `sfray verify` of it all,
and the plan of one of a thousand partitions, which reads the whole manifest and keeps little of
it. With `--written` a new job runs for one minute only, which tells its pace and its driver's
memory, and the first 99 % are then written to the log without Ray, in minutes where running them
takes an hour: what such a row says of resuming is the same. Times are of the wall, processor
seconds are the driver's own. A row replaces that of the same size in the results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.instant_stages import CAPTION_TEXT, InstantStages
from benchmarks.processor import processor
from sfray.columns import outcomes_schema
from sfray.config import JobSpec, parse_job_spec
from sfray.planning.plan import make_plan
from sfray.results.compact import PART_ROWS
from sfray.results.log import ResultsLog
from sfray.results.verify import verify
from sfray.runs.run import run_job

SIZES = (10_000, 100_000, 1_000_000)
BEGUN_SECONDS = 60.0
NUM_PARTITIONS = 1000
PROMPT = "Describe what the camera of {source} shows in this clip, in one or two sentences."
DONE_SHARE = 0.99


def write_manifest(path: Path, num_videos: int) -> None:
    """One row a video, names as long as those of real corpora."""
    names = [f"clips/2026/{n % 1000:03d}/{n:010d}.mp4" for n in range(num_videos)]
    sources = [f"camera {n % 100}" for n in range(num_videos)]
    pq.write_table(pa.table({"video_uri": names, "source": sources}), path)


def job(folder: Path, **output: str) -> JobSpec:
    return parse_job_spec(
        {
            "name": "control",
            "manifest": {"uri": str(folder / "manifest.parquet"), "passthrough": ["source"]},
            "task": "caption",
            "prompts": [{"prompt_id": "caption", "text": PROMPT}],
            "model": {"id": "demo"},
            "output": {"uri": str(folder / "output")} | output,
        }
    )


# The steps of a row: each does its part in this process and tells what came of it.


def run_first(folder: Path) -> dict[str, float]:
    """Most of a new job."""
    num_requests = pq.read_metadata(folder / "manifest.parquet").num_rows
    return _run(folder, job(folder), round(num_requests * DONE_SHARE))


def run_begun(folder: Path) -> dict[str, float]:
    """A new job of all requests, stopped some time after its first video."""

    def stop() -> None:
        while not (folder / "first-call").exists():
            time.sleep(1)
        time.sleep(BEGUN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    told = _run(folder, job(folder, uri=str(folder / "begun")), None)
    shutil.rmtree(folder / "begun")
    return told


def write_first(folder: Path) -> dict[str, float]:
    """The same share of answers, of the same size, written to the log by this process."""
    spec = job(folder)
    num_requests = pq.read_metadata(folder / "manifest.parquet").num_rows
    plan = make_plan(spec, round(num_requests * DONE_SHARE))
    passthrough, table = plan.requests.passthrough, plan.requests.table
    schema = outcomes_schema(passthrough)
    same = {
        "text": CAPTION_TEXT,
        "finish_reason": "stop",
        "token_ids": list(range(40)),
        "model_id": plan.run.model_id,
        "run_id": plan.run.run_id,
        "attempts": 1,
        "frame_indices": [0, 1],
        "frame_pts_seconds": [0.0, 0.1],
    }
    with ResultsLog.open(
        spec.output.uri,
        spec.storage,
        passthrough=passthrough,
        run_id=plan.run.run_id,
        flush_rows=spec.output.flush_rows,
        flush_seconds=spec.output.flush_seconds,
    ) as log:
        log.write_run_file(plan.run.run_id, "requests.parquet", table.drop_columns("fetch_uri"))
        for low in range(0, table.num_rows, spec.output.flush_rows):
            rows = table.slice(low, spec.output.flush_rows)
            columns = [
                rows[f.name]
                if f.name in rows.column_names
                else pa.repeat(pa.scalar(same.get(f.name), f.type), rows.num_rows)
                for f in schema
            ]
            log.append(pa.table(columns, schema=schema))
    return {"requests": 0}


def run_again(folder: Path) -> dict[str, float]:
    """What is left of the job."""
    return _run(folder, job(folder), None)


def prove(folder: Path) -> dict[str, float]:
    """Reads the output back."""
    spec = job(folder)
    report = verify(spec.output.uri, spec.storage)
    if not report.ok:
        raise SystemExit("; ".join(report.problems))
    return {"requests": report.num_answered}


def plan_partition(folder: Path) -> dict[str, float]:
    """The plan of one of many partitions."""
    planned = make_plan(job(folder, partition=f"0/{NUM_PARTITIONS}"))
    return {"requests": planned.num_requests}


def _run(folder: Path, spec: JobSpec, limit: int | None) -> dict[str, float]:
    first_call = folder / "first-call"
    first_call.unlink(missing_ok=True)
    began = time.time()
    stages = InstantStages(first_call).stages()
    summary = run_job(spec, limit=limit, address="local", stages=stages)
    if summary.exit_code and summary.stopped_by is None:
        raise SystemExit(f"the run ended with exit code {summary.exit_code}")
    first = float(first_call.read_text()) - began if first_call.exists() else time.time() - began
    return {"requests": summary.num_answers, "seconds_to_first_video": first}


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    "first": run_first,
    "begun": run_begun,
    "written": write_first,
    "resume": run_again,
    "nothing": run_again,
    "verify": prove,
    "partition": plan_partition,
}


def measure_here(step: str, folder: Path) -> dict[str, float]:
    """One step in this process, imports not counted in its times."""
    began, used = time.perf_counter(), time.process_time()
    told = STEPS[step](folder)
    return told | {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measure(step: str, folder: Path) -> dict[str, float]:
    """One step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_control", "--measure", step, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_row(num_requests: int, folder: Path, *, written: bool) -> dict[str, Any]:
    """All steps of a job of so many requests, and what they leave behind."""
    place = folder / f"control-{num_requests}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    write_manifest(place / "manifest.parquet", num_requests)
    load_before = os.getloadavg()[0]
    names = [*(["begun", "written"] if written else ["first"]), "resume", "nothing", "verify"]
    steps = {name: measure(name, place) for name in (*names, "partition")}
    parts = [path.stat().st_size for path in (place / "output" / "answers").iterdir()]
    log = [path for path in (place / "output").rglob("*") if path.is_file()]
    command = f"python -m benchmarks.bench_control --row {num_requests}"
    row = {
        "requests": num_requests,
        "command": f"{command} --written" if written else command,
        "steps": steps,
        "num_parts": len(parts),
        "largest_part_bytes": max(parts),
        "manifest_bytes": (place / "manifest.parquet").stat().st_size,
        "answers_bytes": sum(parts),
        "answers_memory_bytes": ds.dataset(place / "output" / "answers").to_table().nbytes,
        "output_bytes": sum(path.stat().st_size for path in log),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
    shutil.rmtree(place)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", type=int, action="append")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--note", default="")
    parser.add_argument("--measure", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.measure:
        print(json.dumps(measure_here(told.measure[0], Path(told.measure[1]))))
        return
    print(heading(), flush=True)
    for num_requests in told.row or SIZES:
        row = measure_row(num_requests, told.folder, written=told.written) | {"note": told.note}
        print(line(row), flush=True)
        if told.results:
            save(row, told.results)


def heading() -> str:
    names = [
        "requests",
        "new, requests",
        "s",
        "requests/s",
        "driver, CPU s",
        "driver, MB",
        "resume: to the first video, s",
        "all, s",
        "CPU s",
        "MB",
        "nothing to do, s",
        "CPU s",
        "MB",
        "verify, s",
        "CPU s",
        "MB",
        "parts",
        "largest, MB",
        "output, MB",
        "load",
    ]
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)


def line(row: dict[str, Any]) -> str:
    steps, new = row["steps"], _new_job(row)
    cells = [f"{row['requests']:,}", f"{new['requests']:,.0f}", f"{new['seconds']:.1f}"]
    cells += [f"{_pace(row):.0f}", *_driver(new)]
    resume = steps["resume"]
    cells += [f"{resume['seconds_to_first_video']:.1f}"]
    for name in ("resume", "nothing", "verify"):
        cells += [f"{steps[name]['seconds']:.1f}", *_driver(steps[name])]
    cells += [
        str(row["num_parts"]),
        f"{row['largest_part_bytes'] / 1e6:.2f}",
        f"{row['output_bytes'] / 1e6:.1f}",
        f"{row['load_before']:.0f} to {row['load_after']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _new_job(row: dict[str, Any]) -> dict[str, float]:
    """The step that ran a new job."""
    step: dict[str, float] = row["steps"].get("first") or row["steps"]["begun"]
    return step


def _pace(row: dict[str, Any]) -> float:
    """Requests a second of a new job, once videos come."""
    new = _new_job(row)
    return new["requests"] / (new["seconds"] - new["seconds_to_first_video"])


def a_billion(row: dict[str, Any]) -> str:
    """What 10^9 clips need, by arithmetic from the row of a job that is one of the pieces."""
    num, steps = row["requests"], row["steps"]
    resume, verify = steps["resume"]["seconds_to_first_video"], steps["verify"]["seconds"]
    peak_mb = max(step["peak_bytes"] for step in steps.values()) / 1e6
    pieces, pace = 10**9 / num, _pace(row)
    days = 10**9 / pace / 86400
    manifest, log = row["manifest_bytes"] / num, row["output_bytes"] / num
    scan, scan_mb = steps["partition"]["seconds"] / num, steps["partition"]["peak_bytes"] / 1e6
    parts, wire = row["num_parts"] / num, row["answers_memory_bytes"] / num
    idle_hours = pieces * steps["nothing"]["cpu_seconds"] / 3600
    return f"""## 10^9 clips, by arithmetic from the row of {num:,}

- **Pieces**: {pieces:,.0f} logs of {num:,} requests. Each has a driver of at most
  {peak_mb:,.0f} MB, is at its first video {resume:.0f} s after a restart when 99 % are done, and is
  verified in {verify:.0f} s. What carries it: a request has the same id wherever it runs, and each
  log has a writer, fence and lease of its own, so that pieces share nothing.
- **Manifest**: {manifest:.0f} bytes a row, {manifest:,.0f} GB. With `--partition i/n` each driver
  reads all of it ({scan_mb:,.0f} MB of memory) at {1 / scan:,.0f} rows a second:
  {10**8 * scan / 60:.0f} minutes for 10^8 rows, {10**9 * scan / 3600:.1f} hours for 10^9. So the
  manifest is to lie in {pieces:,.0f} files of whole videos, each of them that of a job of its own;
  to split one manifest by hash is for up to some 10^8 rows.
- **Log**: {log:.0f} bytes a request where all texts are the same, as here, up to {wire:,.0f} where
  nothing can be compressed: {log:,.0f} to {wire:,.0f} GB, in {10**9 * parts:,.0f} parts, of which
  `sfray compact` makes {10**9 / PART_ROWS:,.0f} or more.
- **Pace of a driver**: {pace:.0f} requests a second with both stages on its own cores:
  {days:.0f} days for one, {days / 32:.1f} for 32 side by side. A driver feeds as many replicas as
  answer that many requests a second together; more replicas want more pieces at a time.
- **Bandwidth of a driver**: {wire:,.0f} bytes of results a request, {pace * wire / 1e6:.2f} MB a
  second at that pace; frames never pass it.
- **Resuming**: {idle_hours:.1f} processor hours of all drivers to find that all is done."""


def _driver(step: dict[str, float]) -> list[str]:
    return [f"{step['cpu_seconds']:.1f}", f"{step['peak_bytes'] / 1e6:.0f}"]


def save(row: dict[str, Any], folder: Path) -> None:
    """The table as JSON and Markdown, with where it comes from."""
    day = datetime.now(UTC).date().isoformat()
    path = folder / f"{day}-control.json"
    about = {"date": day, "processor": processor()}
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [other for other in before if other["requests"] != row["requests"]] + [row]
    rows.sort(key=lambda row: row["requests"])
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    notes = [f"{row['requests']:,}: {row['note']}" for row in rows if row["note"]]
    text = "\n".join([heading(), *map(line, rows), "", *notes, "", a_billion(rows[-1])])
    commands = ", ".join(f"`{row['command']}`" for row in rows)
    first = _new_job(rows[-1])["seconds_to_first_video"]
    path.with_suffix(".md").write_text(
        f"# What the machinery around the stages costs\n\n{about['processor']}, {day}; "
        f"{commands}.\nInstant stages, one caption a video; `load` is the machine's load "
        "average before and after the row, other work included. Megabytes of a driver are its "
        "peak, with the pages of Ray's object store that it writes for a new job; the new job "
        f"of the last row was at its first video after {first:.0f} s.\n\n{text.rstrip()}\n"
    )


if __name__ == "__main__":
    main()
