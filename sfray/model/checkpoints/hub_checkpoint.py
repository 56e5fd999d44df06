"""Checkpoints of known models on the hub, in the hub's own cache on this machine."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from sfray.errors import CheckpointError
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.weight_files import WEIGHTS, with_weights
from sfray.model.presets import PRESETS
from sfray.model.profile import ModelProfile

_SMALL_FILES = "*.json"


class HubCheckpoint(Checkpoint):
    """A model of `PRESETS`; its sizes are known before anything of it is fetched."""

    @property
    def identity(self) -> tuple[str, str | None]:
        cached = self.small_files()
        return self.model.id, cached.name if cached else self.model.revision

    def pinned(self) -> HubCheckpoint:
        commit = self._fetched([_SMALL_FILES]).name
        return HubCheckpoint(self.model.model_copy(update={"revision": commit}))

    def small_files(self) -> Path | None:
        try:
            return self._snapshot(local_files_only=True)
        except LocalEntryNotFoundError:
            return None

    def whole(self) -> Path:
        return with_weights(self._fetched([_SMALL_FILES, WEIGHTS]))

    def _own_profile(self) -> ModelProfile:
        return PRESETS[self.model.id]

    def _names(self) -> None:
        return None

    def _fetched(self, patterns: list[str]) -> Path:
        try:
            return self._snapshot(patterns)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(
                f"the model {self.model.id!r} could not be fetched from the hub "
                f"({type(error).__name__}); put the path of its folder into model.id to run "
                "without the hub"
            ) from error

    def _snapshot(
        self, patterns: list[str] | None = None, *, local_files_only: bool = False
    ) -> Path:
        return Path(
            snapshot_download(
                self.model.id,
                revision=self.model.revision,
                allow_patterns=patterns,
                local_files_only=local_files_only,
            )
        )
