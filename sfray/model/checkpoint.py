"""Where a model's weights come from, and whether they fit a job. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sfray.config import JobSpec, ModelSpec, StorageSpec
from sfray.errors import CheckpointError
from sfray.model.presets import DEMO, PRESETS, ModelProfile, demo_folder, model_profile

_WEIGHTS = "*.safetensors"
# Whatever of a folder decides an answer beside the weights.
_DECIDING_FILES = ("config.json", "tokenizer.json", "generation_config.json")


def checkpoint_identity(model: ModelSpec, storage: StorageSpec) -> tuple[str, str | None]:
    """(model id, revision) for fingerprints.

    The revision of a hub model is its commit, or what the job names where nothing of the model is
    on this machine yet; that of a folder is a digest of its config and of its weight files'
    headers and sizes, so that another training under the same name gives other fingerprints.
    """
    folder = _local_folder(model)
    if folder is None:
        cached = small_files(model)
        return model.id, cached.name if cached else model.revision
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


def pinned(model: ModelSpec) -> ModelSpec:
    """The model with a hub revision resolved to its commit, so that all nodes load the same.

    Fetches the small files of a hub model, its config and tokenizer.

    Raises:
        CheckpointError: the hub can't be reached and nothing is on this machine.
    """
    if _local_folder(model) is not None:
        return model
    return model.model_copy(update={"revision": _from_hub(model, ["*.json"]).name})


def small_files(model: ModelSpec) -> Path | None:
    """The folder with config and tokenizer of a model, if it is on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if (folder := _local_folder(model)) is not None:
        return folder
    try:
        return Path(snapshot_download(model.id, revision=model.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def checkpoint_folder(model: ModelSpec) -> Path:
    """The local folder of a model's files; a hub model is fetched first, once a node.

    Raises:
        CheckpointError: the model can't be had, or holds no safetensors.
    """
    folder = _local_folder(model) or _from_hub(model, ["*.json", _WEIGHTS])
    if not any(folder.glob(_WEIGHTS)):
        raise CheckpointError(f"{folder} holds no weights in the safetensors format")
    return folder


def check_checkpoint(spec: JobSpec, num_tokens: int) -> None:
    """Checks that a model is there and fits the job, before any video is decoded.

    Of a hub model the driver fetches the small files only: its node may hold no replica.

    Args:
        num_tokens: visual tokens and tokens of the answer that a request needs.

    Raises:
        CheckpointError: one sentence.
    """
    profile = model_profile(spec.model, spec.storage)
    folder = _local_folder(spec.model)
    if folder is None:
        folder = _from_hub(spec.model, ["*.json"])
    else:
        checkpoint_folder(spec.model)
        _check_index(folder)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} holds no {name}")
    check_context(profile, num_tokens)


def check_context(profile: ModelProfile, num_tokens: int) -> None:
    """Checks that a request's visual tokens and its answer's have room in the model's context.

    Raises:
        CheckpointError: they have not.
    """
    if num_tokens >= profile.max_position_embeddings:
        raise CheckpointError(
            f"a request needs {num_tokens} tokens for its frames and its answer, but the model "
            f"has room for {profile.max_position_embeddings}: lower sampling.num_frames, "
            "pooling.num_slow_frames or generation.max_new_tokens"
        )


def _local_folder(model: ModelSpec) -> Path | None:
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    return folder if folder.is_dir() or model.id not in PRESETS else None


def _check_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(name for name in files if not (folder / name).exists())
        if missing:
            raise CheckpointError(f"{folder} lacks {missing[0]}, which its index names")


def _from_hub(model: ModelSpec, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"the model {model.id!r} could not be fetched from the hub ({type(error).__name__}); "
            "put the path of its folder into model.id to run without the hub"
        ) from error
