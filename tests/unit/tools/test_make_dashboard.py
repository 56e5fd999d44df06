from __future__ import annotations

import json
import re
from itertools import combinations

from sfray.telemetry.metrics import METRICS
from tools.make_dashboard import DASHBOARD, dashboard, dashboard_text

PANELS = dashboard()["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_dashboard_in_the_repository_is_that_of_the_metrics() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == dashboard_text(), "run `make dashboard`"


def test_every_metric_is_shown_and_nothing_else_is() -> None:
    asked = {
        re.sub("_bucket$", "", name)
        for expression in EXPRESSIONS
        for name in re.findall(r"\bray_\w+", expression)
    }
    assert asked == {metric.exported_name for metric in METRICS}


def test_every_line_is_of_the_chosen_runs_and_has_a_name() -> None:
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            selectors = re.findall(r"ray_\w+(\{[^}]*\})?", target["expr"])
            assert selectors == ['{job_name=~"$job_name",run_id=~"$run_id"}'] * len(selectors)
            assert target["legendFormat"]


def test_every_variable_is_defined_and_every_panel_has_a_place_of_its_own() -> None:
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used - {"__rate_interval"} == defined
    places = [panel["gridPos"] for panel in PANELS]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, two in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(place["x"] + place["w"] <= 24 for place in places)
