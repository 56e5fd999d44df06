from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.local_ray import local_ray, ray_address, ray_at_hand
from tests.integration.s3_server import s3_keys, s3_server

__all__ = ["local_ray", "ray_address", "ray_at_hand", "s3_keys", "s3_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a Ray of their own come last: a process that was in another doesn't get on in
    the shared one."""
    here = Path(__file__).parent
    places = [index for index, item in enumerate(items) if here in item.path.parents]
    ordered = sorted(
        (items[index] for index in places), key=lambda item: "own_ray" in item.keywords
    )
    for index, item in zip(places, ordered, strict=True):
        items[index] = item
