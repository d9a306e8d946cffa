"""The compose file: what it names exists, and its own commands solve a problem as local processes."""

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
OURS = ("actor", "critic", "orchestrator")
PORTS = {"8081": "actor", "8082": "critic", "8080": "orchestrator", "6379": "redis"}


def test_every_file_that_the_images_copy_exists():
    """COPY sources, build files and mounted files are in the tree."""
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text("utf-8")
    copied = [name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]
    mounted = [v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", []) if v.startswith("./")]
    assert [name for name in [*copied, *mounted] if not (ROOT / name).exists()] == []


def test_every_variable_is_a_setting():
    """A variable that no service reads would be a silent mistake."""
    known = set(known_variables())
    assert [name for service in OURS for name in COMPOSE["services"][service]["environment"] if name not in known] == []


@contextmanager
def _process(service: str, ports: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    spec = COMPOSE["services"][service]
    command = _local(spec["command"], ports)
    if command[0] == "redis-server":
        command = ["redis-server", "--port", ports["redis"], "--save", "", "--bind", "127.0.0.1"]
    environment = {name: _local([value], ports)[0] for name, value in spec.get("environment", {}).items()}
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _local(words: list[str], ports: dict[str, str]) -> list[str]:
    """Host names mapped to loopback, ports to free ones, the console script to this interpreter."""
    text = "\n".join(words).replace("0.0.0.0", "127.0.0.1")
    for port, service in PORTS.items():
        text = text.replace(port, ports[service])
    for service in (*OURS, "redis"):
        text = text.replace(f"//{service}:", "//127.0.0.1:")
    found = text.split("\n")
    return [sys.executable, "-m", *found] if found[0] == "counterpoint" else found


def _healthy(service: str, ports: dict[str, str]) -> None:
    test: list[str] = COMPOSE["services"][service]["healthcheck"]["test"][1:]
    command = ["redis-cli", "-p", ports["redis"], "ping"] if test[0] == "redis-cli" else _local(test, ports)
    end = time.monotonic() + 90
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < end, f"{service} did not become healthy"


def test_the_commands_as_written_solve_a_problem_and_export_sound_metrics():
    """Each service's own command, environment and health check, on loopback, with the real model."""
    for tool in ("redis-server", "promtool"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    ports = {service: str(free_port() + offset) for offset, service in enumerate(PORTS.values())}
    with ExitStack() as stack:
        for service in ("redis", "actor", "critic", "orchestrator"):
            stack.enter_context(_process(service, ports))
        for service in ("redis", "actor", "critic", "orchestrator"):
            _healthy(service, ports)
        body = {"problem": "What is 2 + 3?", "sampling": {"max_tokens": 48, "seed": 1}, "strategy": "refine"}
        url = f"http://127.0.0.1:{ports['orchestrator']}"
        ask = urllib.request.Request(f"{url}/solve", json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(ask, timeout=240) as answer:
            result = json.load(answer)
        assert result["usage"]["total_tokens"] == result["budget"]["spent"]["tokens"] > 0
        assert result["candidates"]
        for service in OURS:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[service]}/metrics", timeout=10) as metrics:
                checked = subprocess.run(
                    ["promtool", "check", "metrics"], input=metrics.read(), capture_output=True, check=False
                )
            assert checked.returncode == 0, checked.stderr.decode()


def test_prometheus_reads_its_configuration():
    """`promtool check config` finds nothing wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    path = ROOT / "deploy/prometheus/prometheus.yml"
    assert subprocess.run(["promtool", "check", "config", str(path)], capture_output=True, check=False).returncode == 0
