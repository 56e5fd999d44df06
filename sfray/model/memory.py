"""What a replica needs of a GPU's memory, and what fits. Needs no torch.

The figures follow the code that allocates, tensor by tensor: what is held, and the most that a
step needs on top of it. Shape legend: T frames, N patches, L prefix positions, W width of the
language model, M width of its MLP, A = H * E width of all heads, C = K * E of all key/value heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sfray.config import JobSpec
from sfray.model.presets import resolve_sampling_and_pooling
from sfray.model.profile import ModelProfile, VisionTower
from sfray.pooling import SlowFastPooling, SlowPool

GIB = 2**30
# Frames that go through the tower together, and scores of one product with a prefix.
FRAMES_PER_BATCH = 16
MAX_SCORES = 2**24
# A score in float32, and beside it what is taken to the power of e for the sum.
_SCORE_BYTES = 8
# Work items in flight in one model replica: enough that decode steps of many videos share batches,
# few enough that their frames (17 MB for 50 frames of 336 x 336) stay small. On the device each
# keeps its visual tokens, and its prefix with them in it.
ITEMS_IN_FLIGHT = 16
# Of a replica's share: what CUDA itself takes of a process, and the part lost between blocks.
_CONTEXT_BYTES = 600 * 2**20
_USABLE = 0.95
# Text of a request, before and after the image, that room is made for.
_TEXT_TOKENS = 128
_MAX_REPLICAS_PER_GPU = 4
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True, slots=True)
class InFlight:
    """How many requests decode together, and of how many videos they may be."""

    num_requests: int = 64
    num_videos: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes of a replica, by what they depend on.

    Attributes:
        weights: the model.
        vision: the tower at work on a video, the features of all its frames with it.
        video: what a video under way holds: visual tokens, prefix and the prefix's KV cache.
        features: what one that waits holds: visual tokens and prefix.
        request: the KV cache of a request's own positions.
        prefill: the language model at work on a prefix.
        step: at work on one request: its text, or its next token.
        scores: the scores of a request's text with a prefix; there is a most for all together.
    """

    weights: int
    vision: int
    video: int
    features: int
    request: int
    prefill: int
    step: int
    scores: int

    def engine(self, in_flight: InFlight) -> int:
        """Bytes beside the weights while the language model works."""
        held = in_flight.num_videos * self.video + in_flight.num_requests * self.request
        scores = min(_SCORE_BYTES * MAX_SCORES, in_flight.num_requests * self.scores)
        return held + max(self.prefill, in_flight.num_requests * self.step + scores)

    def total(self, in_flight: InFlight) -> int:
        """Bytes at most: one video is encoded while others are answered."""
        waiting = max(0, ITEMS_IN_FLIGHT - in_flight.num_videos) * self.features
        return self.weights + self.vision + self.engine(in_flight) + waiting

    def fitting(self, num_bytes: float) -> InFlight | None:
        """As much as fits into a replica's bytes; None if not even one request does."""
        usable = num_bytes * _USABLE - _CONTEXT_BYTES
        bounds = InFlight()
        for num_videos in range(bounds.num_videos, 0, -1):
            for num_requests in range(bounds.num_requests, num_videos - 1, -1):
                if self.total(InFlight(num_requests, num_videos)) <= usable:
                    return InFlight(num_requests, num_videos)
        return None

    def replicas_on(self, gpu_bytes: float) -> int:
        """Replicas on a GPU: several only while each can hold all that it would ever take."""
        for num_replicas in range(_MAX_REPLICAS_PER_GPU, 1, -1):
            if self.fitting(gpu_bytes / num_replicas) == InFlight():
                return num_replicas
        return 1 if self.fitting(gpu_bytes) else 0

    @property
    def least_bytes(self) -> int:
        """The smallest share of a GPU that one request fits into."""
        return math.ceil((self.total(InFlight(1, 1)) + _CONTEXT_BYTES) / _USABLE)


def memory_need(spec: JobSpec, profile: ModelProfile) -> MemoryNeed:
    """What a replica of the light engine needs for a job, on a GPU."""
    num_frames, pooling = resolve_sampling_and_pooling(spec, profile)
    return need_of(
        profile,
        num_frames=num_frames,
        pooling=pooling,
        num_text_tokens=_TEXT_TOKENS,
        num_new_tokens=spec.generation.max_new_tokens,
        item=_BYTES[spec.model.dtype],
    )


def need_of(
    profile: ModelProfile,
    *,
    num_frames: int,
    pooling: SlowFastPooling,
    num_text_tokens: int,
    num_new_tokens: int,
    item: int,
) -> MemoryNeed:
    """See `memory_need`; `item` is the bytes of a number."""
    width, mlp = profile.hidden_size, profile.intermediate_size
    heads, kv = profile.num_heads * profile.head_width, profile.num_kv_heads * profile.head_width
    length = pooling.num_visual_tokens(num_frames, profile.patch_grid)
    cache = 2 * profile.num_layers * kv * item
    own = num_text_tokens + num_new_tokens
    # A layer's widest moments, in numbers a position: rotary positions of the queries, the MLP.
    at_attention = 3 * width + 5 * heads + 2 * kv
    at_mlp = 3 * width + 3 * mlp
    layer = (max(at_attention, at_mlp) + 2 * profile.head_width) * item
    features = 2 * length * width * item
    return MemoryNeed(
        weights=num_parameters(profile) * item,
        vision=_vision(profile, num_frames, pooling, item),
        video=features + length * cache,
        features=features,
        request=(own + 1) * cache,
        prefill=length * layer,
        step=num_text_tokens * layer + profile.vocab_size * (item + 8),
        scores=_SCORE_BYTES * num_text_tokens * length * profile.num_heads,
    )


def _vision(
    profile: ModelProfile,
    num_frames: int,
    pooling: SlowFastPooling,
    item: int,
) -> int:
    tower, width = profile.tower, profile.hidden_size
    rows, columns = tower.patch_grid
    num_patches = rows * columns
    # CLIP's activation takes two tensors beside its input, SigLIP's one.
    mlp_tensors = 3 if tower.has_class_token else 2
    at_layer = (num_patches + tower.has_class_token) * max(
        4 * tower.hidden_size + mlp_tensors * tower.intermediate_size, 8 * tower.hidden_size
    )
    at_projector = num_patches * (2 * tower.hidden_size + 2 * width)
    pixels = 3 * tower.image_size**2
    # They are looked up as float32, a channel at a time by int32.
    frame = max(max(at_layer, at_projector) + pixels, 24 * tower.image_size**2 // item)
    features = num_frames * num_patches * width
    first = min(FRAMES_PER_BATCH, num_frames)
    # The features of all frames are laid out when those of the first batch are there.
    later = min(FRAMES_PER_BATCH, num_frames - first)
    encoding = max(first * frame, features + max(first * num_patches * width, later * frame))
    pooled = pooling.num_visual_tokens(num_frames, tower.patch_grid) * width
    gathered = pooling.num_slow_frames * num_patches * width
    copies = 1 if pooling.slow_pool is SlowPool.NONE else 2
    return item * max(encoding, features + max(2 * pooled, copies * gathered + pooled))


def num_parameters(profile: ModelProfile) -> int:
    """Of all that is loaded: the tower up to the layer that is read, projector, language model."""
    width, tower = profile.hidden_size, profile.tower
    projector = (tower.hidden_size + 1) * width + (width + 1) * width
    newline = 0 if profile.architecture == "LlavaForConditionalGeneration" else width
    embeddings = profile.vocab_size * width * (1 if profile.tied_embeddings else 2)
    layers = profile.num_layers * _language_layer(profile) + width
    return _tower_parameters(tower) + projector + newline + embeddings + layers


def _language_layer(profile: ModelProfile) -> int:
    width = profile.hidden_size
    heads, kv = profile.num_heads * profile.head_width, profile.num_kv_heads * profile.head_width
    biases = heads + 2 * kv if profile.text_kind == "qwen2" else 0
    attention = 2 * width * heads + 2 * width * kv + biases
    return attention + 3 * width * profile.intermediate_size + 2 * width


def _tower_parameters(tower: VisionTower) -> int:
    width, mlp = tower.hidden_size, tower.intermediate_size
    rows, columns = tower.patch_grid
    # CLIP: a class token and a norm before the layers; SigLIP: a bias of the patches.
    extra = 4 * width if tower.has_class_token else width
    embedding = 3 * tower.patch_size**2 * width + rows * columns * width + extra
    layer = 4 * (width + 1) * width + (width + 1) * mlp + (mlp + 1) * width + 4 * width
    return embedding + tower.num_layers_read * layer
