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
_ANSWER_NUMBERS = ("answer_number", "answer_index", "correct_answer")
_INTEGER = re.compile(r"^(-?\d+)(?:\.0+)?$")
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
        ManifestError: the file lacks columns that the benchmark's questions have, or has others.
    """
    rows = [_with_pair(row) for row in rows]
    columns = benchmark.columns
    paired = next((p for p in _PAIRED if set(p) <= rows[0].values.keys()), None)
    _check_column(rows, paired or columns.question)
    _check_column(rows, columns.video)
    answers = _answers(rows, benchmark, repairs)
    is_choice = _is_choice([options for _, options in answers], rows, benchmark, repairs)
    questions = [
        _question(row, answer, options, is_choice, benchmark, repairs)
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
        for number, name in enumerate(paired, start=1)
    ]


def _with_pair(row: SourceRow) -> SourceRow:
    """A row whose `question` is a list of two, as some copies of VCGBench have it, in columns."""
    asked = row.values.get("question")
    if not isinstance(asked, list) or len(asked) != 2:
        return row
    return replace(row, values=row.values | dict(zip(_PAIRED[0], asked, strict=True)))


def _check_column(rows: Sequence[SourceRow], names: tuple[str, ...]) -> None:
    if not any(name in row.values for row in rows for name in names):
        found = ", ".join(rows[0].values)
        raise ManifestError(f"{rows[0].file} has no column {' or '.join(names)}; it has: {found}")


def _is_choice(
    options: Sequence[tuple[str, ...]],
    rows: Sequence[SourceRow],
    benchmark: Benchmark,
    repairs: Repairs,
) -> bool:
    """Whether the file's questions are multiple choice, as the benchmark's are."""
    is_choice = any(options)
    wanted = benchmark.has_options
    if wanted is not None and is_choice != wanted:
        has, rule = ("options", "without") if is_choice else ("no options", "with")
        raise ManifestError(
            f"{rows[0].file} has {has} to choose from, but {benchmark.title} asks {rule}: it is "
            "no file of this benchmark"
        )
    for given, row in zip(options, rows, strict=True):
        if is_choice and len(given) < 2:
            repairs.note("a row with fewer than two options: kept, can't be asked", row.place)
    return is_choice


def _question(
    row: SourceRow,
    answer: str | None,
    options: tuple[str, ...],
    is_choice: bool,
    benchmark: Benchmark,
    repairs: Repairs,
) -> Question:
    columns = benchmark.columns
    video = _text(row.first(columns.video), row, repairs)
    source_id = _text(row.first(columns.question_id), row, repairs)
    unique = _text(row.first(columns.unique_id), row, repairs)
    if unique is None and is_choice and video and source_id:
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
        scorer=Scorer.MULTIPLE_CHOICE if is_choice else benchmark.scorer,
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
    texts = [_text(row.first(benchmark.columns.answer), row, repairs) for row in rows]
    given = [text for text in texts if text is not None]
    # One damaged answer doesn't turn the numbers of a file into texts.
    are_numbers = 2 * sum(_integer(text) is not None for text in given) > len(given)
    answers = []
    for row, text, offered in zip(rows, texts, options, strict=True):
        number = _integer(row.first(_ANSWER_NUMBERS))
        if number is None and text is None:
            text = _text(row.first(_ANSWER_NUMBERS), row, repairs)
        elif number is None and offered and are_numbers and _integer(text) is not None:
            number, text = _integer(text), None
        answers.append((_right_answer(number, text, offered, row, repairs), offered))
    return answers


def _integer(value: Any) -> int | None:
    match = _INTEGER.match(str(value).strip())
    return int(match[1]) if match else None


def _right_answer(
    number: int | None,
    text: str | None,
    options: tuple[str, ...],
    row: SourceRow,
    repairs: Repairs,
) -> str | None:
    """The letter of the right option; without options the answer's text."""
    if not options:
        return text if number is None or text is not None else str(number)
    if number is not None and 0 <= number < len(options):
        if text is not None and text.lower() != options[number].lower():
            repairs.note("an answer's number and text disagree: the number stands", row.place)
        return ascii_uppercase[number]
    if text is None:
        if number is not None:
            repairs.note("an answer number without an option: left without reference", row.place)
        return None
    same = [i for i, option in enumerate(options) if option == text]
    if not same:
        same = [i for i, option in enumerate(options) if option.lower() == text.lower()]
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
    if not isinstance(listed, list):
        numbered = sorted(
            (int(match[1]), value)
            for name, value in row.values.items()
            if (match := _OPTION.match(name))
        )
        listed = [value for _, value in numbered]
    # An option that is missing keeps its place: answers are numbers of places.
    if None in listed:
        repairs.note("an option without text", row.place)
    return tuple(repairs.clean("" if o is None else str(o), row.place) for o in listed)


def _with_types(questions: list[Question], benchmark: Benchmark) -> list[Question]:
    """Readable question types, the tasks of TGIF-QA and the parts of VCGBench among them."""
    if benchmark.name == "tgif-qa":
        task = _tgif_task(questions)
        if task == "count":
            return [replace(q, question_type=task, scorer=Scorer.COUNT) for q in questions]
        if task != "frameqa":
            return [replace(q, question_type=task) for q in questions]
    if benchmark.scorer is Scorer.GENERATION:
        part = _part_of(questions)
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


def _part_of(questions: list[Question]) -> str:
    """The part of VCGBench that a file is."""
    values = questions[0].row.values
    if any(name in values for pair in _PAIRED for name in pair):
        return "consistency"
    part = _named(questions, (*_GENERATION_NAMES, ""))
    if not part:
        raise ManifestError(
            f"{questions[0].row.file} doesn't tell which part of VCGBench it is: its name must "
            f"hold one of {', '.join(_GENERATION_NAMES)}"
        )
    return part


def _generation_part(question: Question, part: str) -> Question:
    """The parts share the source's ids; two files of paired questions end in their number."""
    values = question.row.values
    paired = any(name in values for pair in _PAIRED for name in pair)
    base = question.unique_id or f"{question.video}_{question.row.number - 1}"
    if part != "consistency":
        return replace(question, question_type=part, unique_id=f"{part}/{base}")
    number = "" if paired else PurePath(question.row.file).stem[-1]
    unique = f"consistency/{base}/{number}" if number.isdigit() else f"consistency/{base}"
    return replace(question, question_type="consistency", unique_id=unique, pair=base)
