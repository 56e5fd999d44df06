"""What can be asked about a scene, and the right answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfray.demo.world import ACTIONS, COLOURS, MAX_FLASHES, SHAPES, Scene, SceneObject

CAPTION_PROMPT = "Describe this video."
KINDS = ("colour", "shape", "motion", "count", "flashes", "order")
_LETTERS = "ABCD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, open or with options; then the answer is the right option's letter."""

    question_id: str
    kind: str
    question: str
    options: tuple[str, ...] = ()
    answer: str


def questions(scene: Scene, seed: int) -> list[Question]:
    """All questions about a scene: each once open and once with options, in shuffled order."""
    rng = np.random.default_rng([scene.seed, seed, 2])
    asked = []
    for number, (kind, text, answer, choices) in enumerate(_facts(scene)):
        asked.append(
            Question(question_id=f"open-{number}", kind=kind, question=text, answer=answer)
        )
        options = _options(rng, answer, choices)
        letter = _LETTERS[options.index(answer)]
        asked.append(
            Question(
                question_id=f"choice-{number}",
                kind=kind,
                question=text,
                options=options,
                answer=letter,
            )
        )
    return asked


def _facts(scene: Scene) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(kind, question, answer, what answers could be)."""
    for thing in scene.objects:
        yield "colour", f"What colour is the {thing.shape}?", thing.colour, tuple(COLOURS)
        yield "shape", f"What shape is the {thing.colour} object?", thing.shape, SHAPES
        yield "motion", f"What does the {thing.name} do?", f"It {thing.action}.", _MOTIONS
    yield "count", "How many objects are there?", str(len(scene.objects)), ("1", "2")
    flashes = tuple(str(n) for n in range(MAX_FLASHES + 1))
    yield "flashes", "How many times does the screen flash?", str(len(scene.flash_frames)), flashes
    yield from _order(scene)


_MOTIONS = tuple(f"It {action}." for action in ACTIONS)


def _order(scene: Scene) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    actions = {thing.action for thing in scene.objects}
    if len(scene.objects) != 2 or len(actions) != 1 or not actions <= {"appears", "vanishes"}:
        return
    first = min(scene.objects, key=_change)
    last = max(scene.objects, key=_change)
    if last.change_frame - first.change_frame < 4:
        return
    names = tuple(f"the {thing.name}" for thing in scene.objects)
    yield "order", f"Which object {actions.pop()} first?", f"the {first.name}", names


def _change(thing: SceneObject) -> int:
    return thing.change_frame


def _options(rng: np.random.Generator, answer: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    others = [choice for choice in choices if choice != answer]
    picked = rng.permutation(others)[:3].tolist()
    return tuple(rng.permutation([answer, *picked]).tolist())
