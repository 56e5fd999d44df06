from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq

from sfray.demo.videos import write_sample_set, write_video
from sfray.demo.world import FPS, NUM_FRAMES, make_scene, render


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_a_video_is_h264_and_looks_as_rendered(tmp_path: Path) -> None:
    frames = render(make_scene(3))
    write_video(tmp_path / "scene.mp4", frames)
    with av.open(str(tmp_path / "scene.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", FPS)
        assert stream.codec_context.pix_fmt == "yuv420p"
    decoded = read(tmp_path / "scene.mp4")
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 6


def test_a_sample_set_asks_for_captions_answers_and_choices(tmp_path: Path) -> None:
    manifests = write_sample_set(tmp_path, num_videos=2, first_seed=10)
    captions = pq.read_table(manifests["caption"]).to_pylist()
    assert [row["video_id"] for row in captions] == ["scene-10", "scene-11"]
    assert [row["answer"] for row in captions] == [make_scene(s).caption for s in (10, 11)]
    assert all(len(read(Path(row["video_uri"]))) == NUM_FRAMES for row in captions)
    for task, has_options in (("qa", False), ("multiple_choice", True)):
        rows = pq.read_table(manifests[task]).to_pylist()
        assert {row["video_id"] for row in rows} == {"scene-10", "scene-11"}
        assert len({row["question_id"] for row in rows}) == len(rows)
        assert all(("options" in row) == has_options for row in rows)
        assert all(row["question"] and row["kind"] and row["answer"] for row in rows)


def test_frames_can_be_altered_on_their_way_into_the_files(tmp_path: Path) -> None:
    manifests = write_sample_set(tmp_path, 1, 10, alter=lambda frames_THWC: frames_THWC[::-1])
    path = Path(pq.read_table(manifests["caption"])["video_uri"][0].as_py())
    assert np.abs(read(path).astype(int) - render(make_scene(10))[::-1]).mean() < 6
