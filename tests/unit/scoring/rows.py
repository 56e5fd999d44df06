"""Result rows as scoring sees them."""

from typing import Any


def row(number: int, **values: Any) -> dict[str, Any]:
    """An answered open question; a `code` makes it a failure."""
    base = {
        "request_id": f"r{number}",
        "video_id": f"v{number // 2}",
        "start_seconds": None,
        "end_seconds": None,
        "prompt_id": f"q{number}",
        "prompt": f"question {number}?",
        "options": None,
        "reference_answer": "dog",
        "fingerprint": "f",
        "text": "dog",
        "choice": None,
        "code": None,
        "model_id": "m",
        "benchmark": "msvd-qa",
        "scorer": "open_ended",
        "question_type": "what",
        "pair_id": None,
        "source_question_id": None,
    } | values
    if base["code"] is not None:
        base |= {"text": None, "choice": None}
    return base


def choice_row(number: int, choice: str | None, reference: str = "A", **values: Any):
    """A multiple-choice question with three options."""
    options = {"options": ["red", "blue", "green"], "scorer": "multiple_choice"}
    given = {"choice": choice, "text": choice or "who knows", "reference_answer": reference}
    return row(number, **{"benchmark": "next-qa", **options, **given, **values})


def verdict(number: int, correct: bool | None, score: float, aspect: str = "answer", **values: Any):
    """A judge's verdict on row `number`."""
    return {
        "request_id": f"r{number}",
        "aspect": aspect,
        "judge_model": "j",
        "prompt_fingerprint": "p",
        "status": "judged",
        "verdict": correct,
        "score": score,
    } | values
