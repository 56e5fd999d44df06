"""Loads a LLaVA checkpoint and turns frames into visual tokens.

Shape legend: T frames, N patches, W width of the language model, L visual tokens.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from sfray.errors import CheckpointError
from sfray.model.memory import FRAMES_PER_BATCH
from sfray.model.slowfast import pool_slow_fast
from sfray.pooling import SlowFastPooling

logger = logging.getLogger("sfray")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Llava:
    """A loaded model with its vision side, in evaluation mode.

    Without `language_layers` of the language model the token embeddings only: an engine that
    holds the rest itself needs no more.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        patch_grid: tuple[int, int],
        *,
        language_layers: bool = True,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        auto = torch.bfloat16 if on_gpu else torch.float32
        try:
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            if not language_layers:
                config.text_config.num_hidden_layers = 0
            self.model, report = AutoModelForImageTextToText.from_pretrained(
                folder,
                config=config,
                dtype=_DTYPES.get(dtype, auto),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise CheckpointError(f"the model in {folder} doesn't load: {first}") from error
        if missing := sorted(report["missing_keys"]):  # transformers makes them up
            raise CheckpointError(
                f"the weights in {folder} lack {len(missing)} tensors of the model that its "
                f"config.json describes, {missing[0]} first"
            )
        self._drop_unread_layers()
        if not language_layers:
            self.model.lm_head = nn.Identity()
        self.model.to(self.device).eval()
        self._patch_grid = patch_grid
        self._frames_per_batch = FRAMES_PER_BATCH
        self._one_at_a_time = threading.Lock()
        # The class token, where the tower has one (the profile is checked to say the same).
        strategy = self.model.config.vision_feature_select_strategy
        self._num_leading_tokens = 1 if strategy == "default" else 0
        settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        self._pixels_3L = torch.from_numpy(_pixel_levels(settings)).to(self.device)

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return frozenset(ends if isinstance(ends, list) else [ends])

    @torch.inference_mode()
    def visual_tokens(self, frames_THWC: np.ndarray, pooling: SlowFastPooling) -> Tensor:
        """(L, W) in the model's dtype, of uint8 frames of the tower's size; one call at a time.

        Raises:
            torch.OutOfMemoryError: the GPU's memory doesn't even suffice for single frames.
        """
        with self._one_at_a_time:
            while True:
                try:
                    features_TNW = self._features_of_all(frames_THWC)
                    return pool_slow_fast(features_TNW, self._patch_grid, pooling)
                except torch.OutOfMemoryError:
                    if self._frames_per_batch == 1:
                        raise
                self._frames_per_batch //= 2
                torch.cuda.empty_cache()
                logger.warning(
                    "the GPU's memory did not suffice: the tower takes %d frames at once now",
                    self._frames_per_batch,
                )

    def pixels(self, frames_THWC: np.ndarray) -> Tensor:
        """float32 (T, 3, H, W): rescaled and normalised, looked up on the device by level."""
        levels_T3HW = torch.from_numpy(frames_THWC).to(self.device).permute(0, 3, 1, 2)
        pixels_T3HW = torch.empty(levels_T3HW.shape, device=self.device)
        for channel, pixels_L in enumerate(self._pixels_3L):
            levels_THW = levels_T3HW[:, channel]
            looked_up = pixels_L.index_select(0, levels_THW.flatten().int())
            pixels_T3HW[:, channel] = looked_up.view(levels_THW.shape)
        return pixels_T3HW

    def _features_of_all(self, frames_THWC: np.ndarray) -> Tensor:
        batch = self._frames_per_batch
        features_TNW: Tensor | None = None
        for low in range(0, len(frames_THWC), batch):
            part = self._features(frames_THWC[low : low + batch])
            if features_TNW is None:
                features_TNW = part.new_empty((len(frames_THWC), *part.shape[1:]))
            features_TNW[low : low + batch] = part
        if features_TNW is None:
            raise ValueError("there are no frames")
        return features_TNW

    def _features(self, frames_THWC: np.ndarray) -> Tensor:
        """(T, N, W): the patches of the layer that the checkpoint names, projected."""
        inner = self.model.model
        pixels_T3HW = self.pixels(frames_THWC).to(self.model.dtype)
        with _whole_float32():
            states = inner.vision_tower(pixels_T3HW).last_hidden_state
        return inner.multi_modal_projector(states[:, self._num_leading_tokens :])

    def _drop_unread_layers(self) -> None:
        """Leaves out the tower's layers behind the one whose features are read, often the last.

        Layer k of n + 1 hidden states, counted as the checkpoint does, is what k layers give.
        """
        encoder = self.model.model.vision_tower.encoder
        wanted = self.model.config.vision_feature_layer
        num_read = wanted if wanted >= 0 else len(encoder.layers) + 1 + wanted
        encoder.layers = encoder.layers[:num_read]
        # The norm behind the last layer: of the features that are read it is no part.
        self.model.model.vision_tower.post_layernorm = torch.nn.Identity()


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Convolutions of float32 on a GPU would round their inputs to 10 bits."""
    settings: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, settings.fp32_precision = settings.fp32_precision, "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _pixel_levels(settings: Mapping[str, Any]) -> np.ndarray:
    """float32 (3, 256): the pixel of each level of a channel, by the arithmetic of CLIP's
    processor, so that looking it up gives the processor's pixels bit for bit."""
    scaled_L = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean_31 = np.array(settings["image_mean"], np.float32)[:, None]
    std_31 = np.array(settings["image_std"], np.float32)[:, None]
    return (scaled_L - mean_31) / std_31
