"""What a submitted job takes along: its job file, and the small files that the job file names.

A cluster sees none of the submitter's disk. What is small travels with the job; of the rest the
job must name places that every node reaches.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from sfray.config import JobSpec
from sfray.errors import ManifestError, SpecError
from sfray.manifest.files import find_files
from sfray.model.checkpoints.find import Place, find_checkpoint, place_of
from sfray.planning.plan import refuse_what_is_not_there, resolve
from sfray.prompts.templates import is_built_in
from sfray.redaction import redact
from sfray.storage.uris import absolute, is_remote, local_path

logger = logging.getLogger("sfray")

JOB_FILE = "job.yaml"
_TEMPLATE_FILE = "template.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """A job as its cluster gets it.

    Attributes:
        spec: with the places that count on the cluster.
        files: the content of the job's folder there, by name; `JOB_FILE` is the spec.
    """

    spec: JobSpec
    files: dict[str, bytes]

    def write_to(self, folder: Path) -> None:
        """Lays the files out as the cluster is to find them."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def pack(spec: JobSpec, *, shared_paths: bool, max_manifest_bytes: int = 64 * 2**20) -> Shipment:
    """Checks a job as far as that needs no data, and collects what it takes along.

    Args:
        shared_paths: local paths of the job hold on every node; else a template and a small
            manifest travel with the job, and other local paths are refused.
        max_manifest_bytes: what travels is kept in the memory of the cluster's head.

    Raises:
        SpecError, CheckpointError, ManifestError: one sentence each.
    """
    _refuse_secrets(spec)
    _check(spec, shared_paths=shared_paths)
    files: dict[str, bytes] = {}
    changes: dict[str, Any] = {}
    if not is_built_in(spec.template):
        files[_TEMPLATE_FILE] = Path(spec.template).read_bytes()
        changes["template"] = _TEMPLATE_FILE
    if shared_paths:
        _local_manifest_paths(spec)
        changes |= _absolute_paths(spec)
    else:
        _refuse_local_paths(spec)
        manifests = _local_manifests(spec, max_manifest_bytes)
        files |= manifests
        remote = [uri for uri in spec.manifest.uris if is_remote(uri)]
        uris = (*remote, *manifests)
        changes["manifest"] = spec.manifest.model_copy(update={"uri": uris})
    shipped = spec.model_copy(update=changes)
    values = shipped.model_dump(mode="json")
    files[JOB_FILE] = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
    return Shipment(spec=shipped, files=files)


def _check(spec: JobSpec, *, shared_paths: bool) -> None:
    """All of a plan that needs no data; only the cluster may see a model's folder or bucket.

    What all nodes see, this machine sees too.
    """
    refuse_what_is_not_there(spec)
    path = Path(spec.model.id)
    match place_of(spec.model.id):
        case Place.S3:
            return
        case Place.FOLDER if path.is_absolute() and not path.exists() and not shared_paths:
            logger.warning(
                "model.id %s is no folder of this machine: it is taken for one that every node of "
                "the cluster has",
                spec.model.id,
            )
            return
    root = spec.videos.root
    if shared_paths and root is not None and not is_remote(root) and not local_path(root).is_dir():
        raise SpecError(f"videos.root {root!r} is no folder: {local_path(root).absolute()}")
    resolve(spec, find_checkpoint(spec.model, spec.storage))


def _refuse_secrets(spec: JobSpec) -> None:
    """The job file is kept on the cluster, where everyone who may use it can read it."""
    for key, value in _strings(spec.model_dump(mode="json")):
        if redact(value) != value:
            raise SpecError(
                f"{key} {redact(value)!r} carries a password or a signature, which the cluster "
                "would keep and show: name it without, and give the cluster's nodes access"
            )


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts of the values of a job file, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)


def _absolute_paths(spec: JobSpec) -> dict[str, Any]:
    """The sections that name local paths, with these as every node finds them."""
    root = spec.videos.root
    # Relative videos have been those below the folder from which the job is submitted.
    changes: dict[str, Any] = {
        "manifest": spec.manifest.model_copy(
            update={"uri": tuple(absolute(uri) for uri in spec.manifest.uris)}
        ),
        "videos": spec.videos.model_copy(update={"root": absolute(root or ".")}),
        "output": spec.output.model_copy(update={"uri": absolute(spec.output.uri)}),
    }
    if _is_local_model(spec):
        changes["model"] = spec.model.model_copy(update={"id": absolute(spec.model.id)})
    return changes


def _is_local_model(spec: JobSpec) -> bool:
    return place_of(spec.model.id) is Place.FOLDER and Path(spec.model.id).is_dir()


def _refuse_local_paths(spec: JobSpec) -> None:
    paths = {"output.uri": spec.output.uri, "videos.root": spec.videos.root}
    if _is_local_model(spec) and not Path(spec.model.id).is_absolute():
        paths["model.id"] = spec.model.id
    for key, path in paths.items():
        if path is not None and not is_remote(path):
            raise SpecError(
                f"{key} {path!r} is a path of this machine, which a cluster doesn't have: name a "
                "place that its nodes reach, such as s3://, or add --shared-paths if all nodes "
                "see the same files"
            )


def _local_manifest_paths(spec: JobSpec) -> list[Path]:
    """The manifest's local files; raises `ManifestError` where one isn't there."""
    uris = [uri for uri in spec.manifest.uris if not is_remote(uri)]
    with tempfile.TemporaryDirectory() as scratch:
        return [Path(file.path) for file in find_files(uris, spec.storage, Path(scratch))]


def _local_manifests(spec: JobSpec, max_bytes: int) -> dict[str, bytes]:
    """The content of the manifest's local files, under names of their own."""
    paths = _local_manifest_paths(spec)
    size = sum(path.stat().st_size for path in paths)
    if size > max_bytes:
        raise ManifestError(
            f"the manifest's local files hold {size} bytes, more than the {max_bytes} "
            "that may travel with a job: put them where the cluster's nodes reach them"
        )
    return {
        f"manifest-{number:05d}{PurePosixPath(path).suffix}": path.read_bytes()
        for number, path in enumerate(paths)
    }
