"""The commands of docs/tutorials/first-day.md, one after the other, with nothing else typed.

SFRAY_TEST_BIN names the folder of another environment's commands, such as one that the wheel was
installed into: the tutorial is then followed with those. `sfray run` starts a Ray each time, as it
does where none is at hand: in the folder, from which the manifest's paths lead.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfray.config import StorageSpec
from sfray.demo.videos import write_sample_set
from sfray.results.read import current_state, read_failures
from sfray.results.verify import verify
from tests.documentation import ROOT, blocks

TUTORIAL = ROOT / "docs/tutorials/first-day.md"
OTHER_BIN = os.environ.get("SFRAY_TEST_BIN")
# What `make demo` does here is done by the function that it calls, with fewer videos: those that
# docs/examples/first-day.csv asks about, and the one that the tutorial copies.
SEEDS = (*range(1_000_000, 1_000_004), 1_000_007)
FIRST_LINES = ["make demo", ". .venv/bin/activate"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository's folder after `make demo`."""
    bin_folder = Path(OTHER_BIN) if OTHER_BIN else Path(sys.prefix, "bin")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(bin_folder.resolve())
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    with contextlib.chdir(tmp_path):
        for seed in SEEDS:
            write_sample_set(Path("demo-output/videos"), 1, first_seed=seed)
    return tmp_path


def environment() -> dict[str, str]:
    """Of a shell in which the tutorial is followed."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return own if OTHER_BIN else own | {"PYTHONPATH": str(ROOT)}


# Each of four commands starts a Ray, on a machine that may do other things too.
@pytest.mark.timeout(1500)
def test_the_first_day_goes_as_written(folder: Path) -> None:
    first, *others = [block.text for block in blocks((TUTORIAL,)) if block.language == "sh"]
    assert first.splitlines() == FIRST_LINES
    lines = [FIRST_LINES[1], *(line for block in others for line in block.splitlines())]
    done = subprocess.run(  # noqa: S603 - the tutorial's lines
        ["bash", "-euxc", "\n".join(lines)],  # noqa: S607 - any bash
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("complete") and "NOT complete" not in done.stdout

    storage = StorageSpec()
    captions = current_state(str(folder / "captions"), storage).to_pylist()
    assert len(captions) == len(SEEDS) and all(row["code"] is None for row in captions)

    answers = current_state(str(folder / "answers"), storage).to_pylist()
    assert len(answers) == 21 and all(row["code"] is None for row in answers)
    known = [row for row in answers if row["reference_answer"]]
    right = sum(row["text"] == row["reference_answer"] for row in known)
    assert len(known) == 20 and right >= 18
    failures = read_failures(str(folder / "answers"), storage).to_table().to_pylist()
    assert [(row["code"], row["video_id"]) for row in failures] == [("not_found", "scene-1000008")]
    assert verify(str(folder / "answers"), storage).ok
