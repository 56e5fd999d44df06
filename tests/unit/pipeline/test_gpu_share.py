from __future__ import annotations

import pytest

from sfray.config import JobSpec, parse_job_spec
from sfray.errors import ClusterError
from sfray.model.memory import GIB, memory_need
from sfray.model.presets import PRESETS
from sfray.pipeline.gpu_share import share_for

SMALL, LARGE = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-hf/llava-v1.6-34b-hf"


def job(model_id: str, share: float | str) -> JobSpec:
    return parse_job_spec(
        {
            "manifest": {"uri": "unused"},
            "task": "qa",
            "model": {"id": model_id},
            "resources": {"num_gpus_per_replica": share},
            "output": {"uri": "unused"},
        }
    )


def share(model_id: str, asked: float | str, gigabytes: int) -> float:
    spec = job(model_id, asked)
    return share_for(spec, memory_need(spec, PRESETS[model_id]), gigabytes * GIB)


def test_auto_is_as_many_replicas_as_do_well() -> None:
    assert share(LARGE, "auto", 80) == 1.0
    assert share(SMALL, "auto", 80) == 0.25


def test_a_share_that_one_request_fits_into_stays() -> None:
    assert share(SMALL, 0.5, 24) == 0.5


@pytest.mark.parametrize(
    ("model_id", "asked", "words"),
    [
        (SMALL, 0.05, r"is 0\.05, but .*0\.5b.* GiB and a GPU .* 24\.0 GiB: 0\.\d+ or more"),
        (LARGE, "auto", r"is auto, but .*34b.*: 4 or more is needed, and model\.engine: vllm"),
    ],
)
def test_a_share_that_is_too_small_is_refused(
    model_id: str, asked: float | str, words: str
) -> None:
    with pytest.raises(ClusterError, match=words):
        share(model_id, asked, 24)
