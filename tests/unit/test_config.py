from pathlib import Path

import pytest

from sfray.config import JobSpec, load_job_spec, parse_job_spec
from sfray.errors import SpecError

MINIMAL = {
    "manifest": {"uri": "videos.parquet"},
    "task": "qa",
    "model": {"id": "demo"},
    "output": {"uri": "out"},
}


def spec_with(**changes: object) -> dict[str, object]:
    return {**MINIMAL, **changes}


def test_defaults_are_the_documented_ones() -> None:
    spec = parse_job_spec(MINIMAL)
    assert spec.decode.timeout_seconds == 120
    assert spec.videos.allowed_schemes == ("file", "s3", "gs", "https")
    assert (spec.output.flush_rows, spec.output.flush_seconds) == (1000, 30)
    assert (spec.resources.model_replicas.max, spec.resources.decode_workers.max) == (8, 16)
    assert (spec.generation.max_new_tokens, spec.generation.temperature) == (128, 0.0)
    assert spec.limits.max_failure_ratio == 0.05


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"sek": "exact"}}, ["sampling.sek", "num_frames", "seek"]),
        ({"sampling": {"seek": "fast"}}, ["'fast'", "exact", "keyframe"]),
        ({"sampling": {"num_frames": 0}}, ["sampling.num_frames", "0"]),
        ({"sampling": {"num_frames": "50"}}, ["'50'", "integer"]),
        ({"sampling": {"windows": {}}}, ["sampling.windows", "seconds: 60", "scenes: true"]),
        ({"sampling": {"windows": {"secs": 60}}}, ["sampling.windows.secs", "overlap_seconds"]),
        (
            {"sampling": {"windows": {"seconds": 5, "overlap_seconds": 5}}},
            ["sampling.windows", "overlap_seconds 5", "seconds 5"],
        ),
        ({"sampling": {"windows": {"seconds": 5, "scenes": True}}}, ["either", "scenes: true"]),
        ({"sampling": {"windows": {"seconds": 5, "min_seconds": 2}}}, ["min_seconds", "scenes"]),
        ({"generation": {"top_p": 0}}, ["generation.top_p", "greater than 0"]),
        ({"task": "summarise"}, ["'summarise'", "caption", "qa", "multiple_choice"]),
        ({"task": "caption"}, ["at least one prompt"]),
        ({"prompts": [{"prompt_id": "a", "text": "b"}]}, ["questions from the manifest"]),
        ({"resources": {"model_replicas": {"min": 3, "max": 2}}}, ["min 3", "max 2"]),
        ({"resources": {"num_gpus_per_replica": 1.5}}, ["num_gpus_per_replica", "1.5"]),
        ({"videos": {"allowed_schemes": ["ftp"]}}, ["'ftp'", "'https'"]),
        ({"name": "../evil"}, ["name"]),
        ({"modle": {}}, ["modle", "model"]),
        ({"pooling": {"fast_grid": [4]}}, ["pooling.fast_grid: [4]", "[4, 4]", "off"]),
        ({"pooling": {"fast_grid": True}}, ["pooling.fast_grid is True", "[4, 4]"]),
        ({"pooling": {"num_slow_frames": 0, "fast_grid": False}}, ["no pathway"]),
        ({"manifest": {"uri": 5}}, ["manifest.uri is 5", "a valid string or a list"]),
        ({"manifest": {"uri": ""}}, ["manifest.uri is ''", "not empty"]),
        ({"manifest": {"uri": []}}, ["manifest.uri is []", "not empty"]),
        ({"manifest": {"uri": ["a", 5]}}, ["manifest.uri.1 is 5", "a valid string"]),
        ({"resources": {"decode_workers": [1, 2]}}, ["[1, 2]", "a mapping of keys"]),
        ({"resources": {"num_gpus_per_replica": "much"}}, ["a valid number or 'auto'"]),
        ({"generation": {"temperature": float("inf")}}, ["inf", "finite"]),
        ({"generation": {"stop": "END"}}, ["generation.stop is 'END'", "a list"]),
        ({"generation": {"stop": [""]}}, ["generation.stop.0", "not empty"]),
        ({"videos": {"allowed_schemes": []}}, ["allowed_schemes", "not empty"]),
        ({"task": "caption", "prompts": [{"prompt_id": "a", "text": " "}]}, ["blank"]),
    ],
)
def test_a_wrong_value_is_one_sentence_with_what_is_allowed(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_job_spec(spec_with(**changes))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_prompt_ids_are_unique() -> None:
    prompts = [{"prompt_id": "a", "text": "x"}, {"prompt_id": "a", "text": "y"}]
    with pytest.raises(SpecError, match="used once"):
        parse_job_spec(spec_with(task="caption", prompts=prompts))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SpecError, match="'output'"):
        parse_job_spec({k: v for k, v in MINIMAL.items() if k != "output"})


def test_overrides_are_yaml_and_apply_in_order(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("manifest: {uri: a}\ntask: qa\nmodel: {id: demo}\noutput: {uri: out}\n")
    spec = load_job_spec(
        path, ("pooling.fast_grid=[2, 3]", "generation.stop=[a, b]", "output.uri=x", "output.uri=y")
    )
    assert spec.pooling.fast_grid == (2, 3)
    assert spec.generation.stop == ("a", "b")
    assert spec.output.uri == "y"


@pytest.mark.parametrize("override", ["output.uri", "=x", "task.deep=x", "output..uri=x"])
def test_an_override_that_fits_nowhere_is_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("manifest: {uri: a}\ntask: qa\nmodel: {id: demo}\noutput: {uri: out}\n")
    with pytest.raises(SpecError):
        load_job_spec(path, (override,))


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("task: qa\noutput: {uri: out, uri: elsewhere}\n")
    with pytest.raises(SpecError, match="line 2: the key 'uri' is there twice"):
        load_job_spec(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "", "\x00", "name: {{ name }}"])
def test_a_file_that_is_no_job_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_job_spec(path)
    assert "\n" not in str(caught.value)


def test_a_missing_job_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="can't be read"):
        load_job_spec(tmp_path / "none.yaml")


def test_bare_off_switches_the_fast_pathway_off(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "manifest: {uri: a}\ntask: qa\nmodel: {id: demo}\noutput: {uri: out}\n"
        "pooling: {fast_grid: off}\n"
    )
    assert load_job_spec(path).pooling.fast_grid == "off"


def test_a_spec_survives_being_written_and_read() -> None:
    spec = parse_job_spec(spec_with(pooling={"fast_grid": [4, 4]}, manifest={"uri": ["a", "b"]}))
    assert parse_job_spec(spec.model_dump(mode="json")) == spec
    assert isinstance(spec, JobSpec)


JOB = """\
manifest:
  uri: a
task: caption
model: {id: demo}
output:
  uri: out
prompts:
  - prompt_id: a
    text: b
"""


@pytest.mark.parametrize(
    ("old", "new", "overrides", "words"),
    [
        ("  uri: a", "  url: a", (), ["'manifest.url'", ", line 2, did you mean 'uri'?"]),
        ("model:", "modle:", (), ["'modle'", ", line 4, did you mean 'model'?"]),
        ("task: caption", "task: captoin", (), [", line 3:", "did you mean 'caption'?"]),
        ("{id: demo}", "{id: demo, dtype: float23}", (), ["line 4", "did you mean 'float32'?"]),
        ("    text: b", "    txt: b", (), ["'prompts.0.txt'", ", line 9, did you mean 'text'?"]),
        ("    text: b", "    text: 5", (), [", line 9: prompts.0.text is 5"]),
        ("    text: b\n", "", (), ["lacks the key 'prompts.0.text', line 8"]),
        ("  uri: out", "  partition: 1/2", (), ["lacks the key 'output.uri', line 5"]),
        (
            "prompts:\n",
            "pooling: {fast_grid: of}\nprompts:\n",
            (),
            ["line 7: pooling.fast_grid is 'of'"],
        ),
        ("", "", ("sampling.seek=exakt",), ["job file: sampling.seek", "did you mean 'exact'?"]),
        ("", "", ("model.dtyp=auto",), ["in the job file, did you mean 'dtype'?"]),
    ],
)
def test_what_is_misspelt_is_named_with_its_line_and_what_may_be_meant(
    tmp_path: Path, old: str, new: str, overrides: tuple[str, ...], words: list[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load_job_spec(path, overrides)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("{prompt_id: a, text: What happens, and why?}", ["line 8", "instead of inside { }"]),
        ("{prompt_id: a, text: What is it: a dog?}", ["line 8", "instead of inside { }"]),
        ("{prompt_id: a, text: Describe it, please}", [", line 8", "its comma ended that"]),
        ("{prompt_id: a, text: 'Describe it, please}", ["line 8", "not valid YAML"]),
        ("prompt_id: a\n    text: Say it: what?", ["line 9", "a colon needs quotes"]),
    ],
)
def test_a_text_that_breaks_the_line_is_told_with_what_to_write(
    tmp_path: Path, prompt: str, words: list[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("prompt_id: a\n    text: b", prompt))
    with pytest.raises(SpecError) as caught:
        load_job_spec(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "manifest: {uri: https://user:hush@h/m.csv?X-Amz-Signature=hush, columns: {}}",
        "manifest: https://user:hush@h/m.csv?X-Amz-Signature=hush",
        "output: s3://k:hush@b?token=hush",
        "https://user:hush@h/v: 1",
    ],
)
def test_no_secret_of_a_broken_job_file_is_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"task: qa\n{line}\n")
    with pytest.raises(SpecError) as caught:
        load_job_spec(path)
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["2026-13-45", '!!int "x"', "[" * 3000])
def test_what_yaml_stumbles_over_is_one_sentence(tmp_path: Path, value: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"name: {value}\n")
    with pytest.raises(SpecError, match="is not valid YAML"):
        load_job_spec(path)
