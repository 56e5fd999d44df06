"""Prompts as token ids, the same for planning and for both engines. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from sfray.errors import CheckpointError
from sfray.prompts.templates import RenderedPrompt


class PromptTokenizer:
    """Tokenises the two parts of a prompt apart, as the reference does.

    In one pass, a Llama tokenizer drops the blank after the image. The start token that the
    tokenizer puts before the second part is dropped.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        start = tokenizer.encode("").ids
        self._num_start_tokens = len(start)

    @classmethod
    def from_folder(cls, folder: Path) -> PromptTokenizer:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{folder} holds no tokenizer.json")
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, prompt: RenderedPrompt) -> tuple[list[int], list[int]]:
        """The ids before the image, with the start token, and those after it."""
        before = self._tokenizer.encode(prompt.before_image).ids
        after = self._tokenizer.encode(prompt.after_image).ids
        return before, after[self._num_start_tokens :]

    def decode(self, token_ids: list[int]) -> str:
        """The text of generated ids, without special tokens."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)
