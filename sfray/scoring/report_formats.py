"""A report as Markdown, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence

from sfray.scoring.compare import Comparison
from sfray.scoring.report import Line, Section

_HEAD = (
    "benchmark",
    "metric",
    "score",
    "95 % interval",
    "answered / asked",
    "videos missing",
    "failures",
    "published",
)

_TYPE_HEAD = ("benchmark", "question type", "metric", "score", "95 % interval", "questions")

_CSV_HEAD = (
    *("output", "benchmark", "split", "model_id", "fingerprint", "question_type", "metric"),
    *("title", "value", "low", "high", "num_scored", "num_unjudged", "num_answered", "num_asked"),
    *("coverage", "num_videos", "num_videos_missing", "failures", "published"),
)


def as_json(sections: Sequence[Section]) -> str:
    """All that is known, for programs."""
    return json.dumps([section.as_dict() for section in sections], indent=2, ensure_ascii=False)


def as_csv(sections: Sequence[Section]) -> str:
    """One row a metric and question type; `question_type` is empty for the whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for section in sections:
        whole = section.coverage
        for line in (*section.lines, *section.by_type):
            writer.writerow(
                [
                    *(section.output, section.benchmark, section.split, section.model_id),
                    *(section.fingerprint, line.question_type, line.metric, line.title),
                    *(f"{line.value:.4f}", f"{line.low:.4f}", f"{line.high:.4f}"),
                    *(line.num_scored, line.num_open, whole.num_answered, whole.num_asked),
                    *(f"{whole.share:.4f}", whole.num_videos, whole.num_videos_missing),
                    *(json.dumps(whole.failures), json.dumps(line.published)),
                ]
            )
    return text.getvalue()


def as_markdown(sections: Sequence[Section]) -> str:
    """One table of all scores, one by question type, and what a reader must know beside them.

    Where sections of one benchmark come from several outputs or configurations, as ablations do,
    a first column names them.
    """
    names = _names(sections)
    head = ("output",) * bool(names)
    named = [(section, names[place : place + 1]) for place, section in enumerate(sections)]
    rows = [(*name, *row) for section, name in named for row in _rows(section)]
    parts = [_table((*head, *_HEAD), iter(rows))]
    by_type = [(*name, *row) for section, name in named for row in _type_rows(section)]
    if by_type:
        parts.append("By question type\n\n" + _table((*head, *_TYPE_HEAD), iter(by_type)))
    notes = [note for section in sections for note in (*_notes(section), _grouping(section))]
    parts.append("\n".join(f"- {note}" for note in dict.fromkeys(notes)))
    return "\n\n".join(parts) + "\n"


def comparison_markdown(comparisons: Sequence[Comparison]) -> str:
    """One row a metric that both outputs have."""
    head = (
        *("benchmark", "metric", "A", "B", "B - A", "95 % interval", "p", "questions"),
        *("B better / worse", "only A / only B"),
    )
    rows = (
        (
            *(c.benchmark or "-", c.title, f"{c.value_a:.2f}", f"{c.value_b:.2f}"),
            *(f"{c.difference:+.2f}", f"{c.low:+.2f} to {c.high:+.2f}", f"{c.p_value:.3f}"),
            *(str(c.num_shared), f"{c.num_better} / {c.num_worse}"),
            f"{c.num_only_a} / {c.num_only_b}",
        )
        for c in comparisons
    )
    return _table(head, rows) + "\n"


def _names(sections: Sequence[Section]) -> list[str]:
    """What tells each section's origin: its output's last part where that is enough, and the
    fingerprint where an output holds several; empty if nothing needs to be told apart."""
    asked = [(section.benchmark, section.scorer) for section in sections]
    if len(set(asked)) == len(asked):
        return []
    outputs = {section.output for section in sections}
    short = {output: output.rstrip("/").rsplit("/", 1)[-1] for output in outputs}
    if len(set(short.values())) < len(outputs):
        short = {output: output for output in outputs}
    configurations = Counter(o for o, _ in {(s.output, s.fingerprint) for s in sections})
    return [
        f"{short[s.output]} ({s.fingerprint})" if configurations[s.output] > 1 else short[s.output]
        for s in sections
    ]


def _rows(section: Section) -> Iterator[tuple[str, ...]]:
    whole = section.coverage
    failures = ", ".join(f"{code} {n}" for code, n in whole.failures.items()) or "none"
    cover = (
        f"{whole.num_answered} / {whole.num_asked} ({whole.share:.1%})",
        f"{whole.num_videos_missing} of {whole.num_videos}",
        failures,
    )
    for line in section.lines:
        published = ", ".join(f"{model} {value:g}" for model, value in line.published.items())
        yield (section.title, _title(line), *_numbers(line), *cover, published or "-")
    if not section.lines:
        yield (section.title, "no reference answers", "-", "-", *cover, "-")


def _type_rows(section: Section) -> Iterator[tuple[str, ...]]:
    for line in section.by_type:
        kind = line.question_type or ""
        yield (section.title, kind, _title(line), *_numbers(line), str(line.num_scored))


def _numbers(line: Line) -> tuple[str, str]:
    return f"{line.value:.2f}", f"{line.low:.2f} to {line.high:.2f}"


def _title(line: Line) -> str:
    if not line.num_open:
        return line.title
    return f"{line.title}; {line.num_open} of {line.num_scored} not judged, counted as wrong"


def _notes(section: Section) -> Iterator[str]:
    whole = section.coverage
    split = f", of the size of {section.split}" if section.split else ""
    yield (
        f"{section.title}: output {section.output}, model {section.model_id or 'unknown'}, "
        f"fingerprint {section.fingerprint}{split}."
    )
    if whole.num_answered < whole.num_asked:
        yield f"{section.title}: what was asked and not answered counts as wrong."
    if whole.num_undecided:
        yield (
            f"{section.title}: {whole.num_undecided} answers name no option or several; "
            "they count as wrong."
        )
    if whole.num_empty:
        yield f"{section.title}: {whole.num_empty} answers are empty; they count as wrong."
    if whole.num_without_reference:
        yield (
            f"{section.title}: {whole.num_without_reference} questions have no reference answer "
            "and are in no score."
        )
    if section.source:
        yield f"{section.title}: published numbers from {section.source}."
        if section.split is None:
            yield (
                f"{section.title}: {whole.num_asked} questions on {whole.num_videos} videos are of "
                "the size of no published part, so the published numbers are of other questions."
            )


def _grouping(section: Section) -> str:
    """The same for all sections of an output and configuration."""
    known = section.grouping
    return (
        f"{section.output}: {known.num_questions} questions on {known.num_clips} clips; asking "
        f"them together saved {known.num_fetches_saved} fetches, and {known.num_passes_saved} "
        "each of decodes, encodes and prefills."
    )


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
