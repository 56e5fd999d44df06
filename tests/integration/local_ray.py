"""One Ray for all tests in which the start of one isn't what is tested."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
from ray._common.utils import reset_ray_address
from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def ray_address(s3_keys: None) -> Iterator[str]:
    """The address of a Ray of two CPUs, on this machine, which processes of tests may join.

    Its workers have the environment of now, and so the keys of the tests' S3 server.
    """
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    # Who starts a Ray of its own is not to find this one by itself.
    reset_ray_address()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def local_ray(ray_address: str) -> None:
    """The process of the tests is in that Ray, and stays there for the tests after these."""
    if not ray.is_initialized():
        ray.init(address=ray_address, log_to_driver=False)


@pytest.fixture
def ray_at_hand(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of this test, and processes that it starts, join that Ray, and leave it, themselves."""
    leave_ray()
    monkeypatch.setenv("RAY_ADDRESS", ray_address)


@contextmanager
def own_ray(**options: Any) -> Iterator[Any]:
    """Another Ray in place of the shared one, as `ray.init` makes it."""
    leave_ray()
    try:
        yield ray.init(**{"address": "local", "log_to_driver": False} | options)
    finally:
        leave_ray()


def leave_ray() -> None:
    """The process is in no Ray any more, and holds no actor: those of the next Ray have the same
    ids, and end when an old one is let go of."""
    ray.shutdown()
    gc.collect()
