from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from sfray.columns import outcomes_schema
from sfray.records import (
    DecodedItem,
    DecodedVideo,
    Generation,
    Outcome,
    Request,
    RequestFailure,
    RunIdentity,
    VideoFacts,
    VideoSource,
    WorkItem,
    clip_id,
    decoded_item_from_table,
    decoded_item_table,
    decoded_items_schema,
    outcome_row,
    work_item_from_row,
    work_item_row,
    work_items_schema,
)

PASSTHROUGH = pa.schema([pa.field("source", pa.string()), pa.field("rank", pa.int64())])
NOW = datetime(2026, 11, 28, 12, 30, 0, 123456, tzinfo=UTC)
RUN = RunIdentity(run_id="run", task="qa", fingerprint="f", model_id="demo", model_revision="abc")


def work_item() -> WorkItem:
    request = Request(
        request_id="r1",
        prompt_id="p",
        prompt="What?\nWhere?",
        options=("a", "b"),
        reference_answer="a",
        passthrough={"source": "web", "rank": None},
    )
    return WorkItem(
        video_id="v",
        video_uri="s3://b/v.mp4",
        fetch_uri="s3://b/v.mp4",
        start_seconds=1.5,
        end_seconds=None,
        requests=(request,),
        attempt=2,
    )


def decoded_video() -> DecodedVideo:
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    return DecodedVideo(
        frames_THWC=frames,
        frame_indices=np.array([3, 7]),
        pts_seconds=np.array([0.1, 0.25]),
        facts=VideoFacts(codec="h264", width=4, height=4, num_frames=9),
        reader="pyav",
        reader_reason="why",
        num_substituted_frames=1,
    )


def test_a_work_item_survives_arrow() -> None:
    table = pa.Table.from_pylist(
        [work_item_row(work_item())], schema=work_items_schema(PASSTHROUGH)
    )
    assert work_item_from_row(table.to_pylist()[0]) == work_item()


def test_frames_survive_arrow_without_a_copy() -> None:
    source = VideoSource(size_bytes=7, etag="e", sha256="5")
    decoded = DecodedItem(
        item=work_item(), video=decoded_video(), failure=None, source=source, bytes_fetched=5
    )
    schema = decoded_items_schema(PASSTHROUGH)
    table = decoded_item_table(decoded, schema)
    table.validate(full=True)
    assert table.schema == schema
    back = decoded_item_from_table(table, 0)
    assert back.item == decoded.item and back.bytes_fetched == 5 and back.source == source
    assert back.video is not None and decoded.video is not None
    np.testing.assert_array_equal(back.video.frames_THWC, decoded.video.frames_THWC)
    np.testing.assert_array_equal(back.video.pts_seconds, decoded.video.pts_seconds)
    assert back.video.facts == decoded.video.facts
    assert back.video.frames_THWC.ctypes.data == decoded.video.frames_THWC.ctypes.data


def test_a_failed_item_survives_arrow() -> None:
    failure = RequestFailure(code="not_found", message="gone")
    decoded = DecodedItem(item=work_item(), video=None, failure=failure)
    table = decoded_item_table(decoded, decoded_items_schema(PASSTHROUGH))
    assert decoded_item_from_table(table, 0) == decoded


def test_an_answer_and_a_failure_fill_the_columns_that_apply() -> None:
    signed = replace(work_item(), fetch_uri="https://me:s3cret@h/v.mp4?Signature=s3cret&n=1")
    source = VideoSource(size_bytes=7, etag="e", sha256="5")
    decoded = DecodedItem(item=signed, video=decoded_video(), failure=None, source=source)
    request = decoded.item.requests[0]
    generation = Generation(
        text="a",
        token_ids=(5, 2),
        finish_reason="stop",
        mean_logprob=-0.5,
        num_visual_tokens=3680,
        num_prompt_tokens=60,
        model_seconds=0.2,
        choice="A",
        answered_at=NOW,
    )
    failure = RequestFailure(code="engine_error", message="broken")
    rows = [
        outcome_row(Outcome(request=request, decoded=decoded, result=result), RUN)
        for result in (generation, failure)
    ]
    answer, failed = pa.Table.from_pylist(rows, schema=outcomes_schema(PASSTHROUGH)).to_pylist()
    assert answer["text"] == "a" and answer["code"] is None and answer["video_codec"] == "h264"
    assert answer["num_generated_tokens"] == 2 and answer["source"] == "web"
    assert failed["text"] is None and failed["code"] == "engine_error"
    assert failed["stage"] == "model" and failed["attempts"] == 2
    assert answer["request_id"] == failed["request_id"] == "r1"
    assert answer["answered_at"] == NOW and failed["answered_at"] is None
    for row in (answer, failed):
        assert row["clip_id"] == clip_id("v", 1.5, None)
        assert row["reference_answers"] == ["a"] and row["flags"] is None
        assert row["video_resolved_uri"] == "https://h/v.mp4?n=1"
        told = (row["video_size_bytes"], row["video_etag"], row["video_sha256"])
        assert told == (7, "e", "5")


def test_a_clip_has_one_id_whatever_is_asked_of_it() -> None:
    """Joins of tables that people have made rely on it."""
    assert clip_id("v.mp4", None, None) == "2a154f3c79f0932766fa45c517dede63"
    assert clip_id("v.mp4", 0.0, 10.5) == "6cab7830ce312033890542f8bd6d6b00"


@pytest.mark.parametrize(
    "change",
    [
        {"frames_THWC": np.zeros((2, 4, 4, 3), np.float32)},
        {"frames_THWC": np.zeros((4, 4, 3), np.uint8)},
        {"frame_indices": np.array([1])},
        {"pts_seconds": np.array([1.0, 2.0, 3.0])},
    ],
)
def test_mismatched_frames_are_refused(change: dict[str, np.ndarray]) -> None:
    good = {
        "frames_THWC": np.zeros((2, 4, 4, 3), np.uint8),
        "frame_indices": np.array([1, 2]),
        "pts_seconds": np.array([0.0, 1.0]),
    }
    with pytest.raises(ValueError, match="must be"):
        DecodedVideo(**{**good, **change}, facts=VideoFacts(), reader="r", reader_reason="")
