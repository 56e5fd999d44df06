"""Stages without pixels or a model, for tests of everything around them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import ray

from sfray.errors import CheckpointError
from sfray.pipeline.actors import Stages
from sfray.records import (
    DecodedItem,
    DecodedVideo,
    Generation,
    Outcome,
    RequestFailure,
    VideoFacts,
    WorkItem,
)


@dataclass(frozen=True, kw_only=True)
class Script:
    """What goes wrong, by video id. `folder` is where the stages leave notes.

    `kill_decode` and `kill_answer` end their worker each time the video is met, `kill_once` the
        first time only; `raise_in_decode` is a bug in a stage. With `note_nodes` each
    stage notes the node that it is on, with `warns` one logs a URI with a signature.
    """

    folder: Path
    missing: tuple[str, ...] = ()
    kill_decode: tuple[str, ...] = ()
    kill_answer: tuple[str, ...] = ()
    kill_once: tuple[str, ...] = ()
    raise_in_decode: tuple[str, ...] = ()
    broken_model: bool = False
    no_checkpoint: bool = False
    note_nodes: bool = False
    seconds: float = 0.0
    warns: bool = False

    def stages(self) -> Stages:
        return Stages(make_decode=lambda: FakeDecode(self), make_answer=lambda: FakeAnswer(self))

    def note(self, name: str) -> int:
        """Adds a line to a file and says how many it has now."""
        path = self.folder / name
        with path.open("a") as file:
            file.write("x\n")
        return len(path.read_text().splitlines())

    def note_node(self, stage: str) -> None:
        if self.note_nodes:
            self.note(f"{stage}-on-{ray.get_runtime_context().get_node_id()}")


class FakeDecode:
    """Frames of one grey."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def __call__(self, item: WorkItem) -> DecodedItem:
        script = self._script
        script.note_node("decode")
        if item.video_id in script.kill_decode:
            script.note(f"killed-{item.video_id}")
            os.kill(os.getpid(), signal.SIGKILL)
        if item.video_id in script.raise_in_decode:
            raise ValueError("a bug in a stage")
        if script.warns:
            logging.getLogger("sfray.storage").warning("slow: s3://b/k?X-Amz-Signature=s3cret")
        if item.video_id in script.missing:
            failure = RequestFailure(code="not_found", message=f"{item.video_uri} does not exist")
            return DecodedItem(item=item, video=None, failure=failure)
        time.sleep(script.seconds)
        video = DecodedVideo(
            frames_THWC=np.full((2, 8, 8, 3), 7, np.uint8),
            frame_indices=np.array([0, 1]),
            pts_seconds=np.array([0.0, 0.1]),
            facts=VideoFacts(codec="fake"),
            reader="fake",
            reader_reason="a test",
        )
        return DecodedItem(
            item=item,
            video=video,
            failure=None,
            bytes_fetched=1000,
            fetch_seconds=script.seconds / 4,
            decode_seconds=script.seconds * 3 / 4,
        )


class FakeAnswer:
    """Answers with the prompt in capitals."""

    def __init__(self, script: Script) -> None:
        self._script = script
        if script.no_checkpoint:
            raise CheckpointError("no weights at 'nowhere'")

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        script, item = self._script, decoded.item
        script.note_node("answer")
        if item.video_id in script.kill_answer:
            os.kill(os.getpid(), signal.SIGKILL)
        if item.video_id in script.kill_once and script.note(f"once-{item.video_id}") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(script.seconds)
        outcomes = []
        for request in item.requests:
            result: Generation | RequestFailure = Generation(
                text=request.prompt.upper(),
                token_ids=(1, 2),
                finish_reason="stop",
                mean_logprob=-0.1,
                num_visual_tokens=8,
                num_prompt_tokens=4,
                model_seconds=script.seconds,
                answered_at=datetime.now(UTC),
            )
            if decoded.failure is not None:
                result = decoded.failure
            elif script.broken_model:
                result = RequestFailure(code="engine_error", message="the model is broken")
            outcomes.append(Outcome(request=request, decoded=decoded, result=result))
        return outcomes
