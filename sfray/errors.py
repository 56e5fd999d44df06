"""What can go wrong, in three kinds.

A `RequestError` concerns one video or request: it becomes a failure row and the job goes on.
A `RunError` concerns the job: it stops the run with one sentence and an exit code.
An `EngineLostError` concerns a model replica: it ends, and what it held goes round again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class FailureKind:
    """One row of the taxonomy: where a failure arises and whether trying again can help."""

    stage: str
    transient: bool
    meaning: str


# The one table of failure codes; documentation is generated from it. Codes are part of the
# results' format: they may be added, never renamed.
FAILURE_KINDS: dict[str, FailureKind] = {
    "invalid_row": FailureKind("manifest", False, "the manifest row has no usable video or prompt"),
    "duplicate_request": FailureKind(
        "manifest", False, "another row has the same video, clip and question id but other content"
    ),
    "prompt_too_long": FailureKind(
        "prompt", False, "the prompt and its answer do not fit the model's context"
    ),
    "uri_refused": FailureKind(
        "fetch", False, "the URI's scheme, host or path is outside what the job allows"
    ),
    "not_found": FailureKind("fetch", False, "the video does not exist"),
    "access_denied": FailureKind("fetch", False, "the storage refuses to give the video"),
    "file_too_large": FailureKind("fetch", False, "the file exceeds the job's limit of bytes"),
    "fetch_failed": FailureKind("fetch", True, "the storage did not deliver, after retries"),
    "video_changed": FailureKind("fetch", True, "the file changed while it was read, repeatedly"),
    "scratch_full": FailureKind("fetch", True, "no space was left to hold the file"),
    "empty_file": FailureKind("probe", False, "the file has no bytes"),
    "not_a_video": FailureKind("probe", False, "the content is no known video container"),
    "playlist_refused": FailureKind(
        "probe", False, "the content names other files or addresses instead of holding a video"
    ),
    "no_video_stream": FailureKind("probe", False, "the container holds no video stream"),
    "unsupported_codec": FailureKind("probe", False, "no decoder for the video's codec"),
    "clip_out_of_range": FailureKind("probe", False, "the clip lies outside the video"),
    "frame_too_large": FailureKind("decode", False, "a frame exceeds the job's limit of pixels"),
    "too_many_frames": FailureKind(
        "decode", False, "the video has more frames than the job's limit"
    ),
    "no_frames": FailureKind("decode", False, "not one frame could be decoded"),
    "decode_failed": FailureKind("decode", False, "the frames that were asked for are damaged"),
    "too_many_substituted": FailureKind(
        "decode", False, "too large a share of the frames had to be substituted"
    ),
    "decode_timeout": FailureKind("decode", False, "decoding exceeded its limit of time"),
    "decode_crashed": FailureKind("decode", False, "the decoder's process died"),
    "decode_out_of_memory": FailureKind("decode", False, "decoding exceeded its limit of memory"),
    "engine_error": FailureKind("model", True, "the engine failed on this request"),
    "out_of_memory": FailureKind("model", True, "the accelerator's memory did not suffice"),
    "worker_lost": FailureKind(
        "pipeline", False, "the worker was lost each time this video was processed, alone too"
    ),
}


class SfrayError(Exception):
    """Base of all errors that sfray raises on purpose; its text is one clear sentence."""


class RequestError(SfrayError):
    """A failure of one video or request, raised where it is found and recorded as a row.

    Args:
        code: a key of `FAILURE_KINDS`.
        message: one sentence for the user, free of secrets.
    """

    def __init__(self, code: str, message: str) -> None:
        self.kind = FAILURE_KINDS[code]
        self.code = code
        super().__init__(message)

    def __reduce__(self) -> tuple[type["RequestError"], tuple[str, str]]:
        return (type(self), (self.code, str(self)))


class EngineLostError(SfrayError):
    """A replica's engine is gone for good, and the replica with it; another one may take over."""


class RunError(SfrayError):
    """A condition that stops the whole run."""

    exit_code = 1


class SpecError(RunError):
    """The job file, a template or a command-line value is wrong."""

    exit_code = 2


class ManifestError(RunError):
    """The manifest as a whole can't be read or contradicts itself."""

    exit_code = 2


class StorageError(RunError):
    """A bucket, folder or credential doesn't work."""

    exit_code = 2


class CheckpointError(RunError):
    """The model's weights are missing or don't fit the job."""

    exit_code = 2


class ClusterError(RunError):
    """A Ray cluster can't be reached, refuses the caller, or lacks what is asked of it."""

    exit_code = 2


class SchemaError(RunError):
    """The output holds results of another schema."""

    exit_code = 2


class OutputInUseError(RunError):
    """Another run writes to the same output."""

    exit_code = 4


class TooManyErrorsError(RunError):
    """So many requests failed that the job, not its videos, is broken."""

    exit_code = 1


def did_you_mean(written: object, allowed: Iterable[str]) -> str:
    """`, did you mean 'x'?` for a word that is nearly an allowed one, else nothing."""
    near = get_close_matches(str(written), list(allowed), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
