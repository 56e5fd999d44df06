"""The stages of a job, and what of the cluster at hand their actors take."""

from __future__ import annotations

from dataclasses import dataclass

from sfray.config import ResourcesSpec
from sfray.pipeline.actors import Stages
from sfray.pipeline.cluster import ClusterShare, cluster_share, share_now
from sfray.pipeline.gpu_share import with_gpu_share
from sfray.pipeline.job_stages import job_stages
from sfray.planning.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Stages on a cluster; `first` is the share that the job began with."""

    stages: Stages
    resources: ResourcesSpec
    first: ClusterShare

    def share(self) -> ClusterShare:
        """The share of what the cluster has now."""
        return share_now(self.resources, self.first)


def place_job(plan: JobPlan, stages: Stages | None) -> Placement:
    """Fits a job to the cluster that this process is connected to.

    Args:
        stages: other stages than the plan's.

    Raises:
        ClusterError: the cluster has too little for it.
    """
    spec = plan.spec
    if stages is None:
        spec = with_gpu_share(spec, plan.profile)
        stages = job_stages(spec, plan.profile)
    return Placement(stages=stages, resources=spec.resources, first=cluster_share(spec.resources))
