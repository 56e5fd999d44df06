"""Where a model's weights come from, and whether they fit a job. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sfray.config import JobSpec, ModelSpec, StorageSpec
from sfray.errors import CheckpointError
from sfray.model.presets import DEMO, PRESETS, demo_folder, model_profile

_WEIGHTS = "*.safetensors"
# Whatever of a folder decides an answer beside the weights.
_DECIDING_FILES = ("config.json", "tokenizer.json", "generation_config.json")


def checkpoint_identity(model: ModelSpec, storage: StorageSpec) -> tuple[str, str | None]:
    """(model id, revision) for fingerprints.

    The revision of a hub model is the one that the job names; that of a folder is a digest of its
    config and of its weight files' headers and sizes, so that another training under the same
    name gives other fingerprints.
    """
    if model.id in PRESETS:
        return model.id, model.revision
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    digest = hashlib.sha256()
    for name in _DECIDING_FILES:
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"")
    for path in sorted(folder.glob(_WEIGHTS)):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(length, 100 << 20)))
            # Headers are alike for all trainings of one shape: a taste of the numbers tells them.
            digest.update(file.read(1 << 20))
        digest.update(str(path.stat().st_size).encode())
    return (DEMO if model.id == DEMO else folder.name), digest.hexdigest()[:16]


def checkpoint_folder(model: ModelSpec) -> Path:
    """The local folder of a model's files; a hub model is fetched first.

    Raises:
        CheckpointError: the model can't be had, or holds no safetensors.
    """
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    if model.id in PRESETS and not folder.is_dir():
        folder = _from_hub(model)
    if not any(folder.glob(_WEIGHTS)):
        raise CheckpointError(f"{folder} holds no weights in the safetensors format")
    return folder


def _from_hub(model: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            model.id,
            revision=model.revision,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"the model {model.id!r} could not be fetched from the hub: {type(error).__name__}; "
            "put its folder's path into model.id to run without the hub"
        ) from error
    return Path(path)


def check_checkpoint(spec: JobSpec) -> None:
    """Checks that the weights are there and fit the job, before any video is decoded."""
    profile = model_profile(spec.model, spec.storage)
    folder = checkpoint_folder(spec.model)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(name for name in files if not (folder / name).exists())
        if missing:
            raise CheckpointError(f"{folder} lacks {missing[0]}, which its index names")
    if not (folder / "tokenizer.json").exists():
        raise CheckpointError(f"{folder} holds no tokenizer.json")
    if profile.image_size % profile.patch_size:
        raise CheckpointError(
            f"{folder}: images of {profile.image_size} pixels don't divide into patches of "
            f"{profile.patch_size}"
        )
