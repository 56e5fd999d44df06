import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import JobSpec, load_job_spec, parse_job_spec
from sfray.errors import CheckpointError, ManifestError, SpecError
from sfray.planning.plan import make_plan
from sfray.submission.shipment import JOB_FILE, pack

OUTPUT = "s3://bucket/out"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"video_uri": f"videos/v{n}.mp4", "question": "What?"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    (tmp_path / "mine.txt").write_text("<image>Q: {question} A:\n\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(*overrides: str) -> JobSpec:
    values = {
        "manifest": {"uri": "manifest.parquet"},
        "task": "qa",
        "model": {"id": "demo"},
        "output": {"uri": OUTPUT},
    }
    return parse_job_spec(values, overrides)


def test_a_template_and_a_manifest_travel_with_the_job_and_nothing_changes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = job("template=mine.txt", "output.uri=out")
    here = make_plan(asked)
    packed = pack(job("template=mine.txt"), shared_paths=False)
    there = tmp_path_factory.mktemp("there")
    packed.write_to(there)
    monkeypatch.chdir(there)
    arrived = load_job_spec(JOB_FILE)
    assert arrived == packed.spec
    planned = make_plan(arrived.model_copy(update={"output": asked.output}))
    assert planned.run.fingerprint == here.run.fingerprint
    assert planned.requests.table["request_id"] == here.requests.table["request_id"]


def test_shared_paths_become_absolute_and_nothing_but_the_template_travels(folder: Path) -> None:
    spec = job("output.uri=out", "template=mine.txt", "manifest.uri=[manifest.parquet, s3://b/m/]")
    packed = pack(spec, shared_paths=True)
    assert packed.spec.manifest.uri == (f"{folder}/manifest.parquet", "s3://b/m/")
    assert packed.spec.videos.root == str(folder)
    assert packed.spec.output.uri == f"{folder}/out"
    assert sorted(packed.files) == [JOB_FILE, "template.txt"]


def test_remote_places_stay_as_they_are() -> None:
    spec = job("manifest.uri=s3://b/m.parquet", "videos.root=s3://b/videos/")
    packed = pack(spec, shared_paths=False)
    assert packed.spec.manifest.uris == ("s3://b/m.parquet",)
    assert packed.spec.videos == spec.videos and packed.spec.output == spec.output
    assert list(packed.files) == [JOB_FILE]


@pytest.mark.parametrize("key", ["output.uri", "videos.root"])
def test_a_path_that_a_cluster_does_not_have_is_refused(key: str) -> None:
    with pytest.raises(SpecError, match=f"{key} 'here' .* --shared-paths"):
        pack(job(f"{key}=here"), shared_paths=False)


@pytest.mark.parametrize(
    "override",
    [
        "manifest.uri='https://user:hunter2@host/m.csv'",
        "manifest.uri=[s3://b/m.csv, 'https://host/m.csv?X-Amz-Signature=hunter2']",
        "videos.root='https://host/v?token=hunter2'",
        "storage.endpoint_url='https://user:hunter2@s3.host'",
    ],
)
@pytest.mark.parametrize("shared_paths", [True, False])
def test_secrets_are_refused_and_not_repeated(override: str, shared_paths: bool) -> None:
    with pytest.raises(SpecError, match=override.partition("=")[0]) as caught:
        pack(job(override), shared_paths=shared_paths)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("model.id=no-such-model", CheckpointError, "no-such-model"),
        ("template=none.txt", SpecError, "none.txt"),
        ("generation.max_new_tokens=100000", CheckpointError, "100"),
        ("resources.num_gpus_per_replica=2", SpecError, "num_gpus_per_replica"),
        ("manifest.uri=none.parquet", ManifestError, "none.parquet"),
    ],
)
def test_what_a_plan_refuses_is_not_sent(override: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pack(job(override), shared_paths=False)


def test_a_model_folder_of_the_cluster_is_taken_on_trust_and_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sfray"), "propagate", True)
    assert pack(job("model.id=/models/llava"), shared_paths=False).spec.model.id == "/models/llava"
    assert "model.id /models/llava is no folder of this machine" in caplog.text
    with pytest.raises(CheckpointError, match=r"mine\.txt"):
        pack(job(f"model.id={Path('mine.txt').absolute()}"), shared_paths=False)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("model.id=/nope", CheckpointError, "'/nope'"),
        ("manifest.uri=none.parquet", ManifestError, r"none\.parquet"),
        ("videos.root=/nope", SpecError, "videos.root '/nope'"),
    ],
)
def test_what_all_nodes_see_is_seen_here(override: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pack(job(override), shared_paths=True)


def test_a_large_manifest_does_not_travel() -> None:
    with pytest.raises(ManifestError, match="more than the 100"):
        pack(job(), shared_paths=False, max_manifest_bytes=100)
