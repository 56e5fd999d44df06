"""sfray: captions and answers for large video corpora, with SlowFast-LLaVA on Ray.

import sfray
sfray.plan("captions.yaml")
summary = sfray.run("captions.yaml", set=["sampling.num_frames=10"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfray.api import load_job_spec as load_job_spec
    from sfray.api import plan as plan
    from sfray.api import retry as retry
    from sfray.api import run as run
    from sfray.api import verify as verify
    from sfray.config import JobSpec as JobSpec
    from sfray.config import StorageSpec as StorageSpec
    from sfray.results.costs import total_costs as total_costs
    from sfray.runs.summary import RunSummary as RunSummary

__version__ = "0.1.0"

_HOMES = {
    "JobSpec": "sfray.config",
    "RunSummary": "sfray.runs.summary",
    "StorageSpec": "sfray.config",
    "load_job_spec": "sfray.api",
    "plan": "sfray.api",
    "retry": "sfray.api",
    "run": "sfray.api",
    "total_costs": "sfray.results.costs",
    "verify": "sfray.api",
}

__all__ = [
    "JobSpec",
    "RunSummary",
    "StorageSpec",
    "__version__",
    "load_job_spec",
    "plan",
    "retry",
    "run",
    "total_costs",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: `sfray plan` must not wait for Ray and torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'sfray' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
