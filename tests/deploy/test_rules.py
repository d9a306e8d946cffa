"""The rules of Prometheus do what they say, on series made for the purpose, and each alert says what to do about it."""

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
    """The rules of a file."""
    groups = yaml.safe_load((DEPLOYED / f"rules/{kind}.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_cases_hold():
    """`promtool test rules`: what fires, when, with which words, and what does not."""
    ran = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    """An alert that never fired in a test may never fire at all."""
    cases = [case for test in yaml.safe_load(CASES.read_text("utf-8"))["tests"] for case in test.get("alert_rule_test", ())]
    names = {rule["alert"] for rule in rules("alerts")}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_alert_leads_to_what_to_do_about_it():
    """Its runbook is a heading of the manual; it waits before it fires, and says how bad it is."""
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", MANUAL, re.MULTILINE)}
    for rule in rules("alerts"):
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", rule["alert"].lower())
        assert anchor in headings
        assert rule["for"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(headings) == len(rules("alerts"))


def test_compose_mounts_what_prometheus_reads():
    """The folder holds the configuration, the rules and the engines to scrape, by paths relative to it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    (mount,) = compose["services"]["prometheus"]["volumes"]
    here, there, mode = mount.split(":")
    assert ((ROOT / here).resolve(), there, mode) == (DEPLOYED, "/etc/prometheus", "ro")
    configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text("utf-8"))
    files = [
        file for job in configuration["scrape_configs"] for sd in job.get("file_sd_configs", ()) for file in sd["files"]
    ]
    assert all(list(DEPLOYED.glob(pattern)) for pattern in (*configuration["rule_files"], *files))
