"""Where a question's video lies: the files that there are, by name, and the names tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from sfray.scoring.benchmarks.benchmark import Benchmark

_YOUTUBE_ID_LENGTH = 11


def stems(benchmark: Benchmark, name: str, mapping: Mapping[str, str]) -> tuple[str, ...]:
    """The file names without extension that are tried, the canonical one first.

    Args:
        name: as the source has it; an extension, and a prefix of the patterns, may be on it.
        mapping: names or paths of files by the source's names, where a file of such comes with
            the benchmark (MSVD's `youtube_mapping.txt`, NExT-QA's `map_vid_vidorID.json`).
    """
    path = PurePosixPath(name)
    bare = path.stem if path.suffix.lower() in benchmark.extensions else path.name
    tried = []
    if bare in mapping:
        tried.append(mapping[bare])
    patterns = benchmark.video_stems
    if patterns[0] == "v_{}":
        # An id of YouTube may itself begin with `v_`; its length tells.
        if bare.startswith("v_") and len(bare) != _YOUTUBE_ID_LENGTH:
            bare = bare[2:]
    elif bare.isdigit():
        patterns = tuple(reversed(patterns))
    tried += [pattern.format(bare) for pattern in patterns]
    if tried[-1] in mapping:  # `1201` of a question is `vid1201` of the mapping
        tried.insert(0, mapping[tried[-1]])
    elif len(tried) > 1 and tried[0] in mapping:
        tried.insert(0, mapping[tried[0]])
    return tuple(dict.fromkeys(tried))


class VideoFiles:
    """The videos below a root, found by name whatever their folder.

    Args:
        paths: of files, relative to the root.
        extensions: of videos; where a name has several files, the first extension wins.
    """

    def __init__(self, paths: Iterable[str], extensions: tuple[str, ...]) -> None:
        self._extensions = extensions
        self._path_by_stem: dict[str, str] = {}
        ranked = [(self._rank(path), path) for path in paths]
        for rank, path in sorted(ranked, key=lambda pair: (pair[0], pair[1])):
            if rank < len(extensions):
                self._path_by_stem.setdefault(PurePosixPath(path).stem, path)
                self._path_by_stem.setdefault(_stem_path(path), path)

    def find(self, tried: tuple[str, ...]) -> str | None:
        """The path of the first name that exists, else None."""
        return next((self._path_by_stem[s] for s in tried if s in self._path_by_stem), None)

    def _rank(self, path: str) -> int:
        suffix = PurePosixPath(path).suffix.lower()
        known = self._extensions
        return known.index(suffix) if suffix in known else len(known)


def _stem_path(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))
