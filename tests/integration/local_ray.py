"""One Ray for all tests in which the start of one isn't what is tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def ray_address(s3_keys: None) -> Iterator[str]:
    """The address of a Ray of two CPUs, on this machine, which processes of tests may join."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def local_ray(ray_address: str) -> Iterator[None]:
    """The process of the tests is in that Ray; what it started there ends with the module."""
    ray.init(address=ray_address, log_to_driver=False)
    yield
    ray.shutdown()
