"""Storms of faults over whole jobs: what was injected, and whether anything was lost or doubled.

    python -m benchmarks.chaos --storms 40 --seed 0 [--only KIND] [--resume] [--results FOLDER]

A storm is a small job on a Ray cluster of three nodes, with several faults at seeded moments, that
is started again until it is done and then compared with an undisturbed run; see `tests/chaos`.
A seed plans the same storm again: `--storms 1 --seed S`. Each storm adds a line to
chaos.jsonl in the folder of results; with `--resume` those that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.processor import processor
from tests.chaos.faults import KINDS
from tests.chaos.storm import Plan, Storm, undisturbed
from tests.chaos.world import NUM_QUESTIONS, NUM_VIDEOS, world

_COUNTS = ("num_lost", "num_doubled", "num_texts_different")


def run_storms(seeds: list[int], only: str | None, lines: Path) -> None:
    """Runs each storm and adds its account to `lines`."""
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as running:
        texts: dict[bool, dict[str, str]] = {}
        for seed in seeds:
            plan = Plan.of(seed, only)
            if plan.real_decode not in texts:
                texts[plan.real_decode] = undisturbed(running, plan.real_decode)
            account = Storm(running, plan).run(texts[plan.real_decode])
            row = {"only": only, "plan": asdict(plan)} | vars(account)
            with lines.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def commands(rows: list[dict[str, Any]]) -> list[str]:
    """What repeats all storms, however many processes ran them."""
    seeds: dict[str | None, list[int]] = {}
    for row in rows:
        seeds.setdefault(row["only"], []).append(row["seed"])
    found = []
    for only, of_kind in seeds.items():
        of_kind.sort()
        firsts = [seed for seed in of_kind if seed - 1 not in of_kind]
        for first in firsts:
            end = next(n for n in range(first, first + len(of_kind) + 1) if n not in of_kind)
            words = ["python -m benchmarks.chaos", f"--storms {end - first}", f"--seed {first}"]
            found.append(" ".join([*words, *([f"--only {only}"] if only else [])]))
    return found


def tabulate(rows: list[dict[str, Any]], day: str) -> tuple[dict[str, Any], str]:
    """The results as JSON and as Markdown."""
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        for column in ("injected", "landed", "reruns"):
            for kind, count in row[column].items():
                kinds.setdefault(kind, Counter())[column] += count
        for kind, count in row["landed"].items():
            if count:
                kinds[kind].update({"storms": 1} | {name: row[name] for name in _COUNTS})
    total = {name: sum(row[name] for row in rows) for name in _COUNTS}
    injected, landed, reruns = (
        sum(sum(row[column].values()) for row in rows)
        for column in ("injected", "landed", "reruns")
    )
    results = {
        "commands": commands(rows),
        "date": day,
        "processor": processor(),
        "storms": len(rows),
        "injected": injected,
        "landed": landed,
        **total,
        "kinds": kinds,
        "rows": rows,
    }
    s3_replies = sum(count["landed"] for kind, count in kinds.items() if kind.startswith("s3_"))
    codes = [code for row in rows for code in row["exit_codes"]]
    num_crashed = sum(code < 0 and code != -signal.SIGKILL for code in codes)
    lines = [
        "# Storms of faults",
        "",
        f"{processor()}, {day}; {', '.join(f'`{command}`' for command in commands(rows))}.",
        "",
        "| fault | injected | landed | in storms | reruns after | lost | doubled | other texts |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {kind.replace('_', ' ')} | {c['injected']} | {c['landed']} | {c['storms']} "
            f"| {c['reruns']} | {c['num_lost']} | {c['num_doubled']} "
            f"| {c['num_texts_different']} |"
            for kind, c in sorted(kinds.items())
            if c["injected"]
        ),
        f"| all | {injected} | {landed} | {len(rows)} | {reruns} | {total['num_lost']} "
        f"| {total['num_doubled']} | {total['num_texts_different']} |",
        "",
        f"{len(rows)} storms over jobs of {NUM_VIDEOS * NUM_QUESTIONS} requests. A fault landed "
        "if it happened before the job was over, to somebody who was there and not just being "
        "started again; lost, doubled and other texts are those of all storms in which the fault "
        f"landed. {s3_replies} of the {landed} are single replies of S3 "
        "that were broken. A reader read the answers "
        f"{sum(row['num_reads'] for row in rows)} times while the jobs ran; it and `sfray verify` "
        f"had {sum(len(row['complaints']) for row in rows)} complaints. "
        f"{sum(row['num_failed_for_a_while'] for row in rows)} requests had lost their worker so "
        f"often that they stood as failures, until `sfray retry`. {num_crashed} drivers ended by a "
        "signal that no fault had sent.",
        "",
        "Each storm with its seed, exit codes and moments is in the JSON file beside this one.",
        "",
    ]
    return results, "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storms", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--results", type=Path, default=Path("chaos-results"))
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = asked.results / "chaos.jsonl"
    if not asked.resume:
        lines.write_text("")
    done = {(row["only"], row["seed"]) for row in _read(lines)}
    seeds = range(asked.seed, asked.seed + asked.storms)
    missing = [seed for seed in seeds if (asked.only, seed) not in done]
    if missing:
        run_storms(missing, asked.only, lines)
    results, text = tabulate(_read(lines), day)
    (asked.results / f"{day}-chaos.json").write_text(json.dumps(results, indent=1) + "\n")
    (asked.results / f"{day}-chaos.md").write_text(text)
    print(text)


def _read(lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


if __name__ == "__main__":
    main()
