"""`counterpoint up --shared-engine`: one vLLM server with two adapters, two role services."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from counterpoint.supervisor import free_port
from pocket.problems import problems
from services.engines.models import model_name
from tests.vllm.test_lora import write_adapter

pytestmark = pytest.mark.vllm

ARGUMENTS = ["--dtype=float32", "--enforce-eager", "--block-size=32", "--max-model-len=1024", "--max-lora-rank=8"]


def test_one_server_serves_both_roles(tmp_path: Path):
    """Each role has its own process and adapter, and no process is left after stopping."""
    model, port = model_name("pocket-actor"), free_port()
    for role, strength in (("actor", 0.0), ("critic", 0.5)):
        write_adapter(tmp_path / role, strength)
    command = [sys.executable, "-m", "counterpoint", "up", "--port", str(port), "--shared-engine", model]
    command += ["--actor-lora", str(tmp_path / "actor"), "--critic-lora", str(tmp_path / "critic")]
    command += [f"--engine-arg={argument}" for argument in ARGUMENTS]
    command += ["--set", "ACTOR_DIALECT=pocket", "--set", "CRITIC_DIALECT=pocket"]
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        ready = re.fullmatch(r"ready (.*)\n", process.stdout.readline())
        assert ready
        started = _descendants(process.pid)
        with httpx.Client(base_url=ready.group(1), timeout=60) as client:
            body = {"problem": next(problems(3, split="dev")).text, "sampling": {"temperature": 0.0}, "trace": "full"}
            result = client.post("/solve", json={**body, "strategy": "refine"}).raise_for_status().json()
        assert "The answer is" in result["solution"], "an adapter of strength zero leaves the text unchanged"
        assert result["usage"]["critic"]["calls"] >= 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len(started) >= 5, "three services, the server, its engine"
    assert not [pid for pid in started if _is_running(pid)]


def _is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"


def _descendants(pid: int) -> list[int]:
    children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text("utf-8").split()]
    return [*children, *(other for child in children for other in _descendants(child))]
