"""What can be asked about a scene, and the right answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfray.demo.world import ACTIONS, COLOURS, MAX_FLASHES, SHAPES, Scene, article

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
    for number, fact in enumerate(_facts(scene)):
        asked.append(
            Question(
                question_id=f"open-{number}",
                kind=fact.kind,
                question=fact.question,
                answer=fact.answer,
            )
        )
        options = _options(rng, fact.option, fact.options)
        asked.append(
            Question(
                question_id=f"choice-{number}",
                kind=fact.kind,
                question=fact.question,
                options=options,
                answer=_LETTERS[options.index(fact.option)],
            )
        )
    return asked


@dataclass(frozen=True, slots=True)
class _Fact:
    """A question with its open answer, the option that says the same, and all there could be."""

    kind: str
    question: str
    answer: str
    option: str
    options: tuple[str, ...]


def _facts(scene: Scene) -> Iterator[_Fact]:
    if len(scene.objects) == 1:
        (thing,) = scene.objects
        question, answer = "What colour is the object?", f"It is {thing.colour}."
        yield _Fact("colour", question, answer, thing.colour, tuple(COLOURS))
        question, answer = "What shape is the object?", f"It is {article(thing.name)} {thing.name}."
        yield _Fact("shape", question, answer, thing.shape, SHAPES)
    for place, thing in zip(scene.places, scene.objects, strict=True):
        question = f"What does the {place}object do?"
        yield _Fact("motion", question, f"It {thing.action}.", thing.action, ACTIONS)
    number = str(len(scene.objects))
    yield _Fact("count", "How many objects are there?", number, number, ("1", "2"))
    number = str(len(scene.flash_frames))
    flashes = tuple(str(n) for n in range(MAX_FLASHES + 1))
    yield _Fact("flashes", "How many times does the screen flash?", number, number, flashes)
    yield from _order(scene)


def _order(scene: Scene) -> Iterator[_Fact]:
    actions = {thing.action for thing in scene.objects}
    if len(scene.objects) != 2 or len(actions) != 1 or not actions <= {"appears", "vanishes"}:
        return
    first, second = (thing.change_frame for thing in scene.objects)
    if abs(first - second) < 4:
        return
    names = tuple(f"the {place}object" for place in scene.places)
    name = names[0] if first < second else names[1]
    question = f"Which object {actions.pop()} first?"
    yield _Fact("order", question, f"It is {name}.", name, names)


def _options(rng: np.random.Generator, answer: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    others = [choice for choice in choices if choice != answer]
    picked = rng.permutation(others)[:3].tolist()
    return tuple(rng.permutation([answer, *picked]).tolist())
