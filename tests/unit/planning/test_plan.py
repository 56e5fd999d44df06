from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import JobSpec, parse_job_spec
from sfray.errors import CheckpointError, SpecError
from sfray.planning.outlook import outlook
from sfray.planning.plan import JobPlan, make_plan
from sfray.planning.work_items import work_item_blocks
from sfray.runs.run import run_job

PARITY = Path(__file__).parents[2] / "resources" / "parity" / "checkpoint"


def job(folder: Path, questions: tuple[str, ...] = ("What?",), **changes: Any) -> JobSpec:
    path = folder / "manifest.parquet"
    rows = [
        {"video_uri": f"v{n}.mp4", "question_id": "q", "question": text}
        for n, text in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    base = {
        "manifest": {"uri": str(path)},
        "task": "qa",
        "model": {"id": "demo"},
        "output": {"uri": str(folder / "out")},
    }
    return parse_job_spec(base | changes)


def plan(folder: Path, questions: tuple[str, ...] = ("What?",), **changes: Any) -> JobPlan:
    return make_plan(job(folder, questions, **changes))


def test_the_preset_fills_what_the_job_leaves_open(tmp_path: Path) -> None:
    spec = plan(tmp_path).spec
    assert (spec.sampling.num_frames, spec.pooling.num_slow_frames) == (8, 4)
    assert spec.pooling.fast_grid == (4, 4)
    other = plan(tmp_path, sampling={"num_frames": 4}, pooling={"fast_grid": "off"}).spec
    assert (other.sampling.num_frames, other.pooling.fast_grid) == (4, "off")


def test_workers_find_relative_paths_and_ids_know_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is the same from any folder, its failures too; what workers fetch is absolute."""
    ids = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for root in (None, "below"):
            planned = plan(tmp_path, ("What?", " "), videos={"root": root}).requests
            ids.append([*planned.table["request_id"], *planned.failures["request_id"]])
            (block,) = work_item_blocks(planned.table, planned.passthrough, 10, 1)
            folder = tmp_path / name / (root or "")
            assert block["fetch_uri"].to_pylist() == [f"{folder}/v0.mp4"]
    assert ids[0] == ids[2] and ids[1] == ids[3]


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": {"num_frames": 4}},
        {"sampling": {"seek": "keyframe"}},
        {"pooling": {"slow_pool": "avg_1d"}},
        {"generation": {"seed": 1}},
        {"generation": {"max_new_tokens": 7}},
        {"decode": {"reader": "pyav"}},
        {"model": {"id": "demo", "dtype": "bfloat16"}},
        {"model": {"id": str(PARITY)}},
    ],
)
def test_what_decides_an_answer_changes_the_fingerprint(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    one, two = plan(tmp_path), plan(tmp_path, **change)
    assert one.run.fingerprint != two.run.fingerprint
    assert one.requests.table["request_id"] != two.requests.table["request_id"]


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"decode_workers": {"max": 3}}},
        {"output": {"uri": "elsewhere"}},
        {"decode": {"timeout_seconds": 9}},
        {"name": "another"},
        {"sampling": {"num_frames": 8}},
        {"model": {"id": "demo", "engine": "transformers"}},
    ],
)
def test_what_decides_no_answer_keeps_the_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    one, two = plan(tmp_path), plan(tmp_path, **change)
    assert one.requests.table["request_id"] == two.requests.table["request_id"]


def test_each_prompt_of_a_caption_job_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    def fingerprints(**prompts: str) -> list[str]:
        written = [{"prompt_id": name, "text": text} for name, text in prompts.items()]
        return plan(tmp_path, task="caption", prompts=written).fingerprints

    alone, beside = fingerprints(c="Describe."), fingerprints(c="Describe.", d="Count.")
    assert len(set(beside)) == 2
    assert beside[:1] == alone
    assert fingerprints(c="Describe it.") != alone


def test_a_prompt_beyond_the_context_is_a_failure_of_its_own(tmp_path: Path) -> None:
    made = plan(tmp_path, ("What?", "how " * 2000, "Why? " * 40))
    assert made.requests.table["video_id"].to_pylist() == ["v0.mp4", "v2.mp4"]
    (failure,) = made.requests.failures.to_pylist()
    assert failure["code"] == "prompt_too_long" and failure["video_id"] == "v1.mp4"
    assert "1024" in failure["message"]
    assert made.num_requests == 3


@pytest.mark.parametrize(
    "change", [{"sampling": {"num_frames": 100}}, {"generation": {"max_new_tokens": 800}}]
)
def test_a_job_that_leaves_no_room_for_a_prompt_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"room for 1024"):
        plan(tmp_path, **change)


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.revision is 'abc', but .* 'demo'"):
        plan(tmp_path, model={"id": "demo", "revision": "abc"})


@pytest.mark.parametrize("model_id", ["no/such-model", "missing-folder"])
def test_an_unknown_model_is_one_sentence(tmp_path: Path, model_id: str) -> None:
    with pytest.raises(CheckpointError, match=rf"'{model_id}'.*llava-v1\.6-vicuna-7b"):
        plan(tmp_path, model={"id": model_id})


def test_a_known_hub_model_needs_no_download_to_plan(tmp_path: Path) -> None:
    made = plan(tmp_path, model={"id": "llava-hf/llava-v1.6-vicuna-7b-hf"})
    assert made.num_visual_tokens == 3680
    assert made.spec.sampling.num_frames == 50


def test_the_outlook_counts_what_is_to_do(tmp_path: Path) -> None:
    seen = outlook(job(tmp_path, ("What?", "Why?", " ")))
    assert (
        seen.to_do.plan.num_requests,
        seen.to_do.requests.num_rows,
        seen.to_do.num_answered,
    ) == (3, 2, 0)
    assert seen.to_do.plan.num_visual_tokens == 4 * 32 + 8 * 16
    assert seen.num_prompt_tokens is not None and 0 < seen.num_prompt_tokens < 100
    assert seen.problems == {"invalid_row": (1, "the row has no question")}


def test_several_gpus_a_replica_need_an_engine_that_uses_them(tmp_path: Path) -> None:
    two = {"num_gpus_per_replica": 2}
    with pytest.raises(SpecError, match="several GPUs"):
        plan(tmp_path, resources=two)
    assert plan(tmp_path, resources=two, model={"id": "demo", "engine": "vllm"}).num_requests


def test_the_rope_option_makes_room_and_is_not_for_vllm(tmp_path: Path) -> None:
    model = {"id": "demo", "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    own = plan(tmp_path).profile.max_position_embeddings
    assert plan(tmp_path, model=model).profile.max_position_embeddings == 2 * own
    with pytest.raises(SpecError, match="rope_scaling"):
        plan(tmp_path, model=model | {"engine": "vllm"})


def test_decord_where_it_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    spec = job(tmp_path, decode={"reader": "decord"})
    for plans_or_runs in (outlook, run_job):
        with pytest.raises(
            SpecError, match=r"decode\.reader is 'decord'.*allowed here: auto, pyav"
        ):
            plans_or_runs(spec)
    assert not (tmp_path / "out").exists()
    assert outlook(job(tmp_path)).to_do.plan.num_requests == 1
    # What its identity is can be told anywhere: another machine decodes, or none.
    assert make_plan(spec).num_requests == 1
