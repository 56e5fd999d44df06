"""Prompts that don't fit the model's context, found before any video is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sfray.errors import CheckpointError
from sfray.model.presets import ModelProfile
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.prompts.templates import Template


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


def too_long(
    requests: pa.Table,
    template: Template,
    tokenizer: PromptTokenizer,
    profile: ModelProfile,
    num_other_tokens: int,
) -> dict[int, str]:
    """Which rows ask for more than the model's context, each with a sentence.

    Args:
        requests: rows with `prompt` and `options`.
        num_other_tokens: visual tokens and tokens of the answer.
    """
    room = profile.max_position_embeddings - num_other_tokens
    # A token is a byte at least, so that a short prompt needs no counting.
    num_bytes = pc.binary_length(requests["prompt"]).to_numpy(zero_copy_only=False)
    options = pc.fill_null(pc.binary_join(requests["options"], "\n(A) "), "")
    num_bytes = num_bytes + pc.binary_length(options).to_numpy(zero_copy_only=False)
    suspects = np.flatnonzero(num_bytes + len(template.text.encode()) + 16 > room)
    found: dict[int, str] = {}
    for index in suspects.tolist():
        row: dict[str, Any] = requests.slice(index, 1).to_pylist()[0]
        before, after = tokenizer.encode(template.render(row["prompt"], row["options"] or ()))
        if (num_prompt := len(before) + len(after)) > room:
            found[index] = (
                f"the prompt has {num_prompt} tokens, but beside {num_other_tokens} tokens for "
                f"the frames and the answer the model's {profile.max_position_embeddings} leave "
                f"{max(room, 0)}"
            )
    return found
