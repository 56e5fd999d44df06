"""Stage 1: the vision tower learns to see, from single frames, by small heads on its patches.

By language loss alone shapes and motion stay at chance for long. A linear head on each patch of
the layer that the model reads says what object is there, where its centre is and how large it is,
so that the features hold it in a form that a small language model can use.
Shape legend: B frames, N patches, D width, K targets.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel

from demo_training.data import IMAGE_SIZE
from sfray.demo.preset import NUM_FRAMES
from sfray.demo.world import COLOURS, SHAPES, make_scene
from sfray.demo.world import NUM_FRAMES as VIDEO_FRAMES
from sfray.video.sampling import sample_frame_indices

PATCH = 12
GRID = IMAGE_SIZE // PATCH
WIDTH = 128
_CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])
_COLOUR_INDEX = {name: i for i, name in enumerate(COLOURS)}
_NUM_OUTPUTS = 2 + len(COLOURS) + len(SHAPES) + 3


def tower_config(num_layers: int) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=64,
        hidden_act="quick_gelu",
        initializer_factor=1.0,
    )


def normalise(frames_BHWC: Tensor) -> Tensor:
    """uint8 RGB to float32 (B, 3, H, W), as CLIP's processor does."""
    return ((frames_BHWC.float() / 255 - _CLIP_MEAN) / _CLIP_STD).permute(0, 3, 1, 2)


def patch_features(tower: CLIPVisionModel, frames_BHWC: Tensor, layer: int) -> Tensor:
    """(B, N, D): the patches after `layer` layers, without the class token."""
    states = tower(normalise(frames_BHWC), output_hidden_states=True).hidden_states
    return states[layer][:, 1:]


def frame_targets(seed: int) -> np.ndarray:
    """float32 (NUM_FRAMES, N, 6): object (0 or 1), flash, colour, shape, then x, y, radius.

    The last of the seven values of each patch; an object's box decides which patches are its.
    """
    scene = make_scene(seed)
    indices = sample_frame_indices(VIDEO_FRAMES, NUM_FRAMES)
    centres = (np.arange(GRID) + 0.5) / GRID
    targets = np.zeros((NUM_FRAMES, GRID, GRID, 7), np.float32)
    for t, frame in enumerate(indices.tolist()):
        targets[t, ..., 1] = frame in scene.flash_frames
        for thing in scene.objects:
            place = thing.at(frame)
            if place is None:
                continue
            x, y, radius = place
            inside = np.outer(abs(centres - y) <= radius, abs(centres - x) <= radius)
            colour, shape = _COLOUR_INDEX[thing.colour], SHAPES.index(thing.shape)
            targets[t][inside] = [1, targets[t, 0, 0, 1], colour, shape, x, y, radius]
    return targets.reshape(NUM_FRAMES, GRID * GRID, 7)


def tower_loss(outputs_BNK: Tensor, targets_BNK: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The sum of the heads' losses, and how often they are right on patches of objects."""
    present, flash = targets_BNK[..., 0], targets_BNK[..., 1]
    inside = present > 0
    colour, shape = targets_BNK[..., 2][inside].long(), targets_BNK[..., 3][inside].long()
    ends = np.cumsum([2, len(COLOURS), len(SHAPES)]).tolist()
    object_logits, colour_logits, shape_logits, place = outputs_BNK.tensor_split(ends, dim=-1)
    loss_object = functional.binary_cross_entropy_with_logits(object_logits[..., 0], present)
    loss_flash = functional.binary_cross_entropy_with_logits(object_logits[..., 1], flash)
    loss_colour = functional.cross_entropy(colour_logits[inside], colour)
    loss_shape = functional.cross_entropy(shape_logits[inside], shape)
    loss_place = functional.smooth_l1_loss(place[inside], targets_BNK[inside][:, 4:], beta=0.05)
    loss = loss_object + 0.3 * loss_flash + loss_colour + loss_shape + 20 * loss_place
    right = {
        "object": ((object_logits[..., 0] > 0) == inside).float().mean().item(),
        "colour": (colour_logits[inside].argmax(-1) == colour).float().mean().item(),
        "shape": (shape_logits[inside].argmax(-1) == shape).float().mean().item(),
        "place": (place[inside] - targets_BNK[inside][:, 4:]).abs().mean().item(),
    }
    return loss, right


def train_tower(
    frames_VTHWC: np.ndarray, first_seed: int, num_steps: int, batch_size: int
) -> CLIPVisionModel:
    """Trains all layers but the last one of the final tower, which the model never reads."""
    tower = CLIPVisionModel(tower_config(num_layers=3))
    heads = nn.Linear(WIDTH, _NUM_OUTPUTS)
    parameters = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.5e-3, total_steps=num_steps, pct_start=0.1
    )
    targets = np.stack([frame_targets(first_seed + v) for v in range(len(frames_VTHWC))])
    rng = np.random.default_rng(0)
    started = time.monotonic()
    for step in range(num_steps):
        videos = rng.integers(0, len(frames_VTHWC), batch_size)
        times = rng.integers(0, NUM_FRAMES, batch_size)
        frames = torch.from_numpy(frames_VTHWC[videos, times])
        outputs = heads(patch_features(tower, frames, layer=3))
        loss, right = tower_loss(outputs, torch.from_numpy(targets[videos, times]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps - 1:
            words = ", ".join(f"{name} {value:.3f}" for name, value in right.items())
            seconds = time.monotonic() - started
            print(f"tower {step}: loss {loss.item():.3f}, {words}, {seconds:.0f} s", flush=True)
    return tower.eval()
