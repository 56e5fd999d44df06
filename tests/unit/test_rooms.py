"""The rooms of the package: one subject each, and imports that go one way.

What may import what is said by the contracts in `pyproject.toml`; here are the figures that no
contract tells.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grimp
import pytest

import sfray

PACKAGE = Path(sfray.__file__).parent
MAX_SHARE = 0.12


def room_of(module: str) -> str:
    """The folder that a module is in; a folder inside a folder is a room of its own."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return module if (path / "__init__.py").exists() else module.rpartition(".")[0]


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    """From which room to which other there is an import; a module of the package itself is one."""
    graph = grimp.build_graph("sfray", cache_dir=None)
    return {
        (own(module), own(other))
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
        if own(module) != own(other)
    }


def own(module: str) -> str:
    room = room_of(module)
    return module if room == "sfray" else room


def test_no_room_is_reached_from_itself(arrows: set[tuple[str, str]]) -> None:
    """The package's own `__init__` passes on names of rooms, and no room imports it."""
    imports: dict[str, set[str]] = {}
    for room, other in arrows:
        imports.setdefault(room, set()).add(other)
    while leaves := [r for r in imports if not imports[r] & imports.keys()]:
        for leaf in leaves:
            del imports[leaf]
    assert not imports, f"these import one another in a circle: {sorted(imports)}"


def test_no_module_is_reached_from_itself() -> None:
    graph = grimp.build_graph("sfray", cache_dir=None)
    imports = {m: set(graph.find_modules_directly_imported_by(m)) for m in graph.modules}
    del imports["sfray"]  # its names are those of rooms
    while leaves := [m for m in imports if not imports[m] & imports.keys()]:
        for leaf in leaves:
            del imports[leaf]
    assert not imports, f"these import one another in a circle: {sorted(imports)}"


def test_rays_speakers_and_those_who_know_an_engine_are_named() -> None:
    """Whatever room comes next speaks no Ray and knows no engine."""
    graph = grimp.build_graph("sfray", include_external_packages=True, cache_dir=None)

    def top_rooms(modules: set[str]) -> set[str]:
        return {module.split(".")[1] for module in modules}

    assert top_rooms(graph.find_modules_that_directly_import("ray")) == {"pipeline", "submission"}
    engines = {module for module in graph.modules if module.startswith("sfray.model.engines")}
    knowing = {m for e in engines for m in graph.find_modules_that_directly_import(e)} - engines
    assert top_rooms(knowing) == {"stages"}


def test_every_folder_of_modules_is_a_room() -> None:
    """One without `__init__.py` would be seen by no contract."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_no_room_is_too_large() -> None:
    lines: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        number = len(path.read_text(encoding="utf-8").splitlines())
        lines[path.parent.relative_to(PACKAGE).as_posix()] += number
    total = lines.total()
    large = {r: f"{n / total:.1%}" for r, n in lines.items() if r != "." and n > MAX_SHARE * total}
    assert not large


def test_tests_mirror_the_rooms() -> None:
    """A folder of unit tests is a room, or a part of the project beside the package."""
    beside = {"cluster", "docs", "tools"}
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    assert folders - beside <= rooms
