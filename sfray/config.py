"""The job file: every key, its default and what it may be, validated strictly and once.

Inside the package these values are trusted. A section is what the part of the program that it
configures takes, so no second set of names exists.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from sfray.errors import SpecError, did_you_mean
from sfray.partition import Partition
from sfray.redaction import redact_text

Task = Literal["caption", "qa", "multiple_choice"]
PositiveInt = Annotated[int, Field(ge=1)]
NonEmpty = Annotated[str, Field(min_length=1)]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Strings = Annotated[tuple[NonEmpty, ...], BeforeValidator(_as_tuple)]
Scheme = Literal["file", "s3", "gs", "https", "http"]


class Section(BaseModel):
    """A part of the job file: unknown keys and loose types are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    # The keys that `identity` holds whatever their value, those of 2026-11. None is ever added: a
    # key that is born later is left out at its default, so that jobs which don't name it keep the
    # ids of what they have asked.
    _FIRST_KEYS: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The section as a part of fingerprints, in JSON values."""
        values = self.model_dump(mode="json")
        identity = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in self._FIRST_KEYS or value != field.get_default(call_default_factory=True):
                identity[name] = _identity(value, values[name])
        return identity


def _identity(value: Any, as_json: Any) -> Any:
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, tuple):
        return [_identity(*pair) for pair in zip(value, as_json, strict=True)]
    return as_json


class ManifestSpec(Section):
    """Where the rows are and how their columns are called there."""

    uri: NonEmpty | Annotated[tuple[NonEmpty, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
    """A Parquet, CSV or JSON lines file, a glob, a folder, or a list of them; local, s3://, gs://
    or https://."""
    columns: dict[str, str] = {}
    """sfray's column names mapped to the manifest's."""
    passthrough: Strings = ()
    """Columns of the manifest that reach the results unchanged."""

    @property
    def uris(self) -> tuple[str, ...]:
        return (self.uri,) if isinstance(self.uri, str) else self.uri


class VideosSpec(Section):
    """Where videos may come from."""

    root: str | None = None
    """What relative URIs of videos are resolved against."""
    allowed_schemes: Annotated[
        tuple[Scheme, ...], Field(min_length=1), BeforeValidator(_as_tuple)
    ] = (
        "file",
        "s3",
        "gs",
        "https",
    )
    """URIs of other schemes are refused."""
    allowed_hosts: Strings | None = None
    """Hosts of web addresses, such as `*.example.com`; null: all public ones."""
    max_file_bytes: PositiveInt = 64 * 2**30
    """Larger files are refused."""


class PromptSpec(Section):
    """One prompt for every video."""

    _FIRST_KEYS = frozenset({"prompt_id", "text"})

    prompt_id: NonEmpty
    """Its name in the results, unique within the job."""
    text: NonEmpty
    """The words; `{column}` stands for a column of the manifest."""

    @field_validator("text")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a prompt's text can't be blank")
        return value


class RopeScaling(Section):
    """SlowFast-LLaVA's RoPE option: room for `factor` times the model's own positions.

    Prompts within the model's own positions are answered as without it. The light engine only.
    """

    _FIRST_KEYS = frozenset({"type", "factor"})

    type: Literal["dynamic"]
    """The one kind that the reference has."""
    factor: float = Field(gt=1.0)
    """How many times the model's own positions there is room for."""


class ModelSpec(Section):
    """The model that answers."""

    id: NonEmpty
    """A hub id, a folder here or on S3, or `demo`."""
    revision: str | None = None
    """Of a hub id: a branch, tag or commit; null: the newest."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The type of the weights; auto: bfloat16 on a GPU, else float32."""
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    """auto: vLLM on a GPU where it is installed, else transformers."""
    rope_scaling: RopeScaling | None = None
    """Room for prompts beyond the model's own positions."""


class WindowsSpec(Section):
    """What a clip is cut into, each window with requests of its own.

    Either pieces of equal length or scenes.
    """

    _FIRST_KEYS = frozenset({"seconds", "overlap_seconds", "scenes", "min_seconds"})

    seconds: Annotated[float, Field(gt=0.0)] | None = None
    """The length of a piece."""
    overlap_seconds: float = Field(default=0.0, ge=0.0)
    """How long before the end of a piece the next one begins."""
    scenes: bool = False
    """Cut where the picture changes."""
    min_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """The least length of a scene; null: two seconds."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> WindowsSpec:
        if (self.seconds is None) != self.scenes:
            raise ValueError("either `seconds: 60` or `scenes: true`")
        if self.scenes and self.overlap_seconds:
            raise ValueError("overlap_seconds goes with seconds, not with scenes")
        if self.min_seconds is not None and not self.scenes:
            raise ValueError("min_seconds goes with scenes, not with seconds")
        if self.seconds is not None and self.overlap_seconds >= self.seconds:
            raise ValueError(
                f"overlap_seconds {self.overlap_seconds:g} is not less than seconds "
                f"{self.seconds:g}"
            )
        return self

    @property
    def min_scene_seconds(self) -> float:
        """The least length of a scene."""
        return 2.0 if self.min_seconds is None else self.min_seconds


class SamplingSpec(Section):
    """Which frames of a clip are taken."""

    _FIRST_KEYS = frozenset({"num_frames", "seek", "windows"})

    num_frames: PositiveInt | None = None
    """How many frames of a clip; null: the model preset's."""
    seek: Literal["exact", "keyframe"] = "exact"
    """exact: the frames of those moments; keyframe: the keyframes nearest to them, which is
    quicker."""
    windows: WindowsSpec | None = None
    """Cuts clips into windows; null: each is asked as a whole."""


class DecodeSpec(Section):
    """The reader, and the limits of the process that decodes one file."""

    reader: Literal["auto", "pyav", "decord"] = "auto"
    """auto: PyAV, which is right for every kind of file; the others force one."""
    timeout_seconds: PositiveInt = 120
    """For decoding one clip."""
    max_memory_bytes: PositiveInt = 4 * 2**30
    """Of the process that decodes."""
    max_frame_pixels: PositiveInt = 8192 * 8192
    """Larger frames are refused."""
    max_frames: PositiveInt = 10_000_000
    """Longer videos are refused."""
    max_substituted_ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    """The share of damaged frames that others may stand for."""
    files_per_process: PositiveInt = 200
    """After so many files a fresh process decodes."""


class PoolingSpec(Section):
    """The two pathways of SlowFast-LLaVA."""

    _FIRST_KEYS = frozenset({"num_slow_frames", "slow_pool", "fast_grid"})

    num_slow_frames: Annotated[int, Field(ge=0)] | None = None
    """Frames of the slow pathway; 0 switches it off; null: the model preset's."""
    slow_pool: Literal["none", "max_1d", "avg_1d", "max_2d", "avg_2d"] | None = None
    """How patches of slow frames are pooled: in pairs (1d), in squares (2d), or not; null: the
    preset's."""
    fast_grid: tuple[PositiveInt, PositiveInt] | Literal["off"] | None = None
    """Rows and columns to which a fast frame is pooled; off: no fast pathway; null: the
    preset's."""

    @field_validator("fast_grid", mode="before")
    @classmethod
    def _yaml_grid(cls, value: Any) -> Any:
        if value is False:  # YAML 1.1 reads a bare `off` as false
            return "off"
        if value is None or value == "off":
            return value
        sides = value if isinstance(value, list | tuple) else ()
        if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
            raise ValueError(f"{value!r} is neither two integers of 1 or more, as [4, 4], nor off")
        return tuple(sides)

    @model_validator(mode="after")
    def _sees_something(self) -> PoolingSpec:
        if self.num_slow_frames == 0 and self.fast_grid == "off":
            raise ValueError("num_slow_frames 0 and fast_grid off together leave no pathway on")
        return self


class GenerationSpec(Section):
    """How text is generated."""

    _FIRST_KEYS = frozenset({"max_new_tokens", "temperature", "top_p", "seed", "stop"})

    max_new_tokens: PositiveInt = 128
    """The longest answer."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0: greedy, the same text each time."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sampling from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Of sampling."""
    stop: Strings = ()
    """Texts that end an answer."""


class PoolSize(Section):
    """How few and how many actors a stage may have."""

    min: PositiveInt = 1
    """At least so many."""
    max: PositiveInt
    """At most so many."""

    @model_validator(mode="after")
    def _ordered(self) -> PoolSize:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class ResourcesSpec(Section):
    """What the two stages may take of the cluster.

    `decode_node_group` is KubeRay's `groupName`, or the node type of `ray up` (Ray's label
    `ray.io/node-group`). With `autoscaling` the cluster adds nodes as they are asked for: the
    bounds hold as they are written, whatever is there at the start, and a number of GPUs is waited
    for.
    """

    num_gpus_per_replica: Annotated[float, Field(gt=0.0)] | Literal["auto"] = "auto"
    """A share of one GPU or a whole number of them; auto: by the model's memory."""
    model_replicas: PoolSize = PoolSize(max=8)
    """Actors that answer."""
    decode_workers: PoolSize = PoolSize(max=16)
    """Actors that decode."""
    decode_node_group: str | None = None
    """The nodes that decode; null: all."""
    autoscaling: bool = False
    """The cluster grows as the job asks for actors."""

    @field_validator("num_gpus_per_replica")
    @classmethod
    def _whole_above_one(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > 1 and value != int(value):
            raise ValueError("a share of one GPU (0 < share <= 1) or a whole number of GPUs")
        return value


class LimitsSpec(Section):
    """When a finished run counts as failed."""

    max_failure_ratio: float = Field(default=0.05, ge=0.0, le=1.0)
    """A larger share of failures makes exit code 3."""


class OutputSpec(Section):
    """Where results go, and how many or how long they may wait before they are written.

    With a partition `i/n` a run does only the videos whose identity hashes to i modulo n, in a log
    of its own below `uri`.
    """

    uri: NonEmpty
    """A folder or an s3:// prefix."""
    partition: str | None = None
    """`i/n`: this job does the i-th of n parts, counted from 0."""
    flush_rows: PositiveInt = 1000
    """So many answers are written at once."""
    flush_seconds: PositiveInt = 30
    """No answer waits longer than this to be written."""

    @field_validator("partition")
    @classmethod
    def _valid_partition(cls, value: str | None) -> str | None:
        return value if value is None else str(Partition.parse(value))

    @property
    def part(self) -> Partition | None:
        """The partition, if the job is split."""
        return None if self.partition is None else Partition.parse(self.partition)

    @property
    def log_uri(self) -> str:
        """Where this job's own log is: `uri`, or the folder of its partition below."""
        return self.uri if self.part is None else f"{self.uri.rstrip('/')}/{self.part.folder}"


class StorageSpec(Section):
    """How S3 is reached. Keys come from the standard AWS variables and files, never from here."""

    endpoint_url: str | None = None
    """The S3 endpoint, where it isn't AWS."""
    profile: str | None = None
    """A profile of the AWS files."""
    region: str | None = None
    """The region of the buckets."""
    anonymous: bool = False
    """Ask without keys, for public buckets."""

    def over(self, other: StorageSpec) -> StorageSpec:
        """`other` with the values in place of its own that were given here, defaults or not."""
        return other.model_copy(update=self.model_dump(exclude_unset=True))


class JobSpec(Section):
    """One job."""

    name: str = Field(default="sfray", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """In logs, metrics and the cluster's dashboard."""
    manifest: ManifestSpec
    videos: VideosSpec = VideosSpec()
    task: Task
    """What is asked: captions, open questions, or questions with options."""
    prompts: Annotated[tuple[PromptSpec, ...], BeforeValidator(_as_tuple)] = ()
    """Of a caption job: what is asked of every video."""
    template: str = "default"
    """A built-in template, or a text file that is the whole prompt."""
    model: ModelSpec
    sampling: SamplingSpec = SamplingSpec()
    decode: DecodeSpec = DecodeSpec()
    pooling: PoolingSpec = PoolingSpec()
    generation: GenerationSpec = GenerationSpec()
    resources: ResourcesSpec = ResourcesSpec()
    limits: LimitsSpec = LimitsSpec()
    output: OutputSpec
    storage: StorageSpec = StorageSpec()

    @model_validator(mode="after")
    def _prompts_fit_the_task(self) -> JobSpec:
        ids = [prompt.prompt_id for prompt in self.prompts]
        if len(ids) != len(set(ids)):
            raise ValueError("prompts: every prompt_id may be used once")
        if self.task == "caption" and not self.prompts:
            raise ValueError("prompts: a caption job needs at least one prompt")
        if self.task != "caption" and self.prompts:
            raise ValueError(f"prompts: a {self.task} job takes its questions from the manifest")
        return self


def load_job_spec(path: str | Path, overrides: tuple[str, ...] = ()) -> JobSpec:
    """Reads and validates a job file.

    Args:
        path: a YAML file.
        overrides: `key.path=value` each, the value in YAML, applied in order.

    Raises:
        SpecError: one sentence on what is wrong, where, and what is allowed.
    """
    text = _read_text(path)
    return parse_job_spec(_values_of(text, path), overrides, text)


def parse_job_spec(
    values: dict[str, Any], overrides: tuple[str, ...] = (), text: str = ""
) -> JobSpec:
    """Validates the values of a job file after its overrides.

    Args:
        text: what the values were read from, for the lines in messages.

    Raises:
        SpecError: one sentence on what is wrong, where, and what is allowed.
    """
    for override in overrides:
        _apply_override(values, override)
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        places = _Places(text, [override.partition("=")[0] for override in overrides])
        raise SpecError(redact_text(_one_sentence(error, values, places))) from error


class _StorageAlone(Section):
    """A job file of which nothing but one section counts."""

    model_config = ConfigDict(extra="ignore")

    storage: StorageSpec = StorageSpec()


def load_storage_spec(path: str | Path) -> StorageSpec:
    """Reads the `storage` section of a job file, whatever else the file holds.

    Raises:
        SpecError: one sentence on what is wrong, where, and what is allowed.
    """
    text = _read_text(path)
    values = _values_of(text, path)
    try:
        return _StorageAlone.model_validate(values).storage
    except ValidationError as error:
        sentence = _one_sentence(error, values, _Places(text, []))
        raise SpecError(redact_text(sentence)) from error


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the job file {path} can't be read: {error}") from error


def _values_of(text: str, path: str | Path) -> dict[str, Any]:
    values = _parse_yaml(text, where=f"the job file {path}")
    if not isinstance(values, dict):
        raise SpecError(f"the job file {path} must be a mapping of keys, such as `task: caption`")
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first of two values would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused below
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        sentence = f"{where} is not valid YAML{_marked_problem(error)}{_yaml_advice(error)}"
        raise SpecError(redact_text(sentence)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(redact_text(str(error)).split())
        raise SpecError(f"{redact_text(where)} is not valid YAML: {problem}") from error


def _marked_problem(error: yaml.MarkedYAMLError) -> str:
    """Where and what, without the text around it, which may hold secrets."""
    marks = (error.context_mark, error.problem_mark)
    lines = list(dict.fromkeys(str(mark.line + 1) for mark in marks if mark))
    where = f", line {' to '.join(lines)}" if lines else ""
    return f"{where}: {' '.join(filter(None, (error.context, error.problem)))}"


_BLOCK_STYLE = (
    "write each `key: value` on a line of its own instead of inside { }, and texts in quotes"
)


def _yaml_advice(error: yaml.MarkedYAMLError) -> str:
    """What to write instead, where a text broke the syntax."""
    if "flow" in (error.context or ""):
        return f"; in {{ }} and [ ] a comma, a colon or a question mark ends a text: {_BLOCK_STYLE}"
    if "mapping values are not allowed" in (error.problem or ""):
        return "; a text that holds a colon needs quotes"
    return ""


class _Places:
    """Where in the job file a value stands, or that it comes from an override.

    Args:
        text: of the file; empty where the values come from elsewhere.
        overridden: the keys that overrides have set.
    """

    def __init__(self, text: str, overridden: Sequence[str]) -> None:
        self._root = yaml.compose(text, _Loader) if text else None
        self._overridden = overridden

    def of(self, path: Sequence[str]) -> str:
        """`, line 7` of the file, else nothing."""
        line, _ = self._find(path)
        return "" if line is None else f", line {line}"

    def is_in_braces(self, path: Sequence[str]) -> bool:
        """Whether a key stands inside `{ }`."""
        return self._find(path)[1]

    def _find(self, path: Sequence[str]) -> tuple[int | None, bool]:
        """The line of the last key of a path that there is, from 1, and whether it is in braces."""
        keys = ".".join(path)
        if any(f"{keys}.".startswith(f"{overridden}.") for overridden in self._overridden):
            return None, False
        node, line, braces = self._root, None, False
        for key in path:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == key]
                if not pairs:
                    break
                line, braces = pairs[0][0].start_mark.line + 1, bool(node.flow_style)
                node = pairs[0][1]
            elif isinstance(node, yaml.SequenceNode) and int(key) < len(node.value):
                node = node.value[int(key)]
                line = node.start_mark.line + 1
        return line, braces


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise SpecError(f"--set {override!r} is not of the form key.path=value")
    section = values
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise SpecError(f"--set {override!r}: {key} is a value, not a section")
    section[keys[-1]] = _parse_yaml(text, where=f"--set {override!r}")


_QUOTED = re.compile("'([^']*)'")
_SHOULD_BE = "it should be "
_DEMANDS = {
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "string_too_short": "not empty",
    "too_short": "not empty",
}


def _one_sentence(error: ValidationError, values: dict[str, Any], places: _Places) -> str:
    """The first problem, with the value and what is allowed; a misspelt key before others."""
    problems = error.errors(include_url=False)
    misspelt = [p for p in problems if p["type"] == "extra_forbidden"]
    first = _path((misspelt or problems)[0], values)
    # Where a value may be of several types each has its complaint: of a list, that of its item.
    of_it = [p for p in misspelt or problems if _path(p, values)[: len(first)] == first]
    problem = max(of_it, key=lambda p: len(_path(p, values)))
    path = _path(problem, values)
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        keys = sorted(_allowed_keys(path[:-1]))
        near = did_you_mean(path[-1], keys)
        unknown = f"unknown key {where!r} in the job file{places.of(path)}{near}"
        if problem["input"] is None and not near and places.is_in_braces(path):
            return f"{unknown}; if it is a part of a text, its comma ended that: {_BLOCK_STYLE}"
        return f"{unknown}; allowed here: {', '.join(keys)}"
    if problem["type"] == "missing":
        return f"the job file lacks the key {where!r}{places.of(path[:-1])}"
    if problem["type"] == "value_error" and not isinstance(problem["input"], str | int | float):
        return f"job file{places.of(path)}: {where + ': ' if where else ''}{_demand(problem)}"
    same = [p for p in of_it if _path(p, values) == path]
    demand, *others = dict.fromkeys(map(_demand, same))
    more = "".join(f" or {other.removeprefix(_SHOULD_BE)}" for other in others)
    value = textwrap.shorten(repr(problem["input"]), 200, placeholder="...")
    words = [w for p in same for w in _QUOTED.findall(str(p.get("ctx", {}).get("expected", "")))]
    near = did_you_mean(problem["input"], words)
    return f"job file{places.of(path)}: {where} is {value}, but: {demand}{more}{near}"


def _path(problem: ErrorDetails, values: Any) -> list[str]:
    """The keys and list positions that lead to a problem, without pydantic's names of types."""
    path = []
    for part in problem["loc"]:
        if isinstance(values, dict) and isinstance(part, str):
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int):
            values = values[part]
        else:
            continue
        path.append(str(part))
    return path


def _demand(problem: ErrorDetails) -> str:
    """What a problem's value should have been, in the words of a YAML file."""
    if (known := _DEMANDS.get(problem["type"])) is not None:
        return _SHOULD_BE + known
    message = problem["msg"].removeprefix("Value error, ")
    return message.replace("Input should be ", _SHOULD_BE, 1)


def _allowed_keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = JobSpec
    for key in path:
        if key.isdigit():  # an item of a list: its keys are those of the section before
            continue
        model_field = section.model_fields.get(key)
        annotation = model_field.annotation if model_field else None
        inner = [t for t in (annotation, *get_args(annotation)) if isinstance(t, type)]
        section = next((t for t in inner if issubclass(t, BaseModel)), section)
    return list(section.model_fields)
