"""Stages that note each video they meet, so that a storm knows how far a job is and whom to hit."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from sfray.pipeline.actors import DecodeStage, Stages
from sfray.records import DecodedItem, Generation, Outcome, RequestFailure, WorkItem

_JOURNAL = "journal"
OUT_OF_MEMORY = "out-of-memory"
POISONED = "poisoned"
# While this file is there no further video is decoded.
HOLD = "hold"
_HOLD_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Note:
    """A stage met a video."""

    stage: str
    pid: int
    node_id: str


def _note(folder: Path, stage: str) -> None:
    # One write at the end of the file: lines of several processes don't mix.
    node_id = ray.get_runtime_context().get_node_id()
    descriptor = os.open(folder / _JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{stage} {os.getpid()} {node_id}\n".encode())
    finally:
        os.close(descriptor)


def read_journal(folder: Path) -> list[Note]:
    """What the stages of all runs have met, in order."""
    path = folder / _JOURNAL
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split() for line in lines)
    return [Note(stage, int(pid), node_id) for stage, pid, node_id in fields]


def noting_stages(
    folder: Path, make_decode: Callable[[], DecodeStage], poison: Sequence[str], seconds: float
) -> Stages:
    """Stages that note what they meet; answers hang on the question, the video and its frames.

    Args:
        make_decode: what decodes; videos of `poison` kill its worker instead.
        seconds: how long an answer takes.
    """
    return Stages(
        make_decode=lambda: NotingDecode(folder, make_decode(), poison),
        make_answer=lambda: FrameAnswer(folder, seconds),
    )


class NotingDecode:
    def __init__(self, folder: Path, decode: DecodeStage, poison: Sequence[str]) -> None:
        self._folder = folder
        self._decode = decode
        self._poison = poison

    def __call__(self, item: WorkItem) -> DecodedItem:
        _note(self._folder, "decode")
        until = time.monotonic() + _HOLD_SECONDS
        while (self._folder / HOLD).exists() and time.monotonic() < until:
            time.sleep(0.1)
        if item.video_id in self._poison:
            (self._folder / POISONED).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._decode(item)


class FrameAnswer:
    """Answers with the question, the video and a digest of its frames.

    Whoever finds the file `out-of-memory` takes it away and runs out of memory.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        _note(self._folder, "answer")
        trap = self._folder / OUT_OF_MEMORY
        if trap.exists():
            trap.unlink()
            raise MemoryError
        await asyncio.sleep(self._seconds)
        return [
            Outcome(request=request, decoded=decoded, result=self._answer(decoded, request.prompt))
            for request in decoded.item.requests
        ]

    def _answer(self, decoded: DecodedItem, prompt: str) -> Generation | RequestFailure:
        if decoded.video is None:
            assert decoded.failure is not None
            return decoded.failure
        digest = hashlib.sha256(decoded.video.frames_THWC.tobytes()).hexdigest()[:16]
        return Generation(
            text=f"{prompt} {decoded.item.video_id} {digest}",
            token_ids=(1, 2),
            finish_reason="stop",
            mean_logprob=-0.1,
            num_visual_tokens=8,
            num_prompt_tokens=4,
            model_seconds=self._seconds,
        )
