"""The compose file is valid by the schema of the compose specification, and its references exist."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """Validate a file against the schema of the compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", [FILE, *(ROOT / "deploy/docker").glob("*.yml")], ids=lambda path: path.name)
def test_compose_files_are_valid(path: Path, tmp_path: Path):
    """The compose file and the overlays are valid. `!override` is a compose tag that plain YAML does not know."""
    plain = tmp_path / path.name
    plain.write_text(path.read_text("utf-8").replace("!override ", ""), "utf-8")
    result = validate(plain)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("place", "wrong", "message"),
    [
        (("services", "actor", "comand"), ["counterpoint"], "comand"),
        (("services", "actor", "healthcheck", "retries"), {"many": 1}, "retries"),
        (("services", "orchestrator", "depends_on", "actor", "condition"), "service_happy", "service_happy"),
        (("services", "redis", "volumes"), "redis:/data", "volumes"),
        (("service",), {}, "service"),
    ],
)
def test_a_mistake_is_reported(place: tuple[str, ...], wrong: object, message: str, tmp_path: Path):
    """Misspelt names, wrong types and unknown conditions are reported with their place."""
    broken = copy.deepcopy(COMPOSE)
    inner = broken
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = wrong
    path = tmp_path / "docker-compose.yml"
    path.write_text(yaml.safe_dump(broken), "utf-8")
    result = validate(path)
    assert result.returncode == 1
    assert message in result.stdout


def test_references_exist():
    """Services in `depends_on` and in URLs, named volumes, and build targets exist."""
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    named = {name for service in services.values() for name in service.get("depends_on", [])}
    in_urls = set(re.findall(r"//([a-z]+):\d+", FILE.read_text("utf-8")))
    assert named <= set(services)
    assert in_urls <= set(services)
    mounts = [mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if not mount.startswith(".") and mount not in COMPOSE["volumes"]] == []
    builds = [service["build"] for service in services.values() if "build" in service]
    assert builds
    for build in builds:
        stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / build["dockerfile"]).read_text("utf-8"), re.MULTILINE)
        assert "target" not in build or build["target"] in stages


def test_awaited_services_have_health_checks():
    """`service_healthy` would wait forever for a service without a health check."""
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    awaited = re.findall(r"(\w+): \{condition: service_healthy\}", FILE.read_text("utf-8"))
    assert awaited
    assert [name for name in awaited if "healthcheck" not in services[name]] == []


def test_ports_are_published_on_loopback_only():
    """No service is reachable from the network by default."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
