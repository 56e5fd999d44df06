"""Official question files to a manifest, with an account of every row."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from sfray.errors import ManifestError
from sfray.scoring.benchmarks.benchmark import Benchmark, Scorer
from sfray.scoring.benchmarks.definitions import BENCHMARKS
from sfray.scoring.benchmarks.questions import Question, questions_of
from sfray.scoring.benchmarks.tables import Repairs, SourceRow, read_rows, read_text
from sfray.scoring.benchmarks.videos import VideoFiles, stems

# Columns that must reach the results for a report; jobs name them in `manifest.passthrough`.
REPORT_COLUMNS = ("benchmark", "scorer", "question_type", "pair_id", "source_question_id")
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("video_uri", pa.string()),
        pa.field("video_id", pa.string()),
        pa.field("question_id", pa.string()),
        pa.field("question", pa.string()),
        pa.field("options", pa.list_(pa.string())),
        pa.field("answer", pa.string()),
        *(pa.field(name, pa.string()) for name in REPORT_COLUMNS),
        pa.field("answer_text", pa.string()),
        pa.field("source_file", pa.string()),
        pa.field("source_row", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What became of the rows of the source.

    Attributes:
        num_collapsed: rows equal to another in every column that has a name.
        num_repeated: questions that a video has again under another id; they are kept, since
            their reference answers may differ.
        num_ids_changed: questions whose id is not the source's own, so that ids are unique; the
            source's is in `source_question_id`.
        num_without_answer: questions without a reference; they are asked but not scored.
        num_without_video, num_without_question: rows that lack the one or the other; the run
            records them as `invalid_row`.
        num_unpaired: questions of VCGBench's pairs whose other one is in no file.
        num_unused_answers: answers to questions that no file asks.
        split: the published part of the benchmark that has this size, if there is one.
        videos_missing: names of the videos that weren't found; None where none were looked for.
    """

    benchmark: str
    num_read: int
    num_kept: int
    num_collapsed: int
    num_repeated: int
    num_ids_changed: int
    num_without_answer: int
    num_without_video: int
    num_without_question: int
    num_unpaired: int
    num_unused_answers: int
    num_videos: int
    split: str | None
    videos_missing: tuple[str, ...] | None
    repairs: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The account as JSON values."""
        return asdict(self)


def convert(
    benchmark: Benchmark,
    files: Sequence[Path],
    *,
    root: str = "",
    video_paths: Iterable[str] | None = None,
) -> tuple[pa.Table, Conversion]:
    """The manifest of a benchmark's files, and what became of their rows.

    Args:
        files: question files, files of answers to them, and maps of video names, in any order.
        root: what video URIs begin with, a slash at its end.
        video_paths: the files below the root; None doesn't look for videos.

    Raises:
        ManifestError: a file can't be read, or isn't one of this benchmark.
    """
    repairs = Repairs()
    source = _read(benchmark, files, repairs)
    rows, num_collapsed = _collapse(source.rows)
    by_file: dict[str, list[SourceRow]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    questions = [q for part in by_file.values() for q in questions_of(part, benchmark, repairs)]
    _check_video_names(questions, benchmark)
    if len({q.scorer is Scorer.MULTIPLE_CHOICE for q in questions}) > 1:
        raise ManifestError(
            "these files hold questions with options and without: convert them one at a time, "
            "since a job has one task"
        )
    if benchmark.answers_are_public and all(q.answer is None for q in questions):
        raise ManifestError(
            f"no answer to any question of {', '.join(by_file)}: give the file of answers too, or "
            f"one with a column {' or '.join(benchmark.columns.answer)}"
        )
    ids, num_ids_changed = _unique_ids(questions)
    found = VideoFiles(video_paths, benchmark.extensions) if video_paths is not None else None
    videos = _Videos(benchmark, source.video_map, found, root)
    table = pa.Table.from_pylist(
        [videos.manifest_row(q, i) for q, i in zip(questions, ids, strict=True)],
        schema=MANIFEST_SCHEMA,
    )
    num_videos = len(set(table["video_id"].drop_null().to_pylist()))
    asked = Counter((q.video, q.question) for q in questions)
    pairs = Counter((q.video, q.pair) for q in questions if q.pair is not None)
    account = Conversion(
        benchmark=benchmark.name,
        num_read=len(source.rows),
        num_kept=len(questions),
        num_collapsed=num_collapsed,
        num_repeated=sum(number - 1 for number in asked.values()),
        num_ids_changed=num_ids_changed,
        num_without_answer=sum(q.answer is None for q in questions),
        num_without_video=sum(q.video is None for q in questions),
        num_without_question=sum(q.question is None for q in questions),
        num_unpaired=sum(number == 1 for number in pairs.values()),
        num_unused_answers=source.num_unused_answers,
        num_videos=num_videos,
        split=next((s.name for s in benchmark.splits if s.has_size(len(ids), num_videos)), None),
        videos_missing=None if found is None else tuple(sorted(videos.missing)),
        repairs=repairs.places,
    )
    return table, account


def _check_video_names(questions: Sequence[Question], benchmark: Benchmark) -> None:
    """Refuses files whose videos are called as those of another benchmark, and not as its own."""
    names = {PurePosixPath(q.video).stem for q in questions if q.video is not None}
    own = benchmark.video_names
    if own is None or any(re.fullmatch(own, name) for name in names):
        return
    for other in BENCHMARKS.values():
        alike = other.video_names
        if alike is not None and names and all(re.fullmatch(alike, name) for name in names):
            raise ManifestError(
                f"{questions[0].row.file} is no file of {benchmark.title}: its videos, such as "
                f"{min(names)!r}, are called as those of {other.title}"
            )


@dataclass(frozen=True, slots=True)
class _Source:
    rows: list[SourceRow]
    num_unused_answers: int
    video_map: dict[str, str]


def _read(benchmark: Benchmark, files: Sequence[Path], repairs: Repairs) -> _Source:
    """Sorts the files into questions, answers and maps, and puts answers to their questions."""
    rows: list[SourceRow] = []
    answers: dict[str, list[dict[str, Any]]] = {}
    video_map: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".txt" and (mapping := _video_map(read_text(path, repairs))):
            video_map |= mapping
            continue
        value = _plain_object(path)
        if value and all(_is_number(v) for v in value.values()):
            for key, number in value.items():
                answers.setdefault(key, []).append({"answer_number": number})
        elif value and all(isinstance(v, str) for v in value.values()):
            video_map |= value
        else:
            read = read_rows(path, repairs)
            if any(_asks(row, benchmark) for row in read):
                rows += read
            else:
                for key, row in _by_question(read, benchmark).items():
                    answers.setdefault(key, []).extend(row)
    if not rows:
        raise ManifestError(
            f"no file of questions among: {', '.join(path.name for path in files)} (a question "
            f"stands in a column {' or '.join(benchmark.columns.question)})"
        )
    if not answers:
        return _Source(rows, 0, video_map)
    joined = _with_answers(rows, answers, benchmark, repairs)
    asked = {_question_key(row, benchmark) for row in rows}
    num_unused = sum(len(given) for key, given in answers.items() if key not in asked)
    return _Source(joined, num_unused, video_map)


def _with_answers(
    rows: list[SourceRow],
    answers: dict[str, list[dict[str, Any]]],
    benchmark: Benchmark,
    repairs: Repairs,
) -> list[SourceRow]:
    """The rows with their answers; ids that several share, as TGIF-QA's, go by their order."""
    sharing = Counter(_question_key(row, benchmark) for row in rows)
    met: Counter[str] = Counter()
    joined = []
    for row in rows:
        key = _question_key(row, benchmark)
        given = answers.get(key, [])
        number = met[key]
        met[key] += 1
        if len(given) == sharing[key]:
            answer = given[number]
        elif given and all(other == given[0] for other in given):
            answer = given[0]
        else:
            answer = {}
            if given:
                repairs.note("an id with too many or too few answers: left without", row.place)
        joined.append(replace(row, values=row.values | answer))
    return joined


def _asks(row: SourceRow, benchmark: Benchmark) -> bool:
    names = {*benchmark.columns.question, "Q1", "question_1", "question1"}
    return not names.isdisjoint(row.values)


def _by_question(read: list[SourceRow], benchmark: Benchmark) -> dict[str, list[dict[str, Any]]]:
    """The rows of a file of answers by the questions' ids, in their order."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for row in read:
        answers.setdefault(_question_key(row, benchmark), []).append(row.values)
    return answers


def _question_key(row: SourceRow, benchmark: Benchmark) -> str:
    return str(row.first(benchmark.columns.question_id))


def _video_map(text: str) -> dict[str, str] | None:
    """MSVD's `youtube_mapping.txt`: the source's names and the numbers that questions have."""
    pairs = [line.split() for line in text.splitlines()]
    if pairs and all(len(pair) in (0, 2) for pair in pairs):
        return {pair[1]: pair[0] for pair in pairs if pair}
    return None


def _is_number(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isdigit())


def _plain_object(path: Path) -> dict[str, Any] | None:
    """A JSON object of plain values, else None.

    EgoSchema's `subset_answers.json` has the number of the right option by question, NExT-QA's
    `map_vid_vidorID.json` a path by video.
    """
    if path.suffix.lower() != ".json":
        return None
    text = read_text(path, Repairs())
    if not text.lstrip().startswith("{"):  # a list of questions, by far the larger files
        return None
    try:
        value = json.loads(text)
    except ValueError:  # JSON lines, or damage that the reading of rows will name
        return None
    return value if not any(isinstance(v, dict | list) for v in value.values()) else None


def _collapse(rows: list[SourceRow]) -> tuple[list[SourceRow], int]:
    """Rows of one file that are equal in every named column become one."""
    kept: dict[tuple[str, str], SourceRow] = {}
    for row in rows:
        kept.setdefault((row.file, repr(sorted(row.values.items()))), row)
    return list(kept.values()), len(rows) - len(kept)


def _unique_ids(questions: list[Question]) -> tuple[list[str], int]:
    """An id for each question, no two alike: the source's, else made of it."""
    given = [q.unique_id or f"{q.row.file}/{q.row.number}" for q in questions]
    times = Counter(given)
    taken = {base for base, number in times.items() if number == 1}
    ids = []
    for question, base in zip(questions, given, strict=True):
        if times[base] > 1:
            shared = f"{base}/{question.video or question.row.file}"
            numbered = (f"{shared}#{number}" for number in count(2))
            base = next(i for i in chain([shared], numbered) if i not in taken)
            taken.add(base)
        ids.append(base)
    made = sum(i != q.source_id for i, q in zip(ids, questions, strict=True))
    return ids, made


class _Videos:
    """Where the questions' videos lie; `missing` gathers the names of those not found."""

    def __init__(
        self,
        benchmark: Benchmark,
        mapping: Mapping[str, str],
        found: VideoFiles | None,
        root: str,
    ) -> None:
        self._benchmark = benchmark
        self._mapping = mapping
        self._found = found
        self._root = root
        self.missing: set[str] = set()

    def manifest_row(self, question: Question, question_id: str) -> dict[str, Any]:
        """A row of `MANIFEST_SCHEMA`."""
        video_id, uri = (None, None) if question.video is None else self._lookup(question.video)
        letter = question.answer
        options = question.options
        text = options["ABCDEFGHIJ".index(letter)] if options and letter else letter
        return {
            "video_uri": uri,
            "video_id": video_id,
            "question_id": question_id,
            "question": question.question,
            "options": list(options) or None,
            "answer": letter,
            "benchmark": self._benchmark.name,
            "scorer": question.scorer.value,
            "question_type": question.question_type,
            "pair_id": question.pair,
            "source_question_id": question.source_id,
            "answer_text": text,
            "source_file": question.row.file,
            "source_row": question.row.number,
        }

    def _lookup(self, name: str) -> tuple[str, str]:
        tried = stems(self._benchmark, name, self._mapping)
        path = self._found.find(tried) if self._found else None
        if path is None:
            path = f"{tried[0]}{self._benchmark.extensions[0]}"
            if self._found:
                self.missing.add(tried[0])
        return tried[0].rsplit("/", 1)[-1], f"{self._root}{path}"
