"""The job file: every key, its default and what it may be, validated strictly and once.

Inside the package these values are trusted. A section is what the part of the program that it
configures takes, so no second set of names exists.
"""

from __future__ import annotations

import textwrap
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

from sfray.errors import SpecError
from sfray.partition import Partition

Task = Literal["caption", "qa", "multiple_choice"]
PositiveInt = Annotated[int, Field(ge=1)]
NonEmpty = Annotated[str, Field(min_length=1)]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Strings = Annotated[tuple[NonEmpty, ...], BeforeValidator(_as_tuple)]
Scheme = Literal["file", "s3", "gs", "https", "http"]


class Section(BaseModel):
    """A part of the job file: unknown keys and loose types are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

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
    """Where the rows are and how their columns are called there.

    `columns` maps sfray's names to the manifest's; `passthrough` names columns that reach the
    results unchanged.
    """

    uri: NonEmpty | Annotated[tuple[NonEmpty, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
    columns: dict[str, str] = {}
    passthrough: Strings = ()

    @property
    def uris(self) -> tuple[str, ...]:
        return (self.uri,) if isinstance(self.uri, str) else self.uri


class VideosSpec(Section):
    """Where videos may come from. `root` is what relative URIs are resolved against."""

    root: str | None = None
    allowed_schemes: Annotated[
        tuple[Scheme, ...], Field(min_length=1), BeforeValidator(_as_tuple)
    ] = (
        "file",
        "s3",
        "gs",
        "https",
    )
    allowed_hosts: Strings | None = None
    max_file_bytes: PositiveInt = 64 * 2**30


class PromptSpec(Section):
    """One prompt for every video; `{column}` stands for a column of the manifest."""

    _FIRST_KEYS = frozenset({"prompt_id", "text"})

    prompt_id: NonEmpty
    text: NonEmpty

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
    factor: float = Field(gt=1.0)


class ModelSpec(Section):
    """The model: `id` is a hub id, a folder, here or on S3, or `demo`."""

    id: NonEmpty
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    rope_scaling: RopeScaling | None = None


class WindowsSpec(Section):
    """What a clip is cut into, each window with requests of its own.

    Either pieces of `seconds`, each of which begins `overlap_seconds` before the end of the one
    before it, or scenes of at least `min_seconds`, two where that is None.
    """

    _FIRST_KEYS = frozenset({"seconds", "overlap_seconds", "scenes", "min_seconds"})

    seconds: Annotated[float, Field(gt=0.0)] | None = None
    overlap_seconds: float = Field(default=0.0, ge=0.0)
    scenes: bool = False
    min_seconds: Annotated[float, Field(ge=0.0)] | None = None

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
    """How many frames of a clip are taken; None stands for the model preset's number."""

    _FIRST_KEYS = frozenset({"num_frames", "seek", "windows"})

    num_frames: PositiveInt | None = None
    seek: Literal["exact", "keyframe"] = "exact"
    windows: WindowsSpec | None = None


class DecodeSpec(Section):
    """The reader, and the limits of the process that decodes one file."""

    reader: Literal["auto", "pyav", "decord"] = "auto"
    timeout_seconds: PositiveInt = 120
    max_memory_bytes: PositiveInt = 4 * 2**30
    max_frame_pixels: PositiveInt = 8192 * 8192
    max_frames: PositiveInt = 10_000_000
    max_substituted_ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    files_per_process: PositiveInt = 200


class PoolingSpec(Section):
    """The two pathways of SlowFast-LLaVA; None stands for the model preset's values.

    `num_slow_frames: 0` switches the slow pathway off, `fast_grid: off` the fast one.
    """

    _FIRST_KEYS = frozenset({"num_slow_frames", "slow_pool", "fast_grid"})

    num_slow_frames: Annotated[int, Field(ge=0)] | None = None
    slow_pool: Literal["none", "max_1d", "avg_1d", "max_2d", "avg_2d"] | None = None
    fast_grid: tuple[PositiveInt, PositiveInt] | Literal["off"] | None = None

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
    """How text is generated; temperature 0 is greedy."""

    _FIRST_KEYS = frozenset({"max_new_tokens", "temperature", "top_p", "seed", "stop"})

    max_new_tokens: PositiveInt = 128
    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0
    stop: Strings = ()


class PoolSize(Section):
    """How few and how many actors a stage may have."""

    min: PositiveInt = 1
    max: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> PoolSize:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class ResourcesSpec(Section):
    """What the two stages may take of the cluster.

    `decode_node_group` keeps decoding on the nodes of one group: KubeRay's `groupName`, or the node
    type of `ray up` (Ray's label `ray.io/node-group`). With `autoscaling` the cluster adds nodes as
    they are asked for: the bounds hold as they are written, whatever is there at the start, and a
    number of GPUs is waited for.
    """

    num_gpus_per_replica: Annotated[float, Field(gt=0.0)] | Literal["auto"] = "auto"
    model_replicas: PoolSize = PoolSize(max=8)
    decode_workers: PoolSize = PoolSize(max=16)
    decode_node_group: str | None = None
    autoscaling: bool = False

    @field_validator("num_gpus_per_replica")
    @classmethod
    def _whole_above_one(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > 1 and value != int(value):
            raise ValueError("a share of one GPU (0 < share <= 1) or a whole number of GPUs")
        return value


class LimitsSpec(Section):
    """When a finished run counts as failed."""

    max_failure_ratio: float = Field(default=0.05, ge=0.0, le=1.0)


class OutputSpec(Section):
    """Where results go, and how many or how long they may wait before they are written.

    With `partition: i/n`, counted from 0, a run does only the videos whose identity hashes to i
    modulo n, in a log of its own below `uri`.
    """

    uri: NonEmpty
    partition: str | None = None
    flush_rows: PositiveInt = 1000
    flush_seconds: PositiveInt = 30

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
    profile: str | None = None
    region: str | None = None
    anonymous: bool = False

    def over(self, other: StorageSpec) -> StorageSpec:
        """`other` with the values in place of its own that were given here, defaults or not."""
        return other.model_copy(update=self.model_dump(exclude_unset=True))


class JobSpec(Section):
    """One job."""

    name: str = Field(default="sfray", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    manifest: ManifestSpec
    videos: VideosSpec = VideosSpec()
    task: Task
    prompts: Annotated[tuple[PromptSpec, ...], BeforeValidator(_as_tuple)] = ()
    template: str = "default"
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
    return parse_job_spec(_read_values(path), overrides)


def parse_job_spec(values: dict[str, Any], overrides: tuple[str, ...] = ()) -> JobSpec:
    """Validates the values of a job file after its overrides; raises `SpecError`."""
    for override in overrides:
        _apply_override(values, override)
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(_one_sentence(error, values)) from error


class _StorageAlone(Section):
    """A job file of which nothing but one section counts."""

    model_config = ConfigDict(extra="ignore")

    storage: StorageSpec = StorageSpec()


def load_storage_spec(path: str | Path) -> StorageSpec:
    """Reads the `storage` section of a job file, whatever else the file holds.

    Raises:
        SpecError: one sentence on what is wrong, where, and what is allowed.
    """
    values = _read_values(path)
    try:
        return _StorageAlone.model_validate(values).storage
    except ValidationError as error:
        raise SpecError(_one_sentence(error, values)) from error


def _read_values(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the job file {path} can't be read: {error}") from error
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
    except yaml.YAMLError as error:
        raise SpecError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


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


_SHOULD_BE = "it should be "
_DEMANDS = {
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "string_too_short": "not empty",
    "too_short": "not empty",
}


def _one_sentence(error: ValidationError, values: dict[str, Any]) -> str:
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
        allowed = ", ".join(sorted(_allowed_keys(path[:-1])))
        return f"unknown key {where!r} in the job file; allowed here: {allowed}"
    if problem["type"] == "missing":
        return f"the job file lacks the key {where!r}"
    if problem["type"] == "value_error" and not isinstance(problem["input"], str | int | float):
        return f"job file: {where + ': ' if where else ''}{_demand(problem)}"
    demand, *others = dict.fromkeys(_demand(p) for p in of_it if _path(p, values) == path)
    more = "".join(f" or {other.removeprefix(_SHOULD_BE)}" for other in others)
    value = textwrap.shorten(repr(problem["input"]), 200, placeholder="...")
    return f"job file: {where} is {value}, but: {demand}{more}"


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
