"""The profile of the model that a job names, wherever its checkpoint is."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from sfray.config import ModelSpec, StorageSpec
from sfray.demo import preset as demo
from sfray.errors import CheckpointError
from sfray.model.presets import DEMO, PRESETS
from sfray.model.profile import ModelProfile, read_profile
from sfray.storage.uris import scheme_of


def model_profile(model: ModelSpec, storage: StorageSpec) -> ModelProfile:
    """The profile of a model, with the positions that the job's RoPE option adds.

    Raises:
        CheckpointError: the id is neither a known one nor a folder with a usable config.
    """
    profile = _own_profile(model, storage)
    if model.rope_scaling is None:
        return profile
    stretched = int(profile.max_position_embeddings * model.rope_scaling.factor)
    return replace(profile, max_position_embeddings=stretched)


def _own_profile(model: ModelSpec, storage: StorageSpec) -> ModelProfile:
    """Built in, or read from a folder's config.json."""
    if model.id in PRESETS:
        return PRESETS[model.id]
    if is_on_s3(model.id):
        from sfray.model.checkpoints.s3_checkpoint import find_checkpoint

        return read_profile(find_checkpoint(model, storage).small_files())
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    if not folder.is_dir():
        known = ", ".join([DEMO, *PRESETS])
        raise CheckpointError(
            f"model.id {model.id!r} is neither a checkpoint folder, here or on s3://, nor one of: "
            f"{known}"
        )
    profile = read_profile(folder)
    if model.id != DEMO:
        return profile
    return replace(
        profile, num_frames=demo.NUM_FRAMES, pooling=demo.POOLING, chat_format=demo.TEMPLATE
    )


def is_on_s3(model_id: str) -> bool:
    """Whether a model is a checkpoint folder on S3."""
    return scheme_of(model_id) == "s3"


def demo_folder() -> Path:
    """The folder of the demonstration model's checkpoint."""
    return Path(str(resources.files("sfray.demo") / "checkpoint"))
