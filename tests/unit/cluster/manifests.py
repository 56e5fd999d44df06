"""The Kubernetes objects that the project ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "cluster" / "kubernetes"


def objects() -> dict[str, dict[str, Any]]:
    """Every object of every file, by `file/Kind/name`."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for value in yaml.safe_load_all(path.read_text()):
            key = f"{path.name}/{value['kind']}/{value['metadata']['name']}"
            assert key not in found, f"{key} is there twice"
            found[key] = value
    return found


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside an object, itself too."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from nodes(child)


def pod_specs(value: Any) -> list[dict[str, Any]]:
    return [node for node in nodes(value) if "containers" in node]


def cluster_specs(value: Any) -> list[dict[str, Any]]:
    return [node for node in nodes(value) if "headGroupSpec" in node]
