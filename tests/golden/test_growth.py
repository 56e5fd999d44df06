"""A key more in the job file changes no id where it is at its default."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import create_model

from sfray.config import (
    GenerationSpec,
    JobSpec,
    PoolingSpec,
    PromptSpec,
    RopeScaling,
    SamplingSpec,
    Section,
    WindowsSpec,
    parse_job_spec,
)
from sfray.model.checkpoints.find import find_checkpoint
from sfray.planning.plan import fingerprint_of, prompt_fingerprints, resolve, what_decides
from sfray.planning.windows import clip_ids

JOB: dict[str, Any] = {
    "manifest": {"uri": "videos.csv"},
    "task": "caption",
    "prompts": [{"prompt_id": "p", "text": "What?"}],
    "model": {"id": "demo", "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "sampling": {"windows": {"seconds": 10}},
    "output": {"uri": "out"},
}


def fingerprints(spec: JobSpec) -> list[str]:
    """Those of all prompts of a job."""
    spec, template = resolve(spec, find_checkpoint(spec.model, spec.storage))
    job = fingerprint_of(what_decides(spec, template, "model", None))
    return list(prompt_fingerprints(spec, job).values())


def with_a_key_more(spec: Any, kind: type[Section], value: float) -> Any:
    """The spec, each section of a kind with a key that was born later."""
    if isinstance(spec, tuple):
        return tuple(with_a_key_more(one, kind, value) for one in spec)
    if not isinstance(spec, Section):
        return spec
    changed = {
        name: with_a_key_more(getattr(spec, name), kind, value) for name in type(spec).model_fields
    }
    if type(spec) is not kind:
        return spec.model_copy(update=changed)
    later = create_model(kind.__name__, __base__=kind, later=(float, 1.0))
    return later.model_construct(**changed, later=value)


@pytest.mark.parametrize(
    "kind", [SamplingSpec, WindowsSpec, PoolingSpec, GenerationSpec, RopeScaling, PromptSpec]
)
def test_a_later_key_is_in_fingerprints_where_it_is_set_only(kind: type[Section]) -> None:
    spec = parse_job_spec(JOB)
    before = fingerprints(spec)
    assert fingerprints(with_a_key_more(spec, kind, 1.0)) == before
    assert fingerprints(with_a_key_more(spec, kind, 1.5)) != before


def test_a_later_key_of_windows_is_in_the_ids_of_cut_clips_where_it_is_set_only() -> None:
    clips = pa.table({"video_id": ["v"], "start_seconds": [None], "end_seconds": [None]})
    how = parse_job_spec(JOB).sampling.windows
    before = clip_ids(clips, how)
    assert clip_ids(clips, with_a_key_more(how, WindowsSpec, 1.0)) == before
    assert clip_ids(clips, with_a_key_more(how, WindowsSpec, 1.5)) != before


def test_sections_in_lists_leave_out_their_later_keys_too() -> None:
    item = create_model("Item", __base__=Section, later=(float, 1.0))
    outer = create_model("Outer", __base__=Section, items=(tuple[item, ...], ()))
    assert outer(items=(item(), item(later=2.0))).identity() == {"items": [{}, {"later": 2.0}]}
