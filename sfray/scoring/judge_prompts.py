"""The judge's prompts, and the reading of its replies."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sfray.errors import SpecError
from sfray.scoring.metrics import ASPECTS, Row

_PLACES = re.compile(r"\{(question|question_2|reference|answer|answer_2)\}")
_OBJECT = re.compile(r"\{[^{}]*\}")
_LIMITS = (0.0, 5.0)
_YES = {"yes": True, "no": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply says: `correct` for aspect `answer` only; `score` from 0 to 5."""

    correct: bool | None
    score: float


@dataclass(frozen=True, slots=True)
class JudgePrompts:
    """The texts by aspect; `fingerprint` tells them from others."""

    system: Mapping[str, str]
    user: Mapping[str, str]
    repair: str
    fingerprint: str

    def messages(self, aspect: str, unit: Sequence[Row]) -> list[dict[str, str]]:
        """The conversation that asks for a verdict on a question, or on a pair of them."""
        values = {
            "question": unit[0]["prompt"],
            "reference": unit[0]["reference_answer"],
            "answer": unit[0]["text"],
            "question_2": unit[-1]["prompt"],
            "answer_2": unit[-1]["text"],
        }
        # One pass, so that braces in an answer are not taken for places.
        user = _PLACES.sub(lambda place: values[place[1]], self.user[aspect])
        return [
            {"role": "system", "content": self.system[aspect]},
            {"role": "user", "content": user},
        ]


def load_prompts(path: Path | None = None) -> JudgePrompts:
    """The prompts of a file, or the built-in ones.

    Raises:
        SpecError: the file can't be read, or an aspect or text is missing.
    """
    if path is None:
        text = (resources.files("sfray.scoring") / "judge_prompts.yaml").read_text("utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"the judge's prompts {path} can't be read: {error}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"the judge's prompts {path} are not valid YAML: {error}") from error
    aspects = ("answer", *ASPECTS)
    if not isinstance(values, dict) or not isinstance(values.get("repair"), str):
        raise SpecError(f"the judge's prompts {path} lack the text `repair`")
    for aspect in aspects:
        texts = values.get(aspect)
        if not isinstance(texts, dict) or not {"system", "user"} <= texts.keys():
            raise SpecError(f"the judge's prompts {path} lack `system` and `user` of {aspect!r}")
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return JudgePrompts(
        system={aspect: values[aspect]["system"] for aspect in aspects},
        user={aspect: values[aspect]["user"] for aspect in aspects},
        repair=values["repair"],
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest()[:12],
    )


def read_verdict(reply: str, aspect: str) -> Verdict | None:
    """The verdict of a reply; None if it holds none that is certain.

    Read are a JSON object, also among other words or in a code fence, and one that is written as
    Python would (single quotes). Several objects that differ are no verdict.
    """
    found = {v for text in _OBJECT.findall(reply) if (v := _verdict(_value(text), aspect))}
    return found.pop() if len(found) == 1 else None


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return None


def _verdict(value: Any, aspect: str) -> Verdict | None:
    if not isinstance(value, dict):
        return None
    score = value.get("score")
    if isinstance(score, str):
        try:
            score = float(score.strip())
        except ValueError:
            return None
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    if not _LIMITS[0] <= score <= _LIMITS[1]:
        return None
    if aspect != "answer":
        return Verdict(None, float(score))
    correct = _YES.get(str(value.get("correct")).strip().lower())
    return None if correct is None else Verdict(correct, float(score))
