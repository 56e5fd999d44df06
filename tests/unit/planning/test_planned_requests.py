from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import JobSpec, parse_job_spec
from sfray.errors import ManifestError
from sfray.planning.planned_requests import PlannedRequests, plan_requests
from sfray.records import RunIdentity

RUN = RunIdentity(
    run_id="run",
    task="qa",
    fingerprint="f1",
    model_id="demo",
    model_revision=None,
    prompt_fingerprints={"short": "f2", "long": "f3", "caption": "f4"},
)


def plan(
    tmp_path: Path, rows: list[dict[str, Any]], run: RunIdentity = RUN, **changes: Any
) -> PlannedRequests:
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return plan_requests(job(path, **changes), run)


def job(path: Path, **changes: Any) -> JobSpec:
    manifest = {"uri": str(path)} | changes.pop("manifest", {})
    base = {"manifest": manifest, "task": "qa", "model": {"id": "demo"}, "output": {"uri": "out"}}
    return parse_job_spec(base | changes)


def question(video: str, number: int, **more: Any) -> dict[str, Any]:
    row = {"video_uri": f"{video}.mp4", "question_id": f"{video}-{number}", "question": "What?"}
    return {**row, "answer": "a", **more}


def test_scattered_questions_of_a_video_come_together_in_order_of_appearance(
    tmp_path: Path,
) -> None:
    rows = [question("b", 1), question("a", 1), question("b", 2), question("a", 2)]
    table = plan(tmp_path, rows).table
    assert table["prompt_id"].to_pylist() == ["b-1", "b-2", "a-1", "a-2"]


def test_clips_of_a_video_stay_together(tmp_path: Path) -> None:
    clips = [(0.0, 2.0), (None, None), (2.0, 4.0)]
    rows = [
        question(video, n, start_seconds=start, end_seconds=end)
        for n, (start, end) in enumerate(clips)
        for video in ("b", "a")
    ]
    table = plan(tmp_path, rows).table
    assert table["video_id"].to_pylist() == ["b.mp4"] * 3 + ["a.mp4"] * 3
    assert table["start_seconds"].to_pylist() == [None, 0.0, 2.0] * 2


def test_equal_rows_collapse_and_are_counted(tmp_path: Path) -> None:
    planned = plan(tmp_path, [question("a", 1), question("a", 1), question("a", 1)])
    assert (planned.table.num_rows, planned.num_collapsed, planned.num_rows) == (1, 2, 3)
    assert planned.failures.num_rows == 0


def test_rows_that_share_a_question_id_but_differ_all_fail(tmp_path: Path) -> None:
    rows = [question("a", 1), question("a", 1, question="Why?"), question("a", 2)]
    planned = plan(tmp_path, rows)
    assert planned.table["prompt_id"].to_pylist() == ["a-2"]
    assert planned.failures["code"].to_pylist() == ["duplicate_request"] * 2
    assert len(set(planned.failures["request_id"].to_pylist())) == 2


def test_repeated_questions_under_other_ids_stay(tmp_path: Path) -> None:
    planned = plan(tmp_path, [question("a", 1, answer="x"), question("a", 2, answer="y")])
    assert planned.table.num_rows == 2
    assert len(set(planned.table["request_id"].to_pylist())) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"video_uri": None}, "no video_uri"),
        ({"video_uri": "  "}, "no video_uri"),
        ({"question": None}, "no question"),
        ({"question": " \n"}, "no question"),
        ({"start_seconds": 5.0, "end_seconds": 5.0}, "no range"),
        ({"start_seconds": -1.0}, "no range"),
        ({"end_seconds": float("nan")}, "no range"),
    ],
)
def test_a_row_that_is_no_request_is_a_failure(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    nothing = {"start_seconds": None, "end_seconds": None}
    good = question("a", 1, start_seconds=0.0, end_seconds=9.0)
    rows = [good, question("b", 1) | nothing | change]
    planned = plan(tmp_path, rows)
    assert planned.table["video_id"].to_pylist() == ["a.mp4"]
    (failure,) = planned.failures.to_pylist()
    assert failure["code"] == "invalid_row" and reason in failure["message"]
    assert failure["transient"] is False and failure["stage"] == "manifest"


def test_a_row_that_is_no_request_has_the_fingerprint_of_its_prompt(tmp_path: Path) -> None:
    rows = [{"video_uri": "a.mp4", "start_seconds": 9.0, "end_seconds": 0.0}]
    prompts = [{"prompt_id": "caption", "text": "What is there?"}]
    planned = plan(tmp_path, rows, replace(RUN, task="caption"), task="caption", prompts=prompts)
    assert planned.failures["fingerprint"].to_pylist() == ["f4"]


def test_multiple_choice_needs_two_options(tmp_path: Path) -> None:
    rows = [question("a", 1, options=["x", "y"]), question("a", 2, options=["x"])]
    planned = plan(tmp_path, rows, task="multiple_choice")
    assert planned.table["options"].to_pylist() == [["x", "y"]]
    assert planned.failures["code"].to_pylist() == ["invalid_row"]


def test_one_video_id_with_two_uris_is_an_error_of_the_manifest(tmp_path: Path) -> None:
    rows = [question("a", 1, video_id="v"), question("b", 1, video_id="v")]
    with pytest.raises(ManifestError, match=r"'v'.*a\.mp4.*b\.mp4"):
        plan(tmp_path, rows)


def test_captions_use_columns_of_the_manifest(tmp_path: Path) -> None:
    rows = [{"video_uri": "a.mp4", "source": "drone"}, {"video_uri": "b.mp4", "source": "car"}]
    prompts = [
        {"prompt_id": "short", "text": "Describe what {source} shows."},
        {"prompt_id": "long", "text": "Describe {{all}}."},
    ]
    table = plan(tmp_path, rows, task="caption", prompts=prompts).table
    assert table["prompt"].to_pylist() == [
        "Describe what drone shows.",
        "Describe {all}.",
        "Describe what car shows.",
        "Describe {all}.",
    ]
    assert table["fingerprint"].to_pylist() == ["f2", "f3"] * 2


def test_identity_follows_content(tmp_path: Path) -> None:
    def ids(rows: list[dict[str, Any]], run: RunIdentity = RUN) -> list[str]:
        return plan(tmp_path, rows, run).table["request_id"].to_pylist()

    first = ids([question("a", 1)])
    assert ids([question("a", 1)]) == first
    assert ids([question("a", 1, answer="other")]) == first
    assert ids([question("a", 1, question="Why?")]) != first
    assert ids([question("a", 1, start_seconds=1.0)]) != first
    changed = RunIdentity(
        run_id="other", task="qa", fingerprint="f2", model_id="demo", model_revision=None
    )
    assert ids([question("a", 1)], changed) != first


def test_a_signed_uri_keeps_its_identity_and_hides_its_signature(tmp_path: Path) -> None:
    def row(signature: str) -> dict[str, Any]:
        uri = f"https://host/a.mp4?part=2&X-Amz-Signature={signature}"
        return {"video_uri": uri, "question_id": "q", "question": "What?"}

    one, two = (plan(tmp_path, [row(s)]).table for s in ("secret1", "secret2"))
    assert one["request_id"].to_pylist() == two["request_id"].to_pylist()
    assert one["video_uri"].to_pylist() == ["https://host/a.mp4?part=2"]
    assert "secret1" in one["fetch_uri"].to_pylist()[0]


def test_passthrough_keeps_its_types(tmp_path: Path) -> None:
    rows = [question("a", 1, rank=3, tags=["x"]), question("b", 1, rank=None, tags=None)]
    planned = plan(tmp_path, rows, manifest={"passthrough": ["rank", "tags"]})
    assert planned.table["rank"].to_pylist() == [3, None]
    assert planned.table["tags"].to_pylist() == [["x"], None]


def test_a_limit_takes_the_first_in_the_order_of_work(tmp_path: Path) -> None:
    rows = [question("a", 1), question("b", 1), question("a", 2), question("c", 1, question=None)]
    planned = plan(tmp_path, rows)
    assert planned.first(2).table["prompt_id"].to_pylist() == ["a-1", "a-2"]
    assert planned.first(2).failures.num_rows == 0
    assert planned.first(9).failures.num_rows == 1


def test_captions_over_a_manifest_of_questions_ask_once_a_video(tmp_path: Path) -> None:
    rows = [question("a", 1, answer="x"), question("a", 2, answer="y"), {"video_uri": "b.mp4"}]
    rows[2]["answer"] = "A caption."
    prompts = [{"prompt_id": "caption", "text": "Describe it."}]
    planned = plan(tmp_path, rows, task="caption", prompts=prompts)
    assert planned.table["reference_answer"].to_pylist() == [None, "A caption."]
    assert (planned.num_collapsed, planned.failures.num_rows) == (1, 0)


def test_any_name_can_be_passed_through(tmp_path: Path) -> None:
    rows = [question("a", 1, row=3), question("a", 1, row=3)]
    planned = plan(tmp_path, rows, manifest={"passthrough": ["row"]})
    assert planned.table["row"].to_pylist() == [3] and planned.num_collapsed == 1


def test_relative_uris_lie_under_the_root_and_keep_their_identity(tmp_path: Path) -> None:
    rows = [question("a", 1), question("https://host/b", 1)]
    planned = plan(tmp_path, rows, videos={"root": "s3://bucket/videos/"})
    assert planned.table["fetch_uri"].to_pylist() == [
        "s3://bucket/videos/a.mp4",
        "https://host/b.mp4",
    ]
    assert planned.table["video_uri"].to_pylist() == ["a.mp4", "https://host/b.mp4"]
    same = plan(tmp_path, rows, videos={"root": "s3://mirror/"}).table
    assert same["request_id"] == planned.table["request_id"]


def test_partitions_have_all_requests_once_and_a_video_in_one_of_them(tmp_path: Path) -> None:
    rows = [question(f"v{video}", n) for n in range(3) for video in range(20)]
    rows += [question("spoilt", 1) | {"video_uri": None}, question("v3", 1, question="Else?")]
    rows.append(question("other", 1, video_id="v7.mp4-again"))
    whole = plan(tmp_path, rows)
    parts = [plan(tmp_path, rows, output={"uri": "out", "partition": f"{i}/3"}) for i in range(3)]
    for name in ("table", "failures"):
        ids = [i for part in parts for i in getattr(part, name)["request_id"].to_pylist()]
        assert sorted(ids) == sorted(getattr(whole, name)["request_id"].to_pylist())
    assert whole.failures.num_rows == 3
    assert sum(part.num_rows for part in parts) == len(rows)
    videos = [set(part.table["video_id"].to_pylist()) for part in parts]
    assert all(videos) and sum(map(len, videos)) == len(set.union(*videos))
