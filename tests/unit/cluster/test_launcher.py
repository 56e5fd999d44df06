"""The file for `ray up`: what Ray itself says of it, and what must stay closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.aws import config as aws
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[3] / "cluster" / "aws.yaml"


@pytest.fixture
def launcher() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_ray_takes_the_file(launcher: dict[str, Any]) -> None:
    validate_config(prepare_config(launcher))


def test_ray_would_refuse_a_misspelt_key(launcher: dict[str, Any]) -> None:
    launcher["available_node_types"]["cpu"]["max_wokers"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        validate_config(prepare_config(launcher))


def test_workers_are_spot_and_the_head_is_not(launcher: dict[str, Any]) -> None:
    types = launcher["available_node_types"]
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["head"]["resources"] == {"CPU": 0}, "no work beside the driver"
    for name in ("cpu", "gpu"):
        assert types[name]["min_workers"] == 0
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_ray_makes_no_security_group(
    launcher: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its own lets in SSH from everywhere, whatever `IpPermissions` says."""
    made: list[list[str]] = []
    monkeypatch.setattr(aws, "_upsert_security_groups", lambda _, types: made.append(types))
    aws._configure_security_group(prepare_config(launcher))
    assert not made
    assert "0.0.0.0/0" in str(aws._create_default_inbound_rules(["sg-1"], []))


def test_the_dashboard_listens_inside_the_head_only(launcher: dict[str, Any]) -> None:
    (start,) = launcher["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in start


def test_machines_and_containers_have_no_rights_to_spare(launcher: dict[str, Any]) -> None:
    options = launcher["docker"]["run_options"]
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(options)
    assert not any("privileged" in option.split("=")[0] for option in options)
    types = launcher["available_node_types"].values()
    profiles = {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in types}
    assert profiles == {"sfray-driver", "sfray-worker"}
    for kind in types:
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_cluster_wants_a_token(launcher: dict[str, Any]) -> None:
    assert launcher["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "RAY_AUTH_MODE=token" in FILE.with_name("Dockerfile").read_text()
