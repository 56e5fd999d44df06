"""A whole job on vLLM, where `make setup-vllm` has made an environment for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sfray.config import StorageSpec
from sfray.demo.videos import write_sample_set
from sfray.results.read import current_state

pytest.importorskip("vllm")


def texts(folder: Path, manifest: Path, engine: str) -> dict[str, str]:
    spec = {
        "manifest": {"uri": str(manifest)},
        "task": "qa",
        "model": {"id": "demo", "dtype": "float32", "engine": engine},
        "generation": {"max_new_tokens": 16},
        "output": {"uri": str(folder / engine)},
    }
    path = folder / f"{engine}.yaml"
    path.write_text(json.dumps(spec))
    subprocess.run([sys.executable, "-m", "sfray", "run", str(path)], check=True, timeout=280)  # noqa: S603 - our own command
    state = current_state(str(folder / engine), StorageSpec()).to_pylist()
    return {row["request_id"]: row["text"] for row in state}


def test_both_engines_give_the_same_rows(tmp_path: Path) -> None:
    manifest = write_sample_set(tmp_path, 3, first_seed=710_000)["qa"]
    light = texts(tmp_path, manifest, "transformers")
    assert light
    assert texts(tmp_path, manifest, "vllm") == light
