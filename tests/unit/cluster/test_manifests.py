"""Every Kubernetes object is what its schema says; unknown keys are wrong, as to `kubectl`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

from sfray.config import JobSpec, parse_job_spec
from sfray.submission.shipment import JOB_FILE, pack
from tests.unit.cluster.manifests import cluster_specs, nodes, objects

KUBERNETES = "1.34"
KUBERAY_SCHEMAS = Path(__file__).parents[2] / "resources" / "kuberay"
OBJECTS = objects()
CLUSTERS = [spec for value in OBJECTS.values() for spec in cluster_specs(value)]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a CRD in JSON Schema's words: unknown keys refused, integers or strings."""
    schema = copy.deepcopy(schema)
    for node in nodes(schema):
        if isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def check(value: dict[str, Any]) -> None:
    if value["apiVersion"] == "ray.io/v1":
        schema = json.loads((KUBERAY_SCHEMAS / f"{value['kind']}.v1.json").read_text())
        jsonschema.Draft202012Validator(strict(schema)).validate(value)
    else:
        kubernetes_validate.validate(value, KUBERNETES, strict=True)


@pytest.mark.parametrize("key", OBJECTS)
def test_an_object_is_valid(key: str) -> None:
    check(OBJECTS[key])


@pytest.mark.parametrize("key", OBJECTS)
def test_a_misspelt_key_would_be_found(key: str) -> None:
    value = copy.deepcopy(OBJECTS[key])
    field = "data" if value["kind"] == "ConfigMap" else "metadata"
    body = value.get("spec", value)
    body["misspelt"] = {}
    assert field in value
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        check(value)


def test_the_objects_are_those_that_people_expect() -> None:
    kinds = {value["kind"] for value in OBJECTS.values()}
    assert {"RayCluster", "RayJob", "RayCronJob", "CronJob", "NetworkPolicy"} <= kinds


def test_the_three_clusters_are_one() -> None:
    assert len(CLUSTERS) == 3
    assert CLUSTERS[0] == CLUSTERS[1] == CLUSTERS[2]


def test_the_cluster_runs_the_ray_that_the_project_pins() -> None:
    lines = (Path(__file__).parents[3] / "constraints.txt").read_text().splitlines()
    versions = {spec["rayVersion"] for spec in CLUSTERS}
    assert [f"ray=={version}" in lines for version in versions] == [True]


def shipped_jobs() -> list[JobSpec]:
    data = OBJECTS["base.yaml/ConfigMap/sfray-jobs"]["data"]
    return [parse_job_spec(yaml.safe_load(text)) for text in data.values()]


def test_the_job_fits_the_groups_of_the_cluster() -> None:
    groups = cluster_specs(OBJECTS["raycluster.yaml/RayCluster/sfray"])[0]["workerGroupSpecs"]
    by_name = {group["groupName"]: group for group in groups}
    for job in shipped_jobs():
        resources = job.resources
        assert resources.autoscaling
        decode = by_name[resources.decode_node_group]
        share = resources.num_gpus_per_replica
        assert isinstance(share, float) and share < 1, "replicas share a GPU"
        assert resources.model_replicas.max == by_name["gpu"]["maxReplicas"] / share
        cpus = int(decode["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        assert resources.decode_workers.max <= decode["maxReplicas"] * cpus


def test_the_job_can_be_sent_from_a_pod() -> None:
    for job in shipped_jobs():
        assert set(pack(job, shared_paths=False).files) == {JOB_FILE}


def test_both_groups_grow_from_nothing() -> None:
    for spec in CLUSTERS:
        assert spec["enableInTreeAutoscaling"]
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] == 0 < group["maxReplicas"]


def test_a_node_is_asked_how_it_is_where_ray_answers_without_a_token() -> None:
    for spec in CLUSTERS:
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            for probe in (container["readinessProbe"], container["livenessProbe"]):
                assert probe["httpGet"]["port"] == DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
                assert probe["httpGet"]["path"] in PUBLIC_EXACT_PATHS


def test_the_head_stays_while_workers_may_be_spot() -> None:
    for spec in CLUSTERS:
        head = spec["headGroupSpec"]["template"]
        assert head["metadata"]["annotations"] == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
        }
        assert "tolerations" not in head["spec"]
        required = head["spec"]["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        (term,) = required["nodeSelectorTerms"]
        kept_from = {e["key"] for e in term["matchExpressions"] if e["operator"] == "NotIn"}
        for group in spec["workerGroupSpecs"]:
            tainted = {taint["key"] for taint in group["template"]["spec"]["tolerations"]}
            assert tainted - {"nvidia.com/gpu"} <= kept_from
            assert len(tainted & kept_from) == 2


def test_a_worker_is_killed_only_after_it_could_drain() -> None:
    for spec in CLUSTERS:
        for group in spec["workerGroupSpecs"]:
            pod = group["template"]["spec"]
            (drain,) = [
                int(entry["value"])
                for entry in pod["containers"][0]["env"]
                if entry["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
            ]
            assert 0 < drain < pod["terminationGracePeriodSeconds"] <= 120, "AWS warns 120 s before"


def test_what_runs_names_a_job_file_that_is_mounted() -> None:
    files = {f"/etc/sfray/{name}" for name in OBJECTS["base.yaml/ConfigMap/sfray-jobs"]["data"]}
    entrypoints = [
        n["entrypoint"].split() for v in OBJECTS.values() for n in nodes(v) if "entrypoint" in n
    ]
    commands = [n["args"] for v in OBJECTS.values() for n in nodes(v) if "args" in n]
    assert len(entrypoints) == 2 and len(commands) == 1
    for command in entrypoints + commands:
        assert command[0] == "sfray" and files & set(command)
