"""Stage 2: projector and language model learn to answer, with the tower frozen.

The features of the frozen tower are computed once. All questions of a video stand behind one copy
of its visual tokens in a single sequence: a mask lets each see the visual tokens and itself only,
and positions start anew, so that a step teaches ten answers at the price of one video.
Shape legend: B videos, T frames, N patches, D tower width, W language width, L visual tokens,
S positions of the packed sequence.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionModel,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from demo_training.tower import GRID, patch_features, tower_config
from demo_training.words import SPECIAL, VOCABULARY, prompt_text
from sfray.demo.preset import POOLING
from sfray.demo.questions import CAPTION_PROMPT, questions
from sfray.demo.world import make_scene
from sfray.model.slowfast import pool_slow_fast
from sfray.pooling import SlowFastPooling

LANGUAGE_WIDTH = 128
QUESTIONS_PER_VIDEO = 9
PEAK_RATE = 1.2e-3
WARMUP_STEPS = 60


def make_model() -> LlavaNextForConditionalGeneration:
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=LANGUAGE_WIDTH,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"),
        pad_token_id=SPECIAL.index("<pad>"),
        tie_word_embeddings=False,
    )
    config = LlavaNextConfig(
        vision_config=tower_config(num_layers=4),
        text_config=text,
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_grid_pinpoints=[[96, 192], [192, 96], [192, 192]],
        tie_word_embeddings=False,
    )
    return LlavaNextForConditionalGeneration(config)


@torch.inference_mode()
def tower_features(tower: CLIPVisionModel, frames_VTHWC: np.ndarray) -> np.ndarray:
    """float16 (V, T, N, D), of frames that went through a video file."""
    features = []
    for low in range(0, len(frames_VTHWC), 16):
        frames = torch.from_numpy(np.array(frames_VTHWC[low : low + 16])).flatten(0, 1)
        patches = patch_features(tower, frames, layer=3)
        features.append(patches.unflatten(0, (-1, frames_VTHWC.shape[1])).half().numpy())
    return np.concatenate(features)


@dataclass(frozen=True, slots=True)
class Suffix:
    """One question behind the visual tokens: ids, and how many of them at the end are learned."""

    kind: str
    ids: list[int]
    num_learned: int


class Lessons:
    """The prompts of a template as token ids, split at the image as the product does it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        before, self._after = template.split("<image>")
        self.prefix_ids: list[int] = tokenizer(before)["input_ids"]

    def suffix(self, kind: str, question: str, options: tuple[str, ...], answer: str) -> Suffix:
        text = prompt_text(self._after, question, options)
        learned = [*self._ids(" " + answer), SPECIAL.index("</s>")]
        return Suffix(kind, [*self._ids(text), *learned], len(learned))

    def _ids(self, text: str) -> list[int]:
        """Without the start token; texts come again and again."""
        if text not in self._known:
            self._known[text] = self._tokenizer(text)["input_ids"][1:]
        return self._known[text]

    def of_video(self, seed: int, option_seed: int) -> list[Suffix]:
        """The caption and all questions of a scene, options shuffled by `option_seed`."""
        scene = make_scene(seed)
        suffixes = [self.suffix("caption", CAPTION_PROMPT, (), scene.caption)]
        said = ""
        for q in questions(scene, seed=option_seed):
            if q.options:
                # The sentence of the open question before it, which the product resolves to a
                # letter. What is asked about comes again in the sentence, and the next token
                # only has to look for it: so a small model learns soon which of two is meant.
                suffixes.append(self.suffix(f"{q.kind} choice", q.question, q.options, said))
            else:
                said = q.answer
                suffixes.append(self.suffix(f"{q.kind} open", q.question, (), said))
        return suffixes

    def some_of_video(self, seed: int, rng: np.random.Generator) -> list[Suffix]:
        """The caption and a few questions."""
        caption, *asked = self.of_video(seed, int(rng.integers(1 << 30)))
        picked = rng.permutation(len(asked))[:QUESTIONS_PER_VIDEO]
        return [caption, *(asked[i] for i in picked)]


def pack(prefix_length: int, suffixes: list[Suffix], length: int) -> tuple[Tensor, ...]:
    """Packs the suffixes of one video behind a prefix.

    Returns:
        ids (length,) int64, labels (length,) int64 with -100 where nothing is learned, positions
        (prefix_length + length,) int64, and who sees whom, bool of the same length squared.
    """
    ids = np.zeros(length, np.int64)
    labels = np.full(length, -100, np.int64)
    owner = np.full(prefix_length + length, -1)
    owner[:prefix_length] = 0
    positions = np.zeros(prefix_length + length, np.int64)
    positions[:prefix_length] = np.arange(prefix_length)
    at = 0
    for number, suffix in enumerate(suffixes, start=1):
        end = at + len(suffix.ids)
        ids[at:end] = suffix.ids
        labels[end - suffix.num_learned : end] = suffix.ids[-suffix.num_learned :]
        owner[prefix_length + at : prefix_length + end] = number
        positions[prefix_length + at : prefix_length + end] = prefix_length + np.arange(end - at)
        at = end
    seen = (owner[None, :] == owner[:, None]) | (owner[None, :] == 0)
    seen &= np.tri(len(owner), dtype=bool)
    np.fill_diagonal(seen, True)
    return tuple(torch.from_numpy(a) for a in (ids, labels, positions, seen))


def packed_logits(
    model: LlavaNextForConditionalGeneration,
    prefix_ids: list[int],
    features_BTND: Tensor,
    suffixes: list[list[Suffix]],
    pooling: SlowFastPooling = POOLING,
) -> tuple[Tensor, Tensor]:
    """The logits at every position before a learned token, and those tokens, in order."""
    projected = model.model.multi_modal_projector(features_BTND)
    visual_BLW = torch.stack([pool_slow_fast(video, (GRID, GRID), pooling) for video in projected])
    embed = model.get_input_embeddings()
    before = embed(torch.tensor(prefix_ids)).expand(len(suffixes), -1, -1)
    prefix_length = before.shape[1] + visual_BLW.shape[1]
    length = max(sum(len(s.ids) for s in of_video) for of_video in suffixes)
    packed = [pack(prefix_length, of_video, length) for of_video in suffixes]
    ids, labels, positions, seen = (torch.stack(parts) for parts in zip(*packed, strict=True))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    states = model.model.language_model(
        inputs_embeds=torch.cat([before, visual_BLW, embed(ids)], dim=1),
        position_ids=positions,
        attention_mask=mask[:, None],
        use_cache=False,
    ).last_hidden_state
    # The state before a token predicts it; the first of a suffix is never learned.
    told = labels[:, 1:] != -100
    return model.lm_head(states[:, prefix_length:-1][told]), labels[:, 1:][told]


@torch.inference_mode()
def accuracy(
    model: LlavaNextForConditionalGeneration,
    lessons: Lessons,
    features_VTND: np.ndarray,
    first_seed: int,
    pooling: SlowFastPooling = POOLING,
) -> dict[str, list[bool]]:
    """Which answers are right to the last token, by kind of question.

    Every token is judged after the right tokens before it, which for whole answers gives what
    greedy decoding gives.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for video, features in enumerate(features_VTND):
        suffixes = lessons.of_video(first_seed + video, option_seed=0)
        tensor = torch.from_numpy(features[None]).float()
        logits, wanted = packed_logits(model, lessons.prefix_ids, tensor, [suffixes], pooling)
        hits = (logits.argmax(-1) == wanted).split([s.num_learned for s in suffixes])
        for suffix, hit in zip(suffixes, hits, strict=True):
            right[suffix.kind].append(bool(hit.all()))
    return dict(right)


def train_language(
    model: LlavaNextForConditionalGeneration,
    lessons: Lessons,
    features_VTND: np.ndarray,
    first_seed: int,
    num_steps: int,
    batch_size: int,
    max_seconds: float,
) -> Iterator[int]:
    """Trains projector and language model; the tower of `model` is not touched.

    The learning rate falls to zero at the last step, or when the time is up if that comes first.

    Yields:
        the number of steps done, every 50 steps and at the end.
    """
    parameters = [
        *model.model.multi_modal_projector.parameters(),
        *model.model.language_model.parameters(),
        *model.lm_head.parameters(),
    ]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.05, betas=(0.9, 0.98))
    rng = np.random.default_rng(1)
    started = time.monotonic()
    losses = []
    for step in range(1, num_steps + 1):
        seconds = time.monotonic() - started
        done = max(step / num_steps, seconds / max_seconds)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, min(done, 1.0))
        videos = rng.integers(0, len(features_VTND), batch_size)
        features = torch.from_numpy(features_VTND[videos]).float()
        suffixes = [lessons.some_of_video(first_seed + int(v), rng) for v in videos]
        logits, wanted = packed_logits(model, lessons.prefix_ids, features, suffixes)
        loss = functional.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.item())
        if step % 50 == 0 or done >= 1:
            mean = float(np.mean(losses[-50:]))
            print(f"language {step}: loss {mean:.4f}, {seconds:.0f} s", flush=True)
            yield step
        if done >= 1:
            return


def learning_rate(step: int, done: float) -> float:
    """Up within `WARMUP_STEPS`, then down along half a cosine wave; `done` is 0 to 1."""
    return PEAK_RATE * min(1.0, step / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * done))
