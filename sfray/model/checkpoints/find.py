"""Where the checkpoint that a job names is: the one place that decides it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sfray.config import ModelSpec, StorageSpec
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.folder_checkpoint import FolderCheckpoint
from sfray.model.presets import DEMO, PRESETS
from sfray.storage.uris import scheme_of


class Place(Enum):
    """Where a model's files are."""

    PACKAGE = "with sfray itself"
    FOLDER = "in a folder of this machine"
    HUB = "on the hub"
    S3 = "on S3"


def place_of(model_id: str) -> Place:
    """Where a job's `model.id` points to; a folder needn't exist."""
    if model_id == DEMO:
        return Place.PACKAGE
    if scheme_of(model_id) == "s3":
        return Place.S3
    if model_id in PRESETS and not Path(model_id).is_dir():
        return Place.HUB
    return Place.FOLDER


def find_checkpoint(model: ModelSpec, storage: StorageSpec) -> Checkpoint:
    """The checkpoint that a job names: resolved once, and handed down.

    On S3 it is listed, unless its revision names a version that this machine knows.

    Raises:
        CheckpointError: there is none; one sentence.
    """
    # boto3 takes a third of a second to import and the hub's client a fifth, which other models
    # don't pay.
    match place_of(model.id):
        case Place.S3:
            from sfray.model.checkpoints.s3_checkpoint import find_on_s3

            return find_on_s3(model, storage)
        case Place.HUB:
            from sfray.model.checkpoints.hub_checkpoint import HubCheckpoint

            return HubCheckpoint(model)
        case Place.FOLDER | Place.PACKAGE:
            return FolderCheckpoint(model)
