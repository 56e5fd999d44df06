import pytest

from sfray.config import ResourcesSpec
from sfray.errors import RunError
from sfray.pipeline.cluster import share_of


def resources(**changes: object) -> ResourcesSpec:
    return ResourcesSpec.model_validate(changes)


@pytest.mark.parametrize("num_cpus", [1.0, 2.0])
def test_both_stages_fit_on_a_small_machine(num_cpus: float) -> None:
    share = share_of(resources(), [num_cpus], num_gpus=0)
    assert share.decode_cpus * share.decode_actors[0] + share.model_cpus <= num_cpus
    assert share.model_threads == num_cpus


def test_without_a_gpu_there_is_a_replica_a_node() -> None:
    share = share_of(resources(), [8.0, 4.0], num_gpus=0)
    assert share.model_actors == (1, 2)
    assert share.decode_actors == (1, 11)
    assert share.model_threads == 4


@pytest.mark.parametrize(
    ("asked", "fitting"), [("auto", 2), (1.0, 2), (0.5, 4), (0.34, 4), (0.25, 8)]
)
def test_replicas_share_gpus_by_the_fraction_asked_for(asked: float | str, fitting: int) -> None:
    share = share_of(resources(num_gpus_per_replica=asked), [16.0], num_gpus=2)
    assert share.model_actors == (1, fitting)
    assert share.model_gpus == (1.0 if asked == "auto" else asked)


def test_the_job_bounds_the_pools() -> None:
    asked = resources(
        decode_workers={"min": 2, "max": 3},
        model_replicas={"min": 2, "max": 2},
        num_gpus_per_replica=0.5,
    )
    share = share_of(asked, [16.0], num_gpus=4)
    assert share.decode_actors == (2, 3) and share.model_actors == (2, 2)


def test_a_replica_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(RunError, match=r"0\.5 GPUs"):
        share_of(resources(num_gpus_per_replica=1.0), [16.0], num_gpus=0.5)
