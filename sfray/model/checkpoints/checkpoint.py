"""Where a model's weights come from, and whether they fit a job. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sfray.config import JobSpec, ModelSpec, StorageSpec
from sfray.errors import CheckpointError
from sfray.model.checkpoints.profiles import demo_folder, is_on_s3, model_profile
from sfray.model.checkpoints.weight_files import WEIGHTS, local_weights, weights_digest
from sfray.model.presets import DEMO, PRESETS, ModelProfile

if TYPE_CHECKING:
    from sfray.model.checkpoints.s3_checkpoint import S3Checkpoint


def checkpoint_identity(model: ModelSpec, storage: StorageSpec) -> tuple[str, str | None]:
    """(model id, revision) for fingerprints.

    The revision of a hub model is its commit, or what the job names where nothing of the model is
    on this machine yet; that of a folder, here or on S3, is a digest of its config and of its
    weight files' headers and sizes, so that another training under the same name gives other
    fingerprints.
    """
    if is_on_s3(model.id):
        found = _on_s3(model, storage)
        return Path(model.id).name, weights_digest(found.small_files(), found.weights())
    folder = _local_folder(model)
    if folder is None:
        cached = small_files(model, storage)
        return model.id, cached.name if cached else model.revision
    digest = weights_digest(folder, local_weights(folder))
    return (DEMO if model.id == DEMO else folder.name), digest


def pinned(model: ModelSpec, storage: StorageSpec) -> ModelSpec:
    """The model with its revision resolved, so that all nodes load the same.

    That of a hub model is its commit, that of a checkpoint on S3 its version. Fetches the small
    files, config and tokenizer.

    Raises:
        CheckpointError: hub or S3 can't be reached and nothing is on this machine.
    """
    if is_on_s3(model.id):
        return model.model_copy(update={"revision": _on_s3(model, storage).version})
    if _local_folder(model) is not None:
        return model
    return model.model_copy(update={"revision": _from_hub(model, ["*.json"]).name})


def small_files(model: ModelSpec, storage: StorageSpec) -> Path | None:
    """The folder with config and tokenizer of a model; None where a hub model's isn't here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if is_on_s3(model.id):
        return _on_s3(model, storage).small_files()
    if (folder := _local_folder(model)) is not None:
        return folder
    try:
        return Path(snapshot_download(model.id, revision=model.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def checkpoint_folder(model: ModelSpec, storage: StorageSpec) -> Path:
    """The local folder of a model's files; those of hub and S3 are fetched first, once a node.

    Raises:
        CheckpointError: the model can't be had, or holds no safetensors.
    """
    if is_on_s3(model.id):
        return _on_s3(model, storage).whole()
    folder = _local_folder(model) or _from_hub(model, ["*.json", WEIGHTS])
    if not any(folder.glob(WEIGHTS)):
        raise CheckpointError(f"{folder} holds no weights in the safetensors format")
    return folder


def check_checkpoint(spec: JobSpec) -> None:
    """Checks that a model is there, before any video is decoded.

    Of a model from hub or S3 the driver has the small files only: its node may hold no replica.

    Raises:
        CheckpointError: one sentence.
    """
    folder = _local_folder(spec.model)
    if is_on_s3(spec.model.id):
        found = _on_s3(spec.model, spec.storage)
        folder = found.small_files()
        _check_index(folder, found.names)
    elif folder is None:
        folder = _from_hub(spec.model, ["*.json"])
    else:
        checkpoint_folder(spec.model, spec.storage)
        _check_index(folder, {path.name for path in folder.iterdir()})
    for name in ("tokenizer.json", "preprocessor_config.json"):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} holds no {name}")
    _check_vocabulary(folder, model_profile(spec.model, spec.storage))


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


def _check_vocabulary(folder: Path, profile: ModelProfile) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    highest = max(tokenizer.get_vocab().values())
    if highest >= profile.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder} has ids up to {highest}, but the model's vocabulary has "
            f"{profile.vocab_size}: they are of different models"
        )


def _local_folder(model: ModelSpec) -> Path | None:
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    return folder if folder.is_dir() or model.id not in PRESETS else None


def _on_s3(model: ModelSpec, storage: StorageSpec) -> S3Checkpoint:
    # boto3 takes a third of a second to import, which other models don't pay.
    from sfray.model.checkpoints.s3_checkpoint import find_checkpoint

    return find_checkpoint(model, storage)


def _check_index(folder: Path, names: Collection[str]) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(files - set(names))
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
