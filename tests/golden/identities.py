"""Fingerprints and ids of the job files in `ids/`: `python -m tests.golden.identities`.

Prints them as JSON. `ids/expected.json` was printed by the first version whose ids stand for ever;
a job file that is added here later is added there, and nothing that is there is changed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sfray.config import load_job_spec
from sfray.planning.plan import make_plan
from sfray.planning.windows import clips_of, uncut_requests, with_windows
from sfray.records import WINDOWS_SCHEMA

IDS = Path(__file__).parent / "ids"
CHECKPOINT = Path(__file__).parent.parent / "resources" / "parity" / "checkpoint"
_KEY = ("video_id", "video_uri", "start_seconds", "end_seconds", "prompt_id", "fingerprint")


def job_names() -> list[str]:
    return sorted(path.stem for path in IDS.glob("*.yaml"))


def prepare(folder: Path) -> None:
    """Copies job files, manifests and a checkpoint to a folder: their paths are relative to it."""
    shutil.copytree(IDS, folder, dirs_exist_ok=True)
    shutil.copytree(CHECKPOINT, folder / "checkpoint")


def identities(name: str) -> dict[str, Any]:
    """What a job file in the working folder asks for.

    Returns:
        its fingerprint, `requests` and `failures` each by id; of a job that cuts clips `windows` as
        well: the requests, of which each clip is cut in two.
    """
    plan = make_plan(load_job_spec(f"{name}.yaml"))
    requests = plan.requests
    found: dict[str, Any] = {
        "fingerprint": plan.run.fingerprint,
        "requests": _by_id(requests.table),
        "failures": _by_id(requests.failures, "code"),
    }
    if (how := plan.spec.sampling.windows) is not None:
        uncut = uncut_requests(plan, WINDOWS_SCHEMA.empty_table())
        clips = clips_of(uncut, how)["request_id"]
        halves = [[[0.0, 2.0], [2.0, 4.5]]] * len(clips)
        starts, ends = (pa.array(np.array(halves)[:, side].tolist()) for side in (0, 1))
        windows = pa.table([clips, starts, ends], schema=WINDOWS_SCHEMA)
        found["clips"] = clips.to_pylist()
        found["windows"] = _by_id(with_windows(plan, windows).requests.table)
    return found


def _by_id(table: pa.Table, *further: str) -> dict[str, list[Any]]:
    rows = table.select(["request_id", *_KEY, *further]).to_pylist()
    return {row.pop("request_id"): list(row.values()) for row in rows}


def main() -> None:
    # A model of the hub is what its name says, whatever this machine has of it.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = f"{folder}/hub"
        prepare(Path(folder))
        with chdir(folder):
            print(json.dumps({n: identities(n) for n in job_names()}, indent=1))


if __name__ == "__main__":
    main()
