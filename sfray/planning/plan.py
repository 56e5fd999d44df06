"""What a job would do: resolved settings, identity, requests and what of them is done.

Needs neither Ray nor torch, and opens no video.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from sfray.config import JobSpec, PromptSpec
from sfray.errors import CheckpointError, SpecError
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.find import Place, find_checkpoint, place_of
from sfray.model.presets import PRESETS, ModelProfile, resolve_sampling_and_pooling
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.planning.planned_requests import PlannedRequests, plan_requests, row_failure
from sfray.planning.prompt_length import check_context, too_long
from sfray.prompts.templates import Template, load_template
from sfray.records import RunIdentity

# Part of every fingerprint, and the same for ever: with another number all that was ever answered
# would be asked again. Where behaviour is mended, the mended one is a key of its own, left out of
# fingerprints where it is off.
_ANSWER_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """A job resolved against its model and manifest.

    `spec` has the model preset's values in place of None.
    """

    spec: JobSpec
    checkpoint: Checkpoint
    template: Template
    run: RunIdentity
    requests: PlannedRequests

    @property
    def profile(self) -> ModelProfile:
        """The model's sizes."""
        return self.checkpoint.profile

    @property
    def num_requests(self) -> int:
        """Requests and manifest rows that failed to become one."""
        return self.requests.table.num_rows + self.requests.failures.num_rows

    @property
    def fingerprints(self) -> list[str]:
        """Those of the requests: one, or one for each prompt of a caption job."""
        return [str(one) for one in self.requests.table["fingerprint"].unique().to_pylist()]

    @property
    def num_visual_tokens(self) -> int:
        """Of a clip with as many frames as asked for; shorter ones have fewer."""
        return _num_visual_tokens(self.spec, self.profile)


def make_plan(spec: JobSpec, limit: int | None = None, *, pin: bool = False) -> JobPlan:
    """Resolves a job and reads its manifest.

    Args:
        limit: keep the first so many requests only, in the order of work.
        pin: fetch the model's small files where need be, and name its revision in the spec.

    Raises:
        SpecError, ManifestError, StorageError, CheckpointError: one sentence each.
    """
    refuse_what_is_not_there(spec)
    checkpoint = find_checkpoint(spec.model, spec.storage)
    if pin:
        checkpoint = checkpoint.pinned()
    spec, template = resolve(spec, checkpoint)
    model_id, revision = checkpoint.identity
    fingerprint = fingerprint_of(what_decides(spec, template, model_id, revision))
    run = RunIdentity(
        run_id=_new_run_id(),
        task=spec.task,
        fingerprint=fingerprint,
        model_id=model_id,
        model_revision=revision,
        prompt_fingerprints=prompt_fingerprints(spec, fingerprint),
    )
    requests = plan_requests(spec, run)
    if limit is not None:
        requests = requests.first(limit)
    plan = JobPlan(spec=spec, checkpoint=checkpoint, template=template, run=run, requests=requests)
    return _without_long_prompts(plan)


def pinned(plan: JobPlan) -> JobPlan:
    """The plan with its model's revision resolved, as `make_plan` does with `pin`."""
    checkpoint = plan.checkpoint.pinned()
    spec = plan.spec.model_copy(update={"model": checkpoint.model})
    return replace(plan, spec=spec, checkpoint=checkpoint)


def resolve(spec: JobSpec, checkpoint: Checkpoint) -> tuple[JobSpec, Template]:
    """The spec with its model's values, and the template: needs no data.

    Raises:
        SpecError, CheckpointError: one sentence each; the latter also where frames and answer
            leave no room for a prompt.
    """
    profile = checkpoint.profile
    check_context(profile, _num_visual_tokens(spec, profile) + spec.generation.max_new_tokens)
    template = load_template(spec.template, profile.chat_format, spec.task)
    return resolved_spec(spec, checkpoint), template


def _num_visual_tokens(spec: JobSpec, profile: ModelProfile) -> int:
    num_frames, pooling = resolve_sampling_and_pooling(spec, profile)
    return pooling.num_visual_tokens(num_frames, profile.patch_grid)


def refuse_what_is_not_there(spec: JobSpec) -> None:
    """Checks what the job file alone tells, before a model is looked for; raises `SpecError`."""
    share = spec.resources.num_gpus_per_replica
    if share != "auto" and share > 1 and spec.model.engine != "vllm":
        raise SpecError(
            f"resources.num_gpus_per_replica is {share:g}, but only model.engine: vllm spreads a "
            f"model over several GPUs, and it is {spec.model.engine!r}"
        )
    model = spec.model
    has_revisions = model.id in PRESETS or place_of(model.id) is Place.S3
    if model.revision is not None and not has_revisions:
        raise SpecError(
            f"model.revision is {model.revision!r}, but a folder such as model.id {model.id!r} has "
            "no revisions: leave it out, or name a model of the hub"
        )
    if model.rope_scaling is not None and model.engine == "vllm":
        raise SpecError(
            "model.rope_scaling stretches positions by the length of each prompt, which "
            "model.engine 'vllm' can't do; allowed with it: auto, transformers"
        )


def _without_long_prompts(plan: JobPlan) -> JobPlan:
    tokenizer = prompt_tokenizer(plan)
    if tokenizer is None:
        return plan
    table = plan.requests.table
    num_other = plan.num_visual_tokens + plan.spec.generation.max_new_tokens
    reasons = too_long(table, plan.template, tokenizer, plan.profile, num_other)
    if not reasons:
        return plan
    rows = table.take(list(reasons)).to_pylist()
    failures = [
        row_failure(row, "prompt_too_long", why, plan.spec, plan.run)
        for row, why in zip(rows, reasons.values(), strict=True)
    ]
    kept = np.ones(table.num_rows, dtype=bool)
    kept[list(reasons)] = False
    return replace(plan, requests=plan.requests.failing(failures, pa.array(kept)))


def prompt_tokenizer(plan: JobPlan) -> PromptTokenizer | None:
    """The model's tokenizer, or None where it isn't on this machine."""
    try:
        folder = plan.checkpoint.small_files()
        return None if folder is None else PromptTokenizer.from_folder(folder)
    except CheckpointError:
        return None


def resolved_spec(spec: JobSpec, checkpoint: Checkpoint) -> JobSpec:
    """The spec with the checkpoint's revision, and its frame count and pooling in place of None."""
    num_frames, pooling = resolve_sampling_and_pooling(spec, checkpoint.profile)
    return spec.model_copy(
        update={
            "model": checkpoint.model,
            "sampling": spec.sampling.model_copy(update={"num_frames": num_frames}),
            "pooling": spec.pooling.model_copy(
                update={
                    "num_slow_frames": pooling.num_slow_frames,
                    "slow_pool": str(pooling.slow_pool),
                    "fast_grid": pooling.fast_grid or "off",
                }
            ),
        }
    )


def what_decides(
    spec: JobSpec, template: Template, model_id: str, revision: str | None
) -> dict[str, Any]:
    """All that decides a job's answers but the request itself and the job file's prompts.

    What is here is here for ever. A section's later keys come and go by `Section.identity`; what
    else decides from now on is added only where it is not at its default.
    """
    return {
        "answer_format": _ANSWER_FORMAT,
        "task": spec.task,
        "model": [model_id, revision, spec.model.dtype],
        "rope_scaling": spec.model.rope_scaling and spec.model.rope_scaling.identity(),
        "sampling": spec.sampling.identity(),
        "reader": spec.decode.reader,
        "pooling": spec.pooling.identity(),
        "template": template.text,
        "generation": spec.generation.identity(),
    }


def fingerprint_of(decides: dict[str, Any]) -> str:
    """A short identity of what decides an answer."""
    text = json.dumps(decides, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt_fingerprints(spec: JobSpec, fingerprint: str) -> dict[str, str]:
    """The fingerprint of each of the job file's prompts, by id.

    With another text it is another one; a prompt beside it changes nothing.
    """
    return {prompt.prompt_id: _prompt_fingerprint(prompt, fingerprint) for prompt in spec.prompts}


def _prompt_fingerprint(prompt: PromptSpec, fingerprint: str) -> str:
    decides = prompt.identity()
    del decides["prompt_id"]
    return fingerprint_of({"job": fingerprint, "prompt": decides.pop("text"), **decides})


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
