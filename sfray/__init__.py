"""sfray: captions and answers for large video corpora, with SlowFast-LLaVA on Ray.

import sfray
summary = sfray.run(sfray.JobSpec.model_validate({...}))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfray.config import JobSpec as JobSpec
    from sfray.planning.job_file import load_job as load_job_spec
    from sfray.results.costs import total_costs as total_costs
    from sfray.runs.run import run_job as run
    from sfray.runs.summary import RunSummary as RunSummary

__all__ = ["JobSpec", "RunSummary", "load_job_spec", "run", "total_costs"]

_HOMES = {
    "JobSpec": ("sfray.config", "JobSpec"),
    "RunSummary": ("sfray.runs.summary", "RunSummary"),
    "load_job_spec": ("sfray.planning.job_file", "load_job"),
    "run": ("sfray.runs.run", "run_job"),
    "total_costs": ("sfray.results.costs", "total_costs"),
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `sfray plan` must not wait for Ray and torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'sfray' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
