"""The stages of a job, as its actors make them."""

from __future__ import annotations

from functools import partial

from sfray.config import JobSpec
from sfray.model.presets import ModelProfile, resolve_sampling_and_pooling
from sfray.pipeline.actors import AnswerStage, Stages
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from sfray.stages.find_windows import FindWindows
from sfray.storage.uris import from_here


def job_stages(spec: JobSpec, profile: ModelProfile) -> Stages:
    """The stages of a job on its model."""
    num_frames, _ = resolve_sampling_and_pooling(spec, profile)
    root = spec.videos.root and from_here(spec.videos.root)
    videos = spec.videos.model_copy(update={"root": root})
    config = DecodeConfig(
        videos=videos,
        storage=spec.storage,
        decode=spec.decode,
        seek=spec.sampling.seek,
        num_frames=num_frames,
        image_size=profile.image_size,
    )
    find = None
    if (windows := spec.sampling.windows) is not None:
        find = partial(
            FindWindows,
            videos=videos,
            storage=spec.storage,
            decode=spec.decode,
            windows=windows,
        )
    return Stages(
        make_decode=partial(DecodeVideo, config),
        make_answer=partial(_answer_prompts, spec),
        make_find_windows=find,
    )


def _answer_prompts(spec: JobSpec) -> AnswerStage:
    """Imported by the replicas: a driver has no use for torch, which takes 400 MB."""
    from sfray.stages.answer_prompts import AnswerPrompts

    return AnswerPrompts(spec)
