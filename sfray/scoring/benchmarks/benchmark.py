"""What a benchmark is: a declaration of its files, videos, scorer, sizes and published numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Scorer(StrEnum):
    """How the answers to a question are scored; a column of the manifest and of the results."""

    MULTIPLE_CHOICE = "multiple_choice"
    OPEN_ENDED = "open_ended"
    COUNT = "count"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a benchmark as its authors publish it; `num_videos` is None where not known."""

    name: str
    num_questions: int
    num_videos: int | None = None

    def has_size(self, num_questions: int, num_videos: int) -> bool:
        """Whether so many questions on so many videos may be this part."""
        return num_questions == self.num_questions and self.num_videos in (None, num_videos)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How the columns of the source files are called; the first one that a row has is taken.

    Attributes:
        unique_id: columns that hold an id unique to the question, where `question_id` is not.
    """

    video: tuple[str, ...] = ("video_name", "gif_name", "video", "q_uid", "video_id")
    question: tuple[str, ...] = ("question", "Q")
    answer: tuple[str, ...] = ("answer", "A")
    question_id: tuple[str, ...] = ("question_id", "qid", "q_uid", "id", "key")
    unique_id: tuple[str, ...] = ()
    question_type: tuple[str, ...] = ("question_type", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark.

    Attributes:
        scorer: of a row without options; rows with options are always multiple choice.
        has_options: whether its questions have options; None where some of its tasks do.
        answers_are_public: False where questions may come without their answers.
        video_stems: patterns of a video's file name without extension, `{}` being the name in
            the source; the first one is its canonical name and its `video_id`.
        video_names: what the source's names are like, where that tells benchmarks of the same
            columns from each other.
        extensions: of video files, in the order in which they are tried.
        question_types: readable names of the source's codes; None reads the first word of the
            question where the source tells no types.
        published: accuracy in per cent or scores of 0 to 5, by model and metric.
        source: where the published numbers are printed.
    """

    name: str
    title: str
    scorer: Scorer
    splits: tuple[Split, ...]
    published: Mapping[str, Mapping[str, float]]
    source: str
    has_options: bool | None = False
    answers_are_public: bool = True
    columns: Columns = field(default_factory=Columns)
    video_stems: tuple[str, ...] = ("{}",)
    video_names: str | None = None
    extensions: tuple[str, ...] = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")
    question_types: Mapping[str, str] | None = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What it is and what is published of it, as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "scorer": self.scorer.value,
            "splits": [asdict(split) for split in self.splits],
            "published": {model: dict(numbers) for model, numbers in self.published.items()},
            "source": self.source,
        }
