"""The stage that fetches a video and decodes the frames of one clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from sfray.config import DecodeSpec, StorageSpec, VideosSpec
from sfray.errors import RequestError
from sfray.records import DecodedItem, DecodedVideo, RequestFailure, VideoFacts, WorkItem
from sfray.sources.fetch import FetchedFile, Fetcher
from sfray.sources.remote import FetchTerms
from sfray.stages.read_video import Meter, read_video
from sfray.video.readers.selection import check_reader
from sfray.video.sandbox.parent import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeConfig:
    """What the decode stage goes by.

    Attributes:
        videos: where files may come from.
        storage: how object stores are reached.
        fetch_terms: how much is fetched at once, and for how long it is tried.
        decode: the reader and the limits of the process that decodes.
        seek: how frames are reached.
        num_frames: how many frames are sampled of a clip.
        image_size: the side of the square that frames are resized to, in pixels.
    """

    videos: VideosSpec = field(default_factory=VideosSpec)
    storage: StorageSpec = field(default_factory=StorageSpec)
    fetch_terms: FetchTerms = FetchTerms()
    decode: DecodeSpec = field(default_factory=DecodeSpec)
    seek: Literal["exact", "keyframe"] = "exact"
    num_frames: int
    image_size: int


class DecodeVideo:
    """Takes work items to decoded items; knows one file at a time and is not thread-safe.

    Raises:
        SpecError: this machine lacks the reader that is asked for, whatever the plan's has.
    """

    def __init__(self, config: DecodeConfig) -> None:
        check_reader(config.decode.reader)
        self._fetcher = Fetcher(config.videos, config.storage, config.fetch_terms)
        self._sandbox = Sandbox(config.decode, config.num_frames, config.image_size)
        self._seek = config.seek
        # decord can't read by range.
        self._whole = config.decode.reader == "decord"

    def __call__(self, item: WorkItem) -> DecodedItem:
        """The item with its frames, or with the failure that stands in their place.

        Raises:
            StorageError: the bucket or the credentials are wrong, which concerns the whole job.
        """
        meter = Meter()
        video, failure = None, None
        try:
            video = read_video(
                self._fetcher,
                item.fetch_uri,
                partial(self._read, item),
                whole=self._whole,
                meter=meter,
            )
        except RequestError as error:
            failure = RequestFailure.of(error)
        return DecodedItem(
            item=item,
            video=video,
            failure=failure,
            source=meter.source,
            bytes_fetched=meter.bytes_fetched,
            fetch_seconds=meter.fetch_seconds,
            decode_seconds=meter.other_seconds,
        )

    def probe(self, uri: str) -> VideoFacts:
        """The facts of a video; raises `RequestError` where it is none."""
        return VideoFacts(**read_video(self._fetcher, uri, self._sandbox.probe))

    def close(self) -> None:
        """Ends the decoding process and lets the last file go."""
        self._sandbox.close()
        self._fetcher.close()

    def _read(self, item: WorkItem, file: FetchedFile) -> DecodedVideo:
        reply, frames_THWC = self._sandbox.read_clip(
            file,
            start_seconds=item.start_seconds,
            end_seconds=item.end_seconds,
            seek=self._seek,
        )
        return _decoded_video(reply, frames_THWC)


def _decoded_video(reply: dict[str, Any], frames_THWC: np.ndarray) -> DecodedVideo:
    return DecodedVideo(
        frames_THWC=frames_THWC,
        frame_indices=np.array(reply["frame_indices"], dtype=np.int64),
        pts_seconds=np.array(reply["pts_seconds"], dtype=np.float64),
        facts=VideoFacts(**reply["facts"]),
        reader=reply["reader"],
        reader_reason=reply["reader_reason"],
        num_substituted_frames=reply["num_substituted_frames"],
    )
