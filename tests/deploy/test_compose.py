"""The compose file: everything it refers to exists, and its commands solve a problem as local processes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterpoint.supervisor import free_port
from counterpoint.up import known_variables

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
OVERLAYS = sorted((ROOT / "deploy/docker").glob("*.yml"))
OURS = ("actor", "critic", "orchestrator")
PORTS = {"8081": "actor", "8082": "critic", "8080": "orchestrator", "6379": "redis"}


def test_every_file_that_the_images_copy_exists():
    """Build files, COPY sources and mounted files are in the repository."""
    built = {s["build"]["dockerfile"] for s in COMPOSE["services"].values() if "build" in s}
    assert built == {str(path.relative_to(ROOT)) for path in (ROOT / "deploy/docker").glob("Dockerfile*")}
    lines = "\n".join((ROOT / name).read_text("utf-8") for name in built)
    copied = [name for line in re.findall(r"^COPY (.+)$", lines, re.MULTILINE) for name in line.split()[:-1]]
    mounted = [v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", []) if v.startswith("./")]
    assert [name for name in [*copied, *mounted] if not (ROOT / name).exists()] == []


def test_every_variable_is_a_setting():
    """Compose files only set variables that a service reads."""
    known = set(known_variables())
    files = [COMPOSE, *(_overlay(path) for path in OVERLAYS)]
    named = [name for file in files for service in file["services"].values() for name in service.get("environment", {})]
    assert [name for name in named if name not in known] == []
    assert len(named) > len(OURS)


def test_profiles_select_the_services():
    """The default needs no GPU; with `gpu`, actor and critic have one each and keep their host names."""
    assert "COMPOSE_PROFILES=embedded" in (ROOT / ".env").read_text("utf-8").splitlines()
    by_profile: dict[str, set[str]] = {}
    for name, service in COMPOSE["services"].items():
        for profile in service.get("profiles", ["always"]):
            by_profile.setdefault(profile, set()).add(name)
    assert by_profile == {
        "always": {"orchestrator", "redis", "worker"},
        "embedded": {"actor", "critic"},
        "gpu": {"actor-gpu", "critic-gpu"},
        "monitoring": {"prometheus", "grafana"},
    }
    for role, device in (("actor", "0"), ("critic", "1")):
        service = COMPOSE["services"][f"{role}-gpu"]
        assert _devices(service) == [device]
        assert service["networks"]["default"]["aliases"] == [role]
    assert not any("deploy" in COMPOSE["services"][name] for name in ("actor", "critic", "orchestrator"))
    assert _devices(_overlay(ROOT / "deploy/docker/one-gpu.yml")["services"]["critic-gpu"]) == ["0"]


def test_a_gpu_service_starts_with_its_own_command():
    """Command, environment and health check of the `gpu` services work, with the scripted engine instead of vLLM."""
    ports = {service: str(free_port() + offset) for offset, service in enumerate(PORTS.values())}
    with ExitStack() as stack:
        for role in ("actor", "critic"):
            stack.enter_context(_process(f"{role}-gpu", ports, {f"COUNTERPOINT_{role.upper()}_ENGINE": "scripted"}))
        for role in ("actor", "critic"):
            _healthy(f"{role}-gpu", ports)


def _devices(service: dict[str, Any]) -> list[str]:
    (reserved,) = service["deploy"]["resources"]["reservations"]["devices"]
    return reserved["device_ids"]


def _overlay(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8").replace("!override ", ""))


@contextmanager
def _process(
    service: str, ports: dict[str, str], overrides: dict[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    spec = COMPOSE["services"][service]
    command = _local(spec["command"], ports)
    if command[0] == "redis-server":
        command = ["redis-server", "--port", ports["redis"], "--save", "", "--bind", "127.0.0.1"]
    environment = {name: _local([value], ports)[0] for name, value in spec.get("environment", {}).items()}
    environment = {**os.environ, **environment, **(overrides or {})}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _local(words: list[str], ports: dict[str, str]) -> list[str]:
    """Map host names to loopback, ports to free ones, and the console script to this interpreter."""
    text = "\n".join(words).replace("0.0.0.0", "127.0.0.1")
    for port, service in PORTS.items():
        text = text.replace(port, ports[service])
    for service in (*OURS, "redis"):
        text = text.replace(f"//{service}:", "//127.0.0.1:")
    command = text.split("\n")
    return [sys.executable, "-m", *command] if command[0] == "counterpoint" else command


def _healthy(service: str, ports: dict[str, str]) -> None:
    test: list[str] = COMPOSE["services"][service]["healthcheck"]["test"][1:]
    command = ["redis-cli", "-p", ports["redis"], "ping"] if test[0] == "redis-cli" else _local(test, ports)
    end = time.monotonic() + 90
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < end, f"{service} did not become healthy"


def test_the_commands_solve_a_problem_and_export_valid_metrics():
    """Each service runs its own command, environment and health check, on loopback, with the real model."""
    for tool in ("redis-server", "promtool"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    ports = {service: str(free_port() + offset) for offset, service in enumerate(PORTS.values())}
    with ExitStack() as stack:
        for service in ("redis", "actor", "critic", "orchestrator", "worker"):
            stack.enter_context(_process(service, ports))
        for service in ("redis", "actor", "critic", "orchestrator"):
            _healthy(service, ports)
        body = {"problem": "What is 2 + 3?", "sampling": {"max_tokens": 48, "seed": 1}, "strategy": "refine"}
        url = f"http://127.0.0.1:{ports['orchestrator']}"
        result = _post(f"{url}/solve", body)
        assert result["usage"]["total_tokens"] == result["budget"]["spent"]["tokens"] > 0
        assert result["candidates"]
        job = _post(f"{url}/jobs", body)
        assert job["durable"] is True
        with urllib.request.urlopen(f"{url}{job['events_url']}", timeout=240) as events:
            assert b"event: solve.finished" in events.read()
        for service in OURS:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[service]}/metrics", timeout=10) as metrics:
                checked = subprocess.run(
                    ["promtool", "check", "metrics"], input=metrics.read(), capture_output=True, check=False
                )
            assert checked.returncode == 0, checked.stderr.decode()


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=240) as response:
        return json.load(response)


def test_prometheus_accepts_its_configuration():
    """`promtool check config` reports no error."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    path = ROOT / "deploy/prometheus/prometheus.yml"
    assert subprocess.run(["promtool", "check", "config", str(path)], capture_output=True, check=False).returncode == 0
