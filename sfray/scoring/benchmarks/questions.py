"""From source rows to questions: which columns hold what, and which option is the right one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from string import ascii_uppercase
from typing import Any

from sfray.errors import ManifestError
from sfray.scoring.benchmarks.benchmark import Benchmark, Scorer
from sfray.scoring.benchmarks.tables import Repairs, SourceRow

_OPTION = re.compile(r"^(?:a|option[ _]?)(\d)$", re.IGNORECASE)
_OPTION_LISTS = ("options", "candidates", "choices")
_PAIRED = (("Q1", "Q2"), ("question_1", "question_2"), ("question1", "question2"))
_TASK_NAMES = ("action", "transition", "count", "frameqa")
_GENERATION_NAMES = ("consistency", "temporal", "generic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question as the source means it; `answer` is a letter where there are options.

    `unique_id` is the source's id, or one made of the source's values that is likely unique;
    `pair` is what two questions on the same fact share.
    """

    row: SourceRow
    video: str | None
    question: str | None
    options: tuple[str, ...] = ()
    answer: str | None
    source_id: str | None
    unique_id: str | None
    question_type: str | None
    scorer: Scorer
    pair: str | None = None


def questions_of(
    rows: Sequence[SourceRow], benchmark: Benchmark, repairs: Repairs
) -> list[Question]:
    """The questions of one file.

    Raises:
        ManifestError: the file lacks the columns of a question.
    """
    columns = benchmark.columns
    paired = next((p for p in _PAIRED if set(p) <= rows[0].values.keys()), None)
    if paired is None and rows[0].first(columns.question) is None:
        found = ", ".join(rows[0].values)
        raise ManifestError(
            f"{rows[0].file} has no column {' or '.join(columns.question)}; it has: {found}"
        )
    names = tuple(paired or columns.question[:1])
    answers = _answers(rows, benchmark, repairs)
    questions = [
        _question(row, answer, options, benchmark, repairs)
        for row, (answer, options) in zip(rows, answers, strict=True)
    ]
    questions = _with_types(questions, benchmark)
    if paired is None:
        return questions
    return [
        replace(
            q,
            question=repairs.clean(str(q.row.values[name]), q.row.place) or None,
            unique_id=f"{q.unique_id}/{number}",
        )
        for q in questions
        for number, name in enumerate(names, start=1)
    ]


def _question(
    row: SourceRow,
    answer: str | None,
    options: tuple[str, ...],
    benchmark: Benchmark,
    repairs: Repairs,
) -> Question:
    columns = benchmark.columns
    video = _text(row.first(columns.video), row, repairs)
    source_id = _text(row.first(columns.question_id), row, repairs)
    unique = _text(row.first(columns.unique_id), row, repairs)
    if unique is None and options and video and source_id:
        # NExT-QA numbers questions per video, and its copies write both numbers as one.
        unique = f"{video}_{source_id.removeprefix(video).lstrip('_')}"
    return Question(
        row=row,
        video=video,
        question=_text(row.first(columns.question), row, repairs),
        options=options,
        answer=answer,
        source_id=source_id,
        unique_id=unique or source_id,
        question_type=_text(row.first(columns.question_type), row, repairs),
        scorer=Scorer.MULTIPLE_CHOICE if options else benchmark.scorer,
    )


def _text(value: Any, row: SourceRow, repairs: Repairs) -> str | None:
    """A value as clean text; None where there is none."""
    if value is None:
        return None
    return repairs.clean(str(value), row.place) or None


def _answers(
    rows: Sequence[SourceRow], benchmark: Benchmark, repairs: Repairs
) -> list[tuple[str | None, tuple[str, ...]]]:
    """The right answer and the options of each row."""
    options = [_options(row, repairs) for row in rows]
    numbered = ("answer_number", "answer_index", "correct_answer")
    explicit = any(name in rows[0].values for name in numbered)
    columns = numbered if explicit else benchmark.columns.answer
    given = [_text(row.first(columns), row, repairs) for row in rows]
    are_numbers = all(
        g is None or (g.isdigit() and int(g) < len(o)) for g, o in zip(given, options, strict=True)
    )
    return [
        (_right_answer(g, o, are_numbers, row, repairs), o)
        for g, o, row in zip(given, options, rows, strict=True)
    ]


def _right_answer(
    given: str | None,
    options: tuple[str, ...],
    is_number: bool,
    row: SourceRow,
    repairs: Repairs,
) -> str | None:
    if not options or given is None:
        return given
    if is_number:
        return ascii_uppercase[int(given)]
    same = [i for i, option in enumerate(options) if option == given]
    if not same:
        same = [i for i, option in enumerate(options) if option.lower() == given.lower()]
        if same:
            repairs.note("an answer in other case than its option", row.place)
    if not same:
        repairs.note("an answer that is none of the options: left without reference", row.place)
        return None
    if len(same) > 1:
        repairs.note("the right option is there twice: the first one stands", row.place)
    return ascii_uppercase[same[0]]


def _options(row: SourceRow, repairs: Repairs) -> tuple[str, ...]:
    listed = row.first(_OPTION_LISTS)
    if isinstance(listed, list):
        return tuple(repairs.clean(str(option), row.place) for option in listed)
    numbered = sorted(
        (int(match[1]), str(value))
        for name, value in row.values.items()
        if (match := _OPTION.match(name)) and value is not None
    )
    return tuple(repairs.clean(text, row.place) for _, text in numbered)


def _with_types(questions: list[Question], benchmark: Benchmark) -> list[Question]:
    """Readable question types, the tasks of TGIF-QA and the parts of VCGBench among them."""
    if benchmark.name == "tgif-qa":
        task = _tgif_task(questions)
        if task == "count":
            return [replace(q, question_type=task, scorer=Scorer.COUNT) for q in questions]
        if task != "frameqa":
            return [replace(q, question_type=task) for q in questions]
    if benchmark.scorer is Scorer.GENERATION:
        part = _named(questions, _GENERATION_NAMES)
        return [_generation_part(q, part) for q in questions]
    names = benchmark.question_types
    if names is None:
        return [
            replace(q, question_type=(q.question or "").split(" ")[0].lower() or None)
            for q in questions
        ]
    return [
        replace(q, question_type=names.get(q.question_type or "", q.question_type))
        for q in questions
    ]


def _named(questions: list[Question], names: tuple[str, ...]) -> str:
    """Which of the names the file's name holds; the last one if none."""
    stem = PurePath(questions[0].row.file).stem.lower()
    return next((name for name in names if name in stem), names[-1])


def _tgif_task(questions: list[Question]) -> str:
    """By the file's name, else by what the questions look like."""
    task = _named(questions, (*_TASK_NAMES, ""))
    if task:
        return task
    if questions[0].options:
        after = sum(bool(re.search(r"\b(before|after)\b", q.question or "")) for q in questions)
        return "transition" if after > len(questions) / 2 else "action"
    counts = sum((q.question or "").lower().startswith("how many times") for q in questions)
    return "count" if counts > len(questions) / 2 else "frameqa"


def _generation_part(question: Question, part: str) -> Question:
    """The parts share the source's ids; two files of paired questions end in their number."""
    values = question.row.values
    paired = any(name in values for pair in _PAIRED for name in pair)
    base = question.unique_id or f"{question.video}_{question.row.number - 1}"
    if part != "consistency" and not paired:
        return replace(question, question_type=part, unique_id=f"{part}/{base}")
    number = "" if paired else PurePath(question.row.file).stem[-1]
    unique = f"consistency/{base}/{number}" if number.isdigit() else f"consistency/{base}"
    return replace(question, question_type="consistency", unique_id=unique, pair=base)
