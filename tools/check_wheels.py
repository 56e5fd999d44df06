"""Asks pip which wheels of what sfray depends on there are, by platform and Python: a table.

    python -m tools.check_wheels > benchmarks/results/DATE-wheels.md

A wheel that is wanted and missing is exit code 1. What a marker leaves out on a platform is asked
for too, so that the table says whether it has to. pip's options come from its variables and files
as always (`PIP_INDEX_URL`, `PIP_FIND_LINKS`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

PYTHONS = ("3.11", "3.12", "3.13")
_AT_ONCE = 4
# What pip says where an index answered and has nothing that fits, in contrast to one that is away.
_NOTHING_FITS = "No matching distribution found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A kind of machine: the tags of its wheels, and what markers see there."""

    name: str
    tags: tuple[str, ...]
    markers: dict[str, str] = field(hash=False)


def _linux(machine: str) -> Platform:
    # glibc up to 2.34: Amazon Linux 2023, RHEL 9, Ubuntu 22.04 and later ones.
    old = [f"manylinux{tag}_{machine}" for tag in ("1", "2010", "2014")]
    new = [f"manylinux_2_{minor}_{machine}" for minor in range(5, 35)]
    markers = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    return Platform(name=f"Linux {machine}", tags=(*old, *new), markers=markers)


PLATFORMS = (
    _linux("x86_64"),
    _linux("aarch64"),
    Platform(
        name="macOS arm64",
        tags=("macosx_14_0_arm64",),  # pip adds those of older releases
        markers={
            "sys_platform": "darwin",
            "platform_system": "Darwin",
            "platform_machine": "arm64",
        },
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel that pip would install; `is_local` where a file of this machine is it."""

    version: str
    is_local: bool


def is_wanted(requirement: Requirement, platform: Platform, python: str) -> bool:
    """Whether the requirement's marker holds there; pip would ask it of this machine."""
    if requirement.marker is None:
        return True
    there = platform.markers | {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker.evaluate(there)


def find_wheel(requirement: Requirement, platform: Platform, python: str) -> Wheel | None:
    """The wheel that pip would take, or None where there is none.

    Raises:
        RuntimeError: pip couldn't tell.
    """
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    with tempfile.TemporaryDirectory() as nowhere:
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
            *(word for tag in platform.tags for word in ("--platform", tag)),
            *("--ignore-installed", "--target", nowhere, "--report", "-"),
            f"{requirement.name}{extras}{requirement.specifier}",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - names of our own pyproject
    if done.returncode and _NOTHING_FITS in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(f"pip, asked for {requirement.name}: {done.stderr.strip()}")
    (item,) = json.loads(done.stdout)["install"]
    url = urlsplit(item["download_info"]["url"])
    parse_wheel_filename(Path(url.path).name.replace("%2B", "+"))  # nothing else may be installed
    return Wheel(version=item["metadata"]["version"], is_local=url.scheme == "file")


def cell(wheels: Sequence[Wheel | None], wanted: Sequence[bool]) -> str:
    """One platform's cell, from what there is for each Python."""
    if not any(wanted):
        return "not wanted, has some" if any(wheels) else "not wanted, has none"
    pairs = zip(PYTHONS, wheels, wanted, strict=True)
    missing = [python for python, wheel, is_wanted in pairs if is_wanted and wheel is None]
    if missing:
        return f"**missing for {', '.join(missing)}**"
    found = [f"{w.version} (local file)" if w.is_local else w.version for w in wheels if w]
    return " / ".join(dict.fromkeys(found))


def check(requirements: Sequence[Requirement]) -> tuple[list[str], bool]:
    """The table's lines, and whether all that is wanted has wheels."""
    cases = list(product(requirements, PLATFORMS, PYTHONS))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wheels = dict(zip(cases, pool.map(lambda case: find_wheel(*case), cases), strict=True))
    names = [platform.name for platform in PLATFORMS]
    lines = [f"| dependency | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for requirement in requirements:
        cells = [
            cell(
                [wheels[requirement, platform, python] for python in PYTHONS],
                [is_wanted(requirement, platform, python) for python in PYTHONS],
            )
            for platform in PLATFORMS
        ]
        lines.append(f"| `{requirement}` | {' | '.join(cells)} |")
    complete = all(wheel or not is_wanted(*case) for case, wheel in wheels.items())
    return lines, complete


def main() -> None:
    """Prints the table of the project's dependencies, or of those that are given."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(text) for text in sys.argv[1:] or project["dependencies"]]
    lines, complete = check(requirements)
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], check=True, capture_output=True, text=True
    )
    print("# Wheels of what sfray depends on\n")
    command = " ".join(["python -m tools.check_wheels", *sys.argv[1:]])
    print(f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, pip {pip.stdout.split()[1]}.\n")
    print(
        "A cell has the version that `pip install --dry-run --no-deps --only-binary=:all: "
        "--platform ... --python-version ...`\n"
        f'takes for CPython {", ".join(PYTHONS)}. "Not wanted" is what its marker leaves out; '
        "that it is asked for all the same\nshows that the question can be answered with no. "
        '"Local file" is a wheel that lay on the machine that asked.\n'
    )
    print("\n".join(lines))
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
