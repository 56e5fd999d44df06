"""Stages that take no time, so that what remains is the machinery around them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfray.pipeline.actors import Stages
from sfray.records import DecodedItem, DecodedVideo, Generation, Outcome, VideoFacts, WorkItem

CAPTION_TEXT = "A red van turns left at the crossing while two people wait at the kerb. " * 2


@dataclass(frozen=True)
class InstantStages:
    """`first_call` is a file whose content becomes the time at which a video first came."""

    first_call: Path

    def stages(self) -> Stages:
        return Stages(make_decode=lambda: InstantDecode(self.first_call), make_answer=InstantAnswer)


class InstantDecode:
    """Two black frames of 8 x 8."""

    def __init__(self, first_call: Path) -> None:
        self._first_call: Path | None = first_call

    def __call__(self, item: WorkItem) -> DecodedItem:
        if self._first_call is not None:
            if not self._first_call.exists():
                self._first_call.write_text(str(time.time()))
            self._first_call = None
        video = DecodedVideo(
            frames_THWC=np.zeros((2, 8, 8, 3), np.uint8),
            frame_indices=np.array([0, 1]),
            pts_seconds=np.array([0.0, 0.1]),
            facts=VideoFacts(codec="none"),
            reader="none",
            reader_reason="a benchmark",
        )
        return DecodedItem(item=item, video=video, failure=None)


class InstantAnswer:
    """The same text for every request, as long as a caption."""

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        generation = Generation(
            text=CAPTION_TEXT,
            token_ids=tuple(range(40)),
            finish_reason="stop",
            mean_logprob=-0.1,
            num_visual_tokens=3680,
            num_prompt_tokens=60,
            model_seconds=0.0,
        )
        return [
            Outcome(request=request, decoded=decoded, result=generation)
            for request in decoded.item.requests
        ]
