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

from tests.waiting import wait_until

NUM_CPUS = 2


@pytest.fixture(scope="session")
def ray_address(s3_keys: None) -> Iterator[str]:
    """The address of a Ray of two CPUs, on this machine, which processes of tests may join.

    Its workers have the environment of now, and so the keys of the tests' S3 server.
    """
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": NUM_CPUS, "include_dashboard": False}
    )
    # Who starts a Ray of its own is not to find this one by itself.
    reset_ray_address()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def local_ray(ray_address: str) -> Iterator[None]:
    """The process of the tests is in that Ray, and stays there for the tests after these, which
    find all of it free."""
    if not ray.is_initialized():
        ray.init(address=ray_address, log_to_driver=False)
    yield
    if ray.is_initialized():
        wait_until(_is_free, "the end of all actors of these tests")


def _is_free() -> bool:
    gc.collect()  # tracebacks hold actors
    return ray.available_resources().get("CPU") == NUM_CPUS


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
