"""Prometheus rules: they are tested on synthetic series, and each alert has a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy/prometheus"
CASES = DEPLOYED / "tests/rules.yml"
MANUAL = (ROOT / "docs/operations.md").read_text("utf-8")


def rules(kind: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    groups = yaml.safe_load((DEPLOYED / f"rules/{kind}.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_cases_pass():
    """`promtool test rules` checks which alerts fire, when, and with which text."""
    result = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    """Each alert has at least one case of both kinds."""
    cases = [case for test in yaml.safe_load(CASES.read_text("utf-8"))["tests"] for case in test.get("alert_rule_test", ())]
    names = {rule["alert"] for rule in rules("alerts")}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_alert_has_a_runbook():
    """The runbook is a heading in docs/operations.md; each alert has a duration and a severity."""
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", MANUAL, re.MULTILINE)}
    for rule in rules("alerts"):
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", rule["alert"].lower())
        assert anchor in headings
        assert rule["for"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(headings) == len(rules("alerts"))


def test_compose_mounts_the_files_that_prometheus_reads():
    """The mounted folder contains the configuration, the rules and the list of model servers, by relative paths."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    (mount,) = compose["services"]["prometheus"]["volumes"]
    source, target, mode = mount.split(":")
    assert ((ROOT / source).resolve(), target, mode) == (DEPLOYED, "/etc/prometheus", "ro")
    configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text("utf-8"))
    files = [
        file for job in configuration["scrape_configs"] for sd in job.get("file_sd_configs", ()) for file in sd["files"]
    ]
    assert all(list(DEPLOYED.glob(pattern)) for pattern in (*configuration["rule_files"], *files))
