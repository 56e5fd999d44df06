"""The image: what hadolint says of it, and what its stages must keep to."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "cluster" / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [HADOLINT, "--no-color", "--failure-threshold", "style", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def stages() -> list[list[str]]:
    """The instructions of each stage, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        found[-1].append(line)
    return found


def test_the_linter_has_nothing_to_say() -> None:
    linted = lint(DOCKERFILE)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_linter_would_speak(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nUSER root\n")
    assert "DL3007" in lint(bad).stdout


def test_every_image_is_run_by_a_user_without_rights() -> None:
    by_name = {stage[0].split(" AS ")[-1]: stage for stage in stages()}
    assert stages()[-1] == ["FROM mounted"]
    for name in ("mounted", "launched", "baked"):
        users = [line for line in by_name[name] if line.startswith("USER")]
        assert users[-1:] in ([], ["USER 1000:1000"]), f"{name} ends as another user"
    assert "USER 1000:1000" in by_name["mounted"]
    assert by_name["launched"][0] == "FROM mounted AS launched"
    assert by_name["baked"][0] == "FROM mounted AS baked"


def test_bases_are_exact_versions_and_packages_are_constrained() -> None:
    lines = [line for stage in stages() for line in stage]
    names = {stage[0].split(" AS ")[-1] for stage in stages()} | {"scratch"}
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")} - names
    assert bases and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("-c constraints${VLLM:+-vllm-cuda}.txt" in line for line in installs)


def test_the_versions_of_the_image_with_vllm_are_those_that_sfray_wants() -> None:
    """With Ray, torch and transformers as in the image without, since a cluster may mix them."""
    with_vllm, without = versions("constraints-vllm-cuda.txt"), versions("constraints.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["vllm"]
    for requirement in map(Requirement, wanted):
        version = with_vllm.get(requirement.name)
        assert version and requirement.specifier.contains(version), requirement
    for name in ("ray", "torch", "transformers", "tokenizers", "av", "pyarrow"):
        assert with_vllm[name] == without[name]


def versions(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))
