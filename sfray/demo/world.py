"""The demonstration model's world: coloured shapes that move on a textured ground.

A scene is one or two objects, each with one action, over `NUM_FRAMES` frames. The screen may
flash for single frames that only the fast pathway looks at. Everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

SIZE = 128
NUM_FRAMES = 16
FPS = 8

COLOURS = {
    "red": (225, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 235),
    "yellow": (240, 225, 50),
    "purple": (150, 50, 190),
    "cyan": (60, 220, 230),
    "orange": (250, 140, 20),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOVES = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
ACTIONS = (*MOVES, "rests", "grows", "shrinks", "appears", "vanishes")
# Of the eight frames that the model samples from sixteen these are the second, fourth, sixth and
# eighth: the slow pathway, which takes every other one, never sees them.
FLASH_FRAMES = (3, 7, 10, 14)
MAX_FLASHES = 3
ONE_OBJECT_SHARE = 0.7


def article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One shape; positions and radius in parts of the frame's side."""

    colour: str
    shape: str
    action: str
    x: float
    y: float
    radius: float
    change_frame: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def at(self, frame: int) -> tuple[float, float, float] | None:
        """Centre and radius in a frame; None where the object isn't there."""
        t = frame / (NUM_FRAMES - 1)
        if self.action == "appears" and frame < self.change_frame:
            return None
        if self.action == "vanishes" and frame >= self.change_frame:
            return None
        if self.action in MOVES:
            dx, dy = MOVES[self.action]
            shift = 0.5 * (t - 0.5)
            return self.x + dx * shift, self.y + dy * shift, self.radius
        if self.action == "grows":
            return self.x, self.y, self.radius * (0.5 + 0.7 * t)
        if self.action == "shrinks":
            return self.x, self.y, self.radius * (1.2 - 0.7 * t)
        return self.x, self.y, self.radius


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a video shows; objects from top left on."""

    seed: int
    objects: tuple[SceneObject, ...]
    flash_frames: tuple[int, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """What tells one object from the other; nothing where there is only one."""
        if len(self.objects) == 1:
            return ("",)
        first, second = self.objects
        is_stacked = abs(first.y - second.y) > abs(first.x - second.x)
        return ("top ", "bottom ") if is_stacked else ("left ", "right ")

    @property
    def caption(self) -> str:
        parts = [f"{article(o.name)} {o.name} {o.action}" for o in self.objects]
        text = " and ".join(parts) + "."
        return text[0].upper() + text[1:]


def make_scene(seed: int) -> Scene:
    """The scene of a seed."""
    rng = np.random.default_rng(seed)
    num_objects = 1 if rng.random() < ONE_OBJECT_SHARE else 2
    names = rng.permutation(list(product(COLOURS, SHAPES)))
    objects = _one(rng, names[0]) if num_objects == 1 else _two(rng, names)
    num_flashes = int(rng.integers(0, MAX_FLASHES + 1))
    flashes = sorted(int(f) for f in rng.choice(FLASH_FRAMES, num_flashes, replace=False))
    return Scene(seed=seed, objects=objects, flash_frames=tuple(flashes))


def _one(rng: np.random.Generator, name: np.ndarray) -> tuple[SceneObject, ...]:
    x, y = rng.uniform(0.42, 0.58, 2)
    action = ACTIONS[rng.integers(len(ACTIONS))]
    return (_object(rng, name, action, x, y, rng.uniform(0.16, 0.22), int(rng.integers(6, 11))),)


def _two(rng: np.random.Generator, names: np.ndarray) -> tuple[SceneObject, ...]:
    """Two objects of different colour and shape, one above or beside the other."""
    first = names[0]
    second = next(n for n in names if n[0] != first[0] and n[1] != first[1])
    stacked = rng.random() < 0.5
    allowed = [a for a in ACTIONS if a not in MOVES or (MOVES[a][1] == 0) == stacked]
    if rng.random() < 0.3:  # which one comes or goes first is asked for
        actions = [("appears", "vanishes")[rng.integers(2)]] * 2
        changes = rng.permutation([rng.integers(3, 6), rng.integers(10, 13)])
    else:
        actions = [allowed[i] for i in rng.integers(0, len(allowed), 2)]
        changes = rng.integers(6, 11, 2)
    objects = []
    for i, name in enumerate((first, second)):
        along, across = rng.uniform(0.44, 0.56), (0.27, 0.73)[i]
        x, y = (along, across) if stacked else (across, along)
        objects.append(_object(rng, name, actions[i], x, y, rng.uniform(0.14, 0.18), changes[i]))
    return tuple(objects)


def _object(
    rng: np.random.Generator,
    name: np.ndarray,
    action: str,
    x: float,
    y: float,
    radius: float,
    change: int,
) -> SceneObject:
    return SceneObject(
        colour=str(name[0]),
        shape=str(name[1]),
        action=action,
        x=float(x),
        y=float(y),
        radius=float(radius),
        change_frame=int(change),
    )


def render(scene: Scene) -> np.ndarray:
    """uint8 (NUM_FRAMES, SIZE, SIZE, 3), RGB."""
    rng = np.random.default_rng([scene.seed, 1])
    ground = _texture(rng)
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    for t in range(NUM_FRAMES):
        picture = np.full_like(ground, 235.0) if t in scene.flash_frames else ground.copy()
        for thing in scene.objects:
            place = thing.at(t)
            if place is not None:
                cover = _coverage(thing.shape, *place)[..., None]
                picture += cover * (np.array(COLOURS[thing.colour], np.float32) - picture)
        frames[t] = np.clip(picture + rng.normal(0, 2.0, picture.shape), 0, 255).astype(np.uint8)
    return frames


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A dark ground of soft grey patches, float32 (SIZE, SIZE, 3)."""
    coarse = rng.uniform(20, 95, (8, 8)).astype(np.float32)
    steps = np.linspace(0, 7, SIZE)
    low = np.minimum(steps.astype(int), 6)
    part = (steps - low)[:, None]
    rows = coarse[low] * (1 - part) + coarse[low + 1] * part
    grey = rows[:, low] * (1 - part.T) + rows[:, low + 1] * part.T
    tint = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    return (grey[..., None] * tint).astype(np.float32)


_GRID_Y, _GRID_X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def _coverage(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel a shape covers, 0 to 1, edges one pixel soft."""
    u, v = _GRID_X - x * SIZE, _GRID_Y - y * SIZE
    r = radius * SIZE
    if shape == "circle":
        distance = np.hypot(u, v) - r
    elif shape == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - 0.86 * r
    elif shape == "triangle":
        slope = (2 * np.abs(u) - v - 0.9 * r) / np.sqrt(5)
        distance = np.maximum(slope, v - 0.85 * r)
    else:
        a, b = np.abs(u), np.abs(v)
        distance = np.minimum(np.maximum(a - r, b - 0.32 * r), np.maximum(b - r, a - 0.32 * r))
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)
