"""Job files that `sfray init` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from sfray.commands.init_job import DEFAULT_MODEL, job_file, write_job_file
from sfray.config import JobSpec, StorageSpec, load_job_spec, parse_job_spec
from sfray.errors import SpecError, StorageError

TASKS = ("caption", "qa", "multiple_choice")
REACHED = StorageSpec(endpoint_url="http://h:1", anonymous=True)


def text_of(task: str = "caption", storage: StorageSpec | None = None) -> str:
    return job_file(task, "m.parquet", "demo", "out", storage or StorageSpec())


def uncommented(text: str) -> str:
    """With every key that stands behind a #; explanations have a space and a word after it."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*#( \S|$)", line)]
    return "\n".join(re.sub(r"^(\s*)#", r"\1", line) for line in lines)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("storage", [StorageSpec(), REACHED])
def test_the_file_is_a_job_and_with_all_its_defaults_the_same_one(
    tmp_path: Path, task: str, storage: StorageSpec
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text_of(task, storage))
    job = load_job_spec(path)
    assert (job.task, job.manifest.uri, job.model.id, job.output.uri) == (
        *(task, "m.parquet", "demo", "out"),
    )
    assert job.storage == storage
    path.write_text(uncommented(path.read_text()))
    assert load_job_spec(path) == job


def test_every_key_stands_in_it() -> None:
    values = yaml.safe_load(uncommented(text_of()))
    assert list(values) == list(JobSpec.model_fields)
    for name, field in JobSpec.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert list(values[name]) == list(kind.model_fields)


def test_what_a_section_is_and_what_it_allows_is_said() -> None:
    text = text_of()
    assert 'task: "caption"  # caption | qa | multiple_choice\n' in text
    assert '#  seek: "exact"  # exact | keyframe\n' in text
    assert "  # or a section of: seconds, overlap_seconds, scenes, min_seconds\n" in text
    assert (
        "#  # How many frames of a clip; null: the model preset's.\n#  num_frames: null\n" in text
    )
    assert "prompts:\n  - prompt_id" in text
    assert "None" not in text
    assert "columns question_id, question, options, answer" in text_of("multiple_choice")


@pytest.mark.parametrize(
    "uri", ["s3://b/a: b, c?/#d/*.parquet", "é 😀\u2028\x07.csv", '"quoted"\\.csv', "~", "null"]
)
def test_any_text_comes_back(uri: str) -> None:
    text = job_file("qa", uri, "demo", uri, StorageSpec(profile=uri))
    job = parse_job_spec(yaml.safe_load(text))
    assert (job.manifest.uri, job.output.uri, job.storage.profile) == (uri, uri, uri)


def write(path: Path, *, manifest: str = "m.csv", force: bool = False) -> None:
    write_job_file(
        path,
        task="qa",
        manifest=manifest,
        model=DEFAULT_MODEL,
        output="out",
        storage=StorageSpec(),
        force=force,
    )


def test_a_file_that_is_there_is_written_over_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    write(path)
    before = path.read_text()
    with pytest.raises(SpecError, match=r"job\.yaml is there already: --force"):
        write(path, manifest="other.csv")
    assert path.read_text() == before
    write(path, manifest="other.csv", force=True)
    assert load_job_spec(path).manifest.uri == "other.csv"


def test_what_cant_be_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"manifest\.uri is ''"):
        write(tmp_path / "job.yaml", manifest="")
    assert not (tmp_path / "job.yaml").exists()
    with pytest.raises(StorageError, match=r"none/job\.yaml can't be written: it does not exist"):
        write(tmp_path / "none" / "job.yaml")
