"""Each private symbol of Ray that sfray leans on: for another version of Ray, the list to check."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from ray.actor import ActorHandle
from ray.data import DataContext
from ray.data._internal.execution.interfaces import PhysicalOperator, RefBundle, op_runtime_metrics
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.planner.planner import Planner
from ray.data.block import BlockMetadataWithSchema

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
    (StreamingExecutor, "def shutdown(self, force"),
    (PhysicalOperator, "def get_autoscaling_actor_pools"),
    (PhysicalOperator, "def get_actor_info"),
    (op_runtime_metrics, "num_external_inqueue_blocks"),
    (op_runtime_metrics, "obj_store_mem_internal_inqueue_blocks"),
    (type(ray_internals.cluster_state), "def get_draining_nodes"),
    (DataContext, "custom_execution_callback_classes"),
    (BlockMetadataWithSchema, "def from_block"),
    (RefBundle, "owns_blocks"),
]
# Any way to reach into Ray that is no import of a name.
_REACHES_IN = re.compile(r"\bray(\.\w+)*\._\w|from ray(\.\w+)* import _|import ray\.core")


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
    elsewhere = [path for path in package.rglob("*.py") if path != here]
    assert len(elsewhere) > 150
    assert not {path: found for path in elsewhere if (found := private_imports(path))}
    assert not [path for path in elsewhere if _REACHES_IN.search(path.read_text(encoding="utf-8"))]


def test_what_is_overridden_is_there() -> None:
    """A hook that Ray calls by another name would never be called."""
    overrides = {
        f"{kind.__name__}.{name}": any(hasattr(base, name) for base in kind.__mro__[1:])
        for kind in vars(ray_internals).values()
        if isinstance(kind, type) and kind.__module__ == ray_internals.__name__
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and any(b.__module__.startswith("ray.") for b in kind.__mro__)
        if not name.startswith("__")
    }
    assert len(overrides) == 9
    assert all(overrides.values()), overrides


@pytest.mark.parametrize(("where", "name"), ATTRIBUTES, ids=[name for _, name in ATTRIBUTES])
def test_what_is_reached_into_is_there(where: object, name: str) -> None:
    assert name in inspect.getsource(where)  # type: ignore[arg-type]


def test_lost_blocks_are_told_in_these_words() -> None:
    from ray.data._internal.execution import streaming_executor_state

    assert "Ignoring this exception" in inspect.getsource(streaming_executor_state)
