"""Model replicas on one GPU of a real Ray: as many at once as their shares allow, and no more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from sfray.config import parse_job_spec
from sfray.pipeline.actors import Stages
from sfray.records import DecodedItem, Outcome
from sfray.runs.run import run_job
from tests.integration.fake_stages import FakeAnswer, FakeDecode, Script
from tests.integration.local_ray import own_ray

pytestmark = pytest.mark.own_ray


_PATIENCE_SECONDS = 120


@pytest.fixture(scope="module", autouse=True)
def one_gpu() -> Iterator[None]:
    """Logical: Ray counts it, and nothing is computed on it."""
    with own_ray(num_cpus=4, num_gpus=1, include_dashboard=False):
        yield


@dataclass(frozen=True)
class Meeting:
    """A model stage that answers once `expected` replicas are there at the same time."""

    folder: Path
    expected: int

    def stages(self) -> Stages:
        script = Script(folder=self.folder)
        return Stages(
            make_decode=lambda: FakeDecode(script), make_answer=lambda: Replica(self, script)
        )


class Replica(FakeAnswer):
    def __init__(self, meeting: Meeting, script: Script) -> None:
        super().__init__(script)
        self._meeting = meeting
        (meeting.folder / f"replica-{os.getpid()}").touch()

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        until = time.monotonic() + _PATIENCE_SECONDS
        while len(list(self._meeting.folder.glob("replica-*"))) < self._meeting.expected:
            if time.monotonic() > until:
                raise TimeoutError(f"fewer than {self._meeting.expected} replicas came")
            time.sleep(0.1)
        return await super().__call__(decoded)


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 2), (0.34, 3)])
def test_two_halves_run_at_once_and_three_of_more_than_a_third_do_not(
    share: float, wanted: int, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.parquet"
    rows = [{"video_uri": f"v{n}.mp4", "question": "what"} for n in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    spec = parse_job_spec(
        {
            "manifest": {"uri": str(manifest)},
            "task": "qa",
            "model": {"id": "demo"},
            "resources": {
                "num_gpus_per_replica": share,
                "model_replicas": {"min": wanted, "max": wanted},
                "decode_workers": {"min": 1, "max": 2},
            },
            "output": {"uri": str(tmp_path / "out")},
        }
    )
    summary = run_job(spec, stages=Meeting(tmp_path, expected=2).stages())
    assert summary.num_answers == 12
    assert len(list(tmp_path.glob("replica-*"))) == 2


def test_ray_itself_keeps_a_third_replica_waiting() -> None:
    @ray.remote(num_cpus=0, num_gpus=0.34)
    class Third:
        def here(self) -> int:
            return os.getpid()

    replicas = [Third.remote() for _ in range(3)]
    calls = [replica.here.remote() for replica in replicas]
    ready, waiting = ray.wait(calls, num_returns=2, timeout=_PATIENCE_SECONDS)
    assert len(ready) == 2
    assert ray.wait(waiting, timeout=3)[0] == []
    ray.kill(replicas[calls.index(ready[0])])
    assert ray.get(waiting, timeout=_PATIENCE_SECONDS)
