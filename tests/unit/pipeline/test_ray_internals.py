"""Each private symbol of Ray that sfray leans on: for another version of Ray, the list to check."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from ray.actor import ActorHandle
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.planner.planner import Planner

import sfray
from sfray.pipeline import ray_internals

PRIVATE = {
    "ray._private.log.PlainRayHandler",
    "ray._private.state.state",
    "ray._private.utils.read_ray_address",
    "ray.core.generated.gcs_pb2.ActorTableData",
    "ray.data._internal.execution.execution_callback.ExecutionCallback",
    "ray.data._internal.execution.interfaces.BlockEntry",
    "ray.data._internal.execution.interfaces.PhysicalOperator",
    "ray.data._internal.execution.interfaces.RefBundle",
    "ray.data._internal.execution.operators.input_data_buffer.InputDataBuffer",
    "ray.data._internal.execution.streaming_executor.StreamingExecutor",
    "ray.data._internal.logical.interfaces.LogicalOperator",
    "ray.data._internal.logical.interfaces.LogicalPlan",
    "ray.data._internal.logical.interfaces.SourceOperator",
    "ray.data._internal.planner.planner.Planner",
    "ray.data._internal.stats.DatasetStats",
}
# Attributes by where Ray sets or defines them.
ATTRIBUTES = [
    (StreamingExecutor, "_topology"),
    (StreamingExecutor, "_data_context"),
    (actor_pool_map_operator, "_running_actors"),
    (actor_pool_map_operator, "_pending_actors"),
    (actor_pool_map_operator, "_release_running_actor"),
    (actor_pool_map_operator, "num_tasks_in_flight"),
    (ActorHandle, "_get_local_state"),
    (Planner, "_DEFAULT_PLAN_FNS"),
]


def private_imports(path: Path) -> set[str]:
    """What a module imports of Ray's private modules."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ray.")
        for alias in node.names
        if "._" in str(node.module) or ".core." in str(node.module)
    }


def test_all_of_them_are_in_one_place() -> None:
    here = Path(str(ray_internals.__file__))
    assert private_imports(here) == PRIVATE
    package = Path(sfray.__file__).parent
    elsewhere = {str(p): private_imports(p) for p in package.rglob("*.py") if p != here}
    assert not {path: found for path, found in elsewhere.items() if found}


@pytest.mark.parametrize(("where", "name"), ATTRIBUTES, ids=[name for _, name in ATTRIBUTES])
def test_what_is_reached_into_is_there(where: object, name: str) -> None:
    assert name in inspect.getsource(where)  # type: ignore[arg-type]


def test_lost_blocks_are_told_in_these_words() -> None:
    from ray.data._internal.execution import streaming_executor_state

    assert "Ignoring this exception" in inspect.getsource(streaming_executor_state)
