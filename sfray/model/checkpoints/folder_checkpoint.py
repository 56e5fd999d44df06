"""Checkpoints in a folder of this machine, the demonstration model's among them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path

from sfray.config import ModelSpec
from sfray.demo import preset as demo
from sfray.errors import CheckpointError
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.weight_files import local_weights, weights_digest, with_weights
from sfray.model.presets import DEMO, PRESETS
from sfray.model.profile import ModelProfile, read_profile


class FolderCheckpoint(Checkpoint):
    """A folder; it has no revisions, and what is in it is its version."""

    def __init__(self, model: ModelSpec) -> None:
        """
        Raises:
            CheckpointError: there is no such folder.
        """
        super().__init__(model)
        self._folder = demo_folder() if model.id == DEMO else Path(model.id)
        if not self._folder.is_dir():
            known = ", ".join([DEMO, *PRESETS])
            raise CheckpointError(
                f"model.id {model.id!r} is neither a checkpoint folder, looked for at "
                f"{self._folder.absolute()}, nor one on s3://, nor one of: {known}"
            )

    @cached_property
    def identity(self) -> tuple[str, str | None]:
        name = DEMO if self.model.id == DEMO else self._folder.name
        return name, weights_digest(self._folder, local_weights(self._folder))

    def pinned(self) -> FolderCheckpoint:
        return self

    def small_files(self) -> Path:
        return self._folder

    def whole(self) -> Path:
        return with_weights(self._folder)

    def _own_profile(self) -> ModelProfile:
        if self.model.id in PRESETS:  # a folder that is called as a model of the hub
            return PRESETS[self.model.id]
        profile = read_profile(self._folder)
        if self.model.id != DEMO:
            return profile
        return replace(
            profile, num_frames=demo.NUM_FRAMES, pooling=demo.POOLING, chat_format=demo.TEMPLATE
        )

    def _names(self) -> Collection[str]:
        return {path.name for path in self.whole().iterdir()}


def demo_folder() -> Path:
    """The folder of the demonstration model's checkpoint."""
    return Path(str(resources.files("sfray.demo") / "checkpoint"))
