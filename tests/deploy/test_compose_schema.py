"""The compose file is one by its specification's own schema, and what it refers to exists."""

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


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """What the compose specification's schema says of a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", [FILE, *(ROOT / "deploy/docker").glob("*.yml")], ids=lambda path: path.name)
def test_it_is_a_compose_file(path: Path, tmp_path: Path):
    """The schema finds nothing wrong, in the overlays neither; `!override` is a word of compose and not of YAML."""
    plain = tmp_path / path.name
    plain.write_text(path.read_text("utf-8").replace("!override ", ""), "utf-8")
    result = checked(plain)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (("services", "actor", "comand"), ["counterpoint"], "comand"),
        (("services", "actor", "healthcheck", "retries"), {"many": 1}, "retries"),
        (("services", "orchestrator", "depends_on", "actor", "condition"), "service_happy", "service_happy"),
        (("services", "redis", "volumes"), "redis:/data", "volumes"),
        (("service",), {}, "service"),
    ],
)
def test_a_mistake_is_found(place: tuple[str, ...], wrong: object, said: str, tmp_path: Path):
    """A misspelt name, a wrong type, an unknown condition: each is refused with its place."""
    broken = copy.deepcopy(COMPOSE)
    inner = broken
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = wrong
    path = tmp_path / "docker-compose.yml"
    path.write_text(yaml.safe_dump(broken), "utf-8")
    result = checked(path)
    assert result.returncode == 1
    assert said in result.stdout


def test_what_it_refers_to_exists():
    """Services that others depend on or speak to, volumes by name, and the images' build targets."""
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    named = {name for service in services.values() for name in service.get("depends_on", [])}
    spoken_to = set(re.findall(r"//([a-z]+):\d+", FILE.read_text("utf-8")))
    assert named <= set(services)
    assert spoken_to <= set(services)
    mounts = [mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if not mount.startswith(".") and mount not in COMPOSE["volumes"]] == []
    builds = [service["build"] for service in services.values() if "build" in service]
    assert builds
    for build in builds:
        stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / build["dockerfile"]).read_text("utf-8"), re.MULTILINE)
        assert "target" not in build or build["target"] in stages


def test_a_service_that_is_waited_for_can_become_healthy():
    """`service_healthy` waits for ever for a service without a health check."""
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    waits = re.findall(r"(\w+): \{condition: service_healthy\}", FILE.read_text("utf-8"))
    assert waits
    assert [name for name in waits if "healthcheck" not in services[name]] == []


def test_nothing_is_open_to_the_network():
    """Every published port is bound to loopback."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
