"""What must hold for every object and every container, whoever changes the files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cluster.manifests import cluster_specs, nodes, objects, pod_specs

OBJECTS = objects()
CONTAINERS = [
    pytest.param(pod, container, id=f"{key}/{container['name']}/{number}")
    for key, value in OBJECTS.items()
    for number, pod in enumerate(pod_specs(value))
    for container in (*pod["containers"], *pod.get("initContainers", ()))
]
PODS = [
    pytest.param(pod, id=f"{key}/{number}")
    for key, value in OBJECTS.items()
    for number, pod in enumerate(pod_specs(value))
]
CLUSTERS = [
    pytest.param(spec, id=key) for key, value in OBJECTS.items() for spec in cluster_specs(value)
]
UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def test_there_is_something_to_look_at() -> None:
    assert len(CONTAINERS) == 3 * 3 + 2 + 1 and len(CLUSTERS) == 3


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_container_has_no_rights(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert container["securityContext"] == UNPRIVILEGED
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert container["image"].count(":") == 1 and not container["image"].endswith(":latest")
    writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
    scratch = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert writable <= scratch, "inputs are read-only"


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_a_user_s_with_nothing_of_the_machine(pod: dict[str, Any]) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    kinds = {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim"}
    claims = [v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert all(claim["readOnly"] for claim in claims)
    assert all("sizeLimit" in v["emptyDir"] for v in pod["volumes"] if "emptyDir" in v)


@pytest.mark.parametrize("spec", CLUSTERS)
def test_a_cluster_wants_its_token_and_is_not_public(spec: dict[str, Any]) -> None:
    assert spec["authOptions"]["mode"] == "token"
    head = spec["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP" and head["enableIngress"] is False
    assert spec["autoscalerOptions"]["securityContext"] == UNPRIVILEGED


@pytest.mark.parametrize("spec", CLUSTERS)
def test_driver_and_workers_have_accounts_of_their_own(spec: dict[str, Any]) -> None:
    def pod(group: dict[str, Any]) -> dict[str, Any]:
        return group["template"]["spec"]

    assert pod(spec["headGroupSpec"])["serviceAccountName"] == "sfray-driver"
    for group in spec["workerGroupSpecs"]:
        assert pod(group)["serviceAccountName"] == "sfray-worker"
        assert pod(group)["automountServiceAccountToken"] is False


def test_no_object_holds_a_credential() -> None:
    for value in OBJECTS.values():
        assert value["kind"] != "Secret"
        for node in nodes(value):
            for entry in node.get("env", ()):
                name = entry["name"].upper()
                secret = any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))
                assert not (secret and "value" in entry), f"{name} is written out"


def test_no_object_opens_a_port_to_the_world() -> None:
    for value in OBJECTS.values():
        assert value["kind"] not in {"Ingress", "Service"}
        for node in nodes(value):
            assert not {"hostPort", "nodePort", "externalIPs"} & node.keys()
            assert node.get("serviceType", "ClusterIP") == "ClusterIP"
    quota = OBJECTS["base.yaml/ResourceQuota/nothing-public"]["spec"]["hard"]
    assert set(quota.values()) == {"0"}


def test_the_namespace_is_closed() -> None:
    labels = OBJECTS["base.yaml/Namespace/sfray"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    policy = OBJECTS["base.yaml/NetworkPolicy/sfray"]["spec"]
    assert policy["podSelector"] == {} and set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for rule in policy["ingress"]:
        for source in rule["from"]:
            assert "ipBlock" not in source and source != {}
            if "namespaceSelector" in source:
                assert {port["port"] for port in rule["ports"]} <= {8080, 8265}
    for rule in policy["egress"]:
        ports = {port["port"] for port in rule.get("ports", ())}
        for block in (target["ipBlock"] for target in rule["to"] if "ipBlock" in target):
            if ports == {53}:
                assert block == {"cidr": "169.254.20.10/32"}
            else:
                assert "169.254.0.0/16" in block["except"] and ports == {443, 6443}
    namespaces = {v["metadata"].get("namespace") for v in OBJECTS.values()}
    assert namespaces == {None, "sfray"}
