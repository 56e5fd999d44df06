"""Job files of people: relative paths hold from where one is, else from where the job file is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path

from sfray.config import JobSpec, load_job_spec
from sfray.errors import CheckpointError, ManifestError, RunError, SpecError
from sfray.model.checkpoints.find import Place, place_of
from sfray.model.presets import DEMO, PRESETS
from sfray.prompts.templates import built_in_names, is_built_in
from sfray.redaction import redact
from sfray.storage.uris import is_remote, local_path

logger = logging.getLogger("sfray")


def load_job(path: str | Path, overrides: tuple[str, ...] = ()) -> JobSpec:
    """Reads and validates a job file, and finds its relative paths.

    One that is in the working directory is taken there. One that is only in the job file's folder
    is taken from there, which is told: the values of `manifest.uri`, `videos.root`, `template` and
    `model.id`, but never the output, which may be nowhere yet.

    Raises:
        SpecError, ManifestError, CheckpointError: one sentence; of a path that is in neither with
            the places where it was looked for.
    """
    spec = load_job_spec(path, overrides)
    paths = _Paths(Path(path).parent)
    uris = tuple(
        paths.find("manifest.uri", uri, _is_file_folder_or_glob, ManifestError)
        for uri in spec.manifest.uris
    )
    uri = uris[0] if isinstance(spec.manifest.uri, str) else uris
    root, template, model_id = spec.videos.root, spec.template, spec.model.id
    if root is not None:
        root = paths.find("videos.root", root, Path.is_dir)
    if not is_built_in(template):
        template = paths.find("template", template, Path.is_file, SpecError, built_in_names())
    if place_of(model_id) is Place.FOLDER:
        known = (DEMO, *PRESETS)
        model_id = paths.find("model.id", model_id, Path.is_dir, CheckpointError, known)
    if not paths.found_beside:
        return spec
    logger.info(
        "not in the working directory, so taken from the job file's folder %s: %s",
        paths.folder.absolute(),
        ", ".join(paths.found_beside),
    )
    return spec.model_copy(
        update={
            "manifest": spec.manifest.model_copy(update={"uri": uri}),
            "videos": spec.videos.model_copy(update={"root": root}),
            "template": template,
            "model": spec.model.model_copy(update={"id": model_id}),
        }
    )


class _Paths:
    """Finds relative paths; `found_beside` tells of those that are only beside the job file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found_beside: list[str] = []

    def find(
        self,
        key: str,
        value: str,
        is_there: Callable[[Path], bool],
        error: type[RunError] | None = None,
        names: Sequence[str] = (),
    ) -> str:
        """The path that a key's value stands for; URIs and absolute paths as they are.

        Args:
            error: raised where there is none; without it the cluster may see what is not here.
            names: what the value may be besides.
        """
        if is_remote(value) or (path := local_path(value)).is_absolute():
            return value
        places = [path, self.folder / path]
        if _can_be_seen(is_there, path):
            return value
        if _can_be_seen(is_there, places[1]):
            self.found_beside.append(f"{key} {value}")
            return str(places[1])
        looked = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
        others = f", and is none of: {', '.join(names)}" if names else ""
        sentence = f"{key} {redact(value)!r} does not exist, looked for at {looked}{others}"
        if error is not None:
            raise error(sentence)
        logger.warning("%s", sentence)
        return value


def _can_be_seen(is_there: Callable[[Path], bool], path: Path) -> bool:
    """False too of what may not be looked at, and of what no path can be."""
    try:
        return is_there(path)
    except (OSError, ValueError):
        return False


def _is_file_folder_or_glob(path: Path) -> bool:
    return path.exists() or bool(glob(str(path)))  # noqa: PTH207 - it may be absolute
