"""Every job file that the project ships is valid and plans."""

from pathlib import Path

import pytest

from sfray.config import load_job_spec
from sfray.model.presets import model_profile, resolve_sampling_and_pooling
from sfray.prompts.templates import load_template

SPECS = sorted((Path(__file__).parents[2] / "jobs" / "specs").rglob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_shipped_job_file_is_valid(path: Path) -> None:
    spec = load_job_spec(path)
    profile = model_profile(spec.model, spec.storage)
    num_frames, pooling = resolve_sampling_and_pooling(spec, profile)
    load_template(spec.template, profile.chat_format, spec.task)
    num_tokens = pooling.num_visual_tokens(num_frames, profile.patch_grid)
    assert num_tokens + spec.generation.max_new_tokens < profile.max_position_embeddings


def test_the_project_ships_job_files() -> None:
    assert {"caption_demo_cpu", "caption_7b_1xa10g"} <= {path.stem for path in SPECS}
