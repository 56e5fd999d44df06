"""A model's files as one value, wherever they are. Needs no torch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from sfray.config import ModelSpec
from sfray.errors import CheckpointError
from sfray.model.profile import ModelProfile

_NEEDED_FILES = ("tokenizer.json", "preprocessor_config.json")


class Checkpoint(ABC):
    """One version of a model's files, and what they say of it.

    Attributes:
        model: as the job names it; of a pinned checkpoint with the revision that was found.
    """

    def __init__(self, model: ModelSpec) -> None:
        self.model = model

    @property
    @abstractmethod
    def identity(self) -> tuple[str, str | None]:
        """(model id, revision) for fingerprints.

        The revision of a hub model is its commit, or what the job names where nothing of the model
        is on this machine yet; that of a folder, here or on S3, is a digest of its config and of
        its weight files' headers and sizes, so that another training under the same name gives
        other fingerprints.
        """

    @abstractmethod
    def pinned(self) -> Checkpoint:
        """The same with its revision resolved, so that all nodes load the same files.

        That of a hub model is its commit, that of a checkpoint on S3 its version.

        Raises:
            CheckpointError: the hub can't be reached and nothing is on this machine.
        """

    @abstractmethod
    def small_files(self) -> Path | None:
        """The folder with config and tokenizer; None where those of a hub model aren't here."""

    @abstractmethod
    def whole(self) -> Path:
        """The local folder of all files; those of hub and S3 are fetched first, once a node.

        Raises:
            CheckpointError: the model can't be had, or holds no safetensors.
        """

    @cached_property
    def profile(self) -> ModelProfile:
        """Its sizes, with the positions that the job's RoPE option adds.

        Raises:
            CheckpointError: its config can't be used.
        """
        profile = self._own_profile()
        if (scaling := self.model.rope_scaling) is None:
            return profile
        stretched = int(profile.max_position_embeddings * scaling.factor)
        return replace(profile, max_position_embeddings=stretched)

    def check(self) -> None:
        """Checks that a pinned checkpoint is complete, before any video is decoded.

        Of a model from hub or S3 the driver has the small files only: its node may hold no replica.

        Raises:
            CheckpointError: one sentence.
        """
        folder, names = self.small_files(), self._names()
        if folder is None:
            raise CheckpointError(f"nothing of the model {self.model.id!r} is on this machine")
        if names is not None:
            _check_index(folder, names)
        for name in _NEEDED_FILES:
            if not (folder / name).exists():
                raise CheckpointError(f"{folder} holds no {name}")
        self._check_vocabulary(folder)

    def check_unfetched(self) -> None:
        """As `check`, of one that needn't be pinned: what the hub has is left to the run."""
        if self._names() is not None:
            self.check()

    @abstractmethod
    def _own_profile(self) -> ModelProfile:
        """The profile without the job's options."""

    @abstractmethod
    def _names(self) -> Collection[str] | None:
        """The names of all files; None where only fetching them would tell."""

    def _check_vocabulary(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        highest = max(tokenizer.get_vocab().values())
        if highest >= self.profile.vocab_size:
            raise CheckpointError(
                f"the tokenizer in {folder} has ids up to {highest}, but the model's vocabulary "
                f"has {self.profile.vocab_size}: they are of different models"
            )


def _check_index(folder: Path, names: Collection[str]) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(files - set(names))
        if missing:
            raise CheckpointError(f"{folder} lacks {missing[0]}, which its index names")
