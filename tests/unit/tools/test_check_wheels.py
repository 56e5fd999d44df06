"""What there are wheels of, by a real pip that sees a folder of wheels and no index."""

from __future__ import annotations

import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tools.check_wheels import PLATFORMS, PYTHONS, Wheel, cell, check, find_wheel, is_wanted

ROOT = Path(__file__).parents[3]
X86, ARM, MAC = PLATFORMS


def write_wheel(folder: Path, name: str, tag: str) -> None:
    info = f"{name}-1.0.dist-info"
    with ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        wheel.writestr(f"{info}/METADATA", about)
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path


@pytest.mark.parametrize(
    ("tag", "platforms"),
    [
        ("cp312-cp312-manylinux_2_28_x86_64", [X86]),
        ("cp312-cp312-manylinux2014_aarch64", [ARM]),
        ("cp312-cp312-macosx_11_0_arm64", [MAC]),
        ("cp311-abi3-macosx_10_12_universal2", [MAC]),
        ("cp313-cp313-manylinux_2_28_x86_64", []),
        ("py3-none-win_amd64", []),
        ("py3-none-any", [X86, ARM, MAC]),
    ],
)
def test_a_wheel_is_found_where_it_fits_and_nowhere_else(
    wheels: Path, tag: str, platforms: list[object]
) -> None:
    write_wheel(wheels, "thing", tag)
    found = [p for p in PLATFORMS if find_wheel(Requirement("thing==1.0"), p, "3.12")]
    assert found == platforms


def test_what_has_no_wheel_is_missing_in_the_table_and_fails_it(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.check_wheels.PYTHONS", ("3.12",))
    (wheels / "thing-1.0.tar.gz").touch()  # a source is none
    lines, complete = check([Requirement("thing==1.0")])
    assert lines[-1] == "| `thing==1.0` |" + " **missing for 3.12** |" * 3
    assert not complete


def test_markers_are_those_of_the_platform_that_is_asked_for() -> None:
    marked = Requirement("x; sys_platform == 'linux' and platform_machine == 'x86_64'")
    assert [is_wanted(marked, platform, "3.12") for platform in PLATFORMS] == [True, False, False]
    late = Requirement("x; python_version >= '3.13'")
    assert [is_wanted(late, MAC, python) for python in PYTHONS] == [False, False, True]


def test_a_cell_tells_versions_where_they_lay_and_for_which_python_there_is_none() -> None:
    one, other = Wheel(version="1", is_local=True), Wheel(version="2", is_local=False)
    assert cell([one, other, other], [True] * 3) == "1 (local file) / 2"
    assert cell([one, None, None], [True] * 3) == "**missing for 3.12, 3.13**"
    assert cell([one, None, None], [True, False, False]) == "1 (local file)"
    assert cell([None] * 3, [False] * 3) == "not wanted, has none"
    assert cell([None, one, None], [False] * 3) == "not wanted, has some"


def test_the_committed_table_is_of_what_is_declared_and_misses_nothing() -> None:
    table = max((ROOT / "benchmarks" / "results").glob("*-wheels.md")).read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        assert f"| `{Requirement(text)}` |" in table, "run tools.check_wheels again"
    assert "missing" not in table.partition("|---")[2]
    assert "not wanted, has none" in table
    assert "://" not in table
