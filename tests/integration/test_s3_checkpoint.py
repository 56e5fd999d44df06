"""Checkpoints on a real S3 server: fetched once, verified, resumed, offline, refused."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import boto3.s3.transfer
import pytest

from sfray.config import ModelSpec, StorageSpec
from sfray.errors import CheckpointError
from sfray.model.checkpoints.find import find_checkpoint
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.model.checkpoints.s3_checkpoint import find_on_s3
from sfray.model.checkpoints.s3_download import download
from sfray.storage.patience import Patience
from tests.integration.faulty_proxy import Fault, Once, faulty_proxy
from tests.integration.s3_server import S3Server

PART_BYTES = 5 * 2**20
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(server: S3Server, *, part_bytes: int = 2**30, without: tuple[str, ...] = ()) -> ModelSpec:
    """The demonstration checkpoint in a bucket of its own, beside what nobody needs."""
    bucket = server.new_bucket()
    config = boto3.s3.transfer.TransferConfig(
        multipart_threshold=part_bytes, multipart_chunksize=part_bytes
    )
    for path in demo_folder().iterdir():
        if path.is_file() and path.name not in without:
            server.client().upload_file(str(path), bucket, f"m/demo/{path.name}", Config=config)
    server.client().put_object(Bucket=bucket, Key="m/demo/pytorch_model.bin", Body=b"pickled")
    server.client().put_object(Bucket=bucket, Key="m/demo/old/model.safetensors", Body=b"old")
    return ModelSpec(id=f"s3://{bucket}/m/demo")


def whole_folder(model: ModelSpec, storage: StorageSpec) -> Path:
    return find_checkpoint(model, storage).whole()


def change(server: S3Server, model: ModelSpec, name: str, body: bytes) -> None:
    bucket, _, prefix = model.id.removeprefix("s3://").partition("/")
    server.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)


class Requests(Counter[tuple[str, str]]):
    """Counts what a proxy sees, and lets all pass."""

    def __call__(self, method: str, path: str) -> None:
        self[method, path.partition("?")[0].rpartition("/")[2]] += 1


def test_it_is_what_the_folder_is_and_planning_leaves_the_weights(
    s3_server: S3Server, cache: Path
) -> None:
    model, demo = put(s3_server), ModelSpec(id=str(demo_folder()))
    storage = s3_server.storage
    _, digest = find_checkpoint(demo, storage).identity
    assert find_checkpoint(model, storage).identity == ("demo", digest)
    sizes = [find_checkpoint(one, storage).profile.num_layers for one in (model, demo)]
    assert sizes[0] == sizes[1]
    assert not list(cache.rglob("*.safetensors"))
    folder = find_checkpoint(model, storage).whole()
    assert (folder / WEIGHTS).read_bytes() == (demo_folder() / WEIGHTS).read_bytes()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert find_checkpoint(model, storage).identity == ("demo", digest)


def test_replicas_of_a_node_fetch_once(s3_server: S3Server) -> None:
    model = put(s3_server)
    spawned = multiprocessing.get_context("spawn")
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        proxy.choose = seen = Requests()
        with ProcessPoolExecutor(2, mp_context=spawned) as pool:
            folders = {
                done.result()
                for done in [
                    pool.submit(
                        whole_folder,
                        model,
                        StorageSpec(endpoint_url=proxy.endpoint_url, region="us-east-1"),
                    )
                    for _ in range(2)
                ]
            }
    assert len(folders) == 1
    assert seen["GET", WEIGHTS] == 1 and seen["GET", "config.json"] == 1
    assert seen["GET", "pytorch_model.bin"] == 0


def test_it_goes_on_after_cuts(s3_server: S3Server, cache: Path) -> None:
    """Within a fetch, and where a process was killed in the middle of one."""
    model = put(s3_server)
    whole = (demo_folder() / WEIGHTS).read_bytes()
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        storage = StorageSpec(endpoint_url=proxy.endpoint_url, region="us-east-1")
        proxy.choose = Once(Fault.REPLY_CUT, "GET", WEIGHTS)
        weights = find_checkpoint(model, storage).whole() / WEIGHTS
        assert [fault for fault, *_ in proxy.happened] == [Fault.REPLY_CUT]
        assert weights.read_bytes() == whole
        # What is there already is gone on with, and found out where it is damaged.
        for begun, num_requests in ((whole[:1_000_000], 1), (whole, 0), (bytes(1_000_000), 2)):
            weights.unlink()
            (weights.parent / f".{WEIGHTS}.part").write_bytes(begun)
            proxy.choose = seen = Requests()
            find_checkpoint(model, storage).whole()
            assert weights.read_bytes() == whole
            assert seen["GET", WEIGHTS] == num_requests
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize("part_bytes", [2**30, PART_BYTES])
def test_what_is_damaged_is_not_taken(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    model = put(s3_server, without=(WEIGHTS,))
    large = tmp_path / "large"
    large.write_bytes(bytes(8) + b"x" * (2 * PART_BYTES))
    bucket, _, prefix = model.id.removeprefix("s3://").partition("/")
    config = boto3.s3.transfer.TransferConfig(
        multipart_threshold=part_bytes, multipart_chunksize=part_bytes
    )
    client = s3_server.client()
    client.upload_file(str(large), bucket, f"{prefix}/{WEIGHTS}", Config=config)
    etag = client.head_object(Bucket=bucket, Key=f"{prefix}/{WEIGHTS}")["ETag"]
    assert ("-3" in etag) == (part_bytes == PART_BYTES)
    size, target = large.stat().st_size, tmp_path / "got"
    place = (client, bucket, f"{prefix}/{WEIGHTS}", etag, size)
    # A torn file of before a crash, its end never written.
    (tmp_path / ".got.part").write_bytes(bytes(size - 10))
    download(*place, target)
    assert target.read_bytes() == large.read_bytes()
    target.unlink()
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="damaged"):
        patch.setattr("sfray.model.checkpoints.s3_download.ETagDigest.agrees", lambda _: False)
        download(*place, target)
    assert not target.exists()
    # It is what S3 says, but no checkpoint.
    with pytest.raises(CheckpointError, match=r"model.safetensors is no whole file"):
        find_checkpoint(model, s3_server.storage).whole()


def test_once_fetched_it_needs_no_s3(s3_server: S3Server) -> None:
    model = put(s3_server)
    with faulty_proxy(s3_server.endpoint_url) as proxy:
        gone = StorageSpec(endpoint_url=proxy.endpoint_url, region="us-east-1")
        folder = find_checkpoint(model, gone).whole()
        proxy.choose = seen = Requests()
        assert find_checkpoint(model, gone).whole() == folder
        assert sum(seen.values()) == 1  # the listing
        fixed = find_checkpoint(model, gone).pinned().model
    assert find_checkpoint(fixed, gone).whole() == folder
    assert find_on_s3(model, gone, Patience(seconds=0.5)).whole() == folder


def test_the_hub_being_off_leaves_s3_on(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the cluster's image, which sets it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = put(s3_server)
    assert (find_checkpoint(model, s3_server.storage).whole() / WEIGHTS).is_file()


def test_a_change_is_another_version(s3_server: S3Server, tmp_path: Path) -> None:
    model, storage = put(s3_server), s3_server.storage
    first = find_checkpoint(model, storage)
    before, fixed = first.identity, first.pinned().model
    folder = find_checkpoint(model, storage).whole()
    tokenizer = (demo_folder() / "tokenizer.json").read_bytes()
    change(s3_server, model, "tokenizer.json", tokenizer + b" ")
    assert find_checkpoint(model, storage).whole() != folder
    assert find_checkpoint(model, storage).identity != before
    assert find_checkpoint(fixed, storage).whole() == folder
    shutil.rmtree(folder.parent)
    with pytest.raises(CheckpointError, match=f"not at {fixed.revision}"):
        find_checkpoint(fixed, storage).whole()


def test_what_is_replaced_while_it_is_read_is_not_mixed(s3_server: S3Server) -> None:
    model, storage = put(s3_server), s3_server.storage
    fixed = find_checkpoint(model, storage).pinned().model
    change(s3_server, model, "tokenizer.json", b"{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json was replaced"):
        find_checkpoint(fixed, storage).whole()


def test_what_is_wrong_is_one_sentence(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = s3_server.storage
    bucket = s3_server.new_bucket()
    wrong = {
        "s3://no-such-bucket-here/m": "no-such-bucket-here",
        f"s3://{bucket}/nothing": "nothing lies right below it",
        f"s3://{bucket}": "s3://bucket/prefix",
        put(s3_server, without=("config.json",)).id: r"no config.json",
        put(s3_server, without=(WEIGHTS,)).id: r"only pytorch_model.bin",
    }
    for model_id, words in wrong.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            find_checkpoint(ModelSpec(id=model_id), storage).small_files()
        assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-key")
        other = StorageSpec(endpoint_url=s3_server.endpoint_url, region="eu-west-1")
        with pytest.raises(CheckpointError, match="can't be read") as caught:
            find_checkpoint(put(s3_server), other).small_files()
        assert "wrong-key" not in str(caught.value)
    monkeypatch.setenv("SFRAY_CACHE", "/proc/nowhere")
    with pytest.raises(CheckpointError, match="/proc/nowhere"):
        find_checkpoint(put(s3_server), storage).small_files()


def test_a_cache_without_locks_is_one_sentence(
    s3_server: S3Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas of a node would write over one another."""

    def lacking(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", lacking)
    with pytest.raises(
        CheckpointError, match=f"fetched to {cache}.*: its file system has no locks"
    ):
        whole_folder(put(s3_server), s3_server.storage)
