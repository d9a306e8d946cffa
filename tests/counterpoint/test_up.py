"""`counterpoint up` and `counterpoint solve` with real processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from counterpoint.supervisor import free_port

COMMAND = [sys.executable, "-m", "counterpoint"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


def _gone(pids: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def running() -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run the services on scripted engines; yield the process and its URL."""
    command = [*COMMAND, "up", "--models", "scripted", "--port", str(free_port()), "--set", "LOG_LEVEL=error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        match = re.fullmatch(r"ready (http://127\.0\.0\.1:\d+)\n", line)
        assert match, line
        yield process, match.group(1)
        if process.poll() is None:
            process.terminate()


def test_it_solves_and_leaves_no_process_behind(running: tuple[subprocess.Popen[str], str]):
    """A solve through the command line answers; SIGTERM ends all three services."""
    process, url = running
    result = subprocess.run([*COMMAND, "solve", "Add 2 and 3.", "--url", url], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "answer" in result.stdout
    children = _children(process.pid)
    assert len(children) == 3
    process.terminate()
    assert process.wait(20) == 0
    assert _gone(children)


def test_a_dead_service_is_restarted(running: tuple[subprocess.Popen[str], str]):
    """After kill -9 of one service there are three again, and its exit is reported."""
    process, _ = running
    before = _children(process.pid)
    os.kill(before[1], signal.SIGKILL)
    assert _gone([before[1]])
    end = time.monotonic() + 20
    while len(set(_children(process.pid)) - {before[1]}) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(_children(process.pid)) == 3
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert "exited with code -9; restarting it" in errors


def test_killing_up_itself_leaves_nothing(running: tuple[subprocess.Popen[str], str]):
    """Even after kill -9 of the parent no service is left."""
    process, _ = running
    children = _children(process.pid)
    process.kill()
    process.wait(10)
    assert _gone(children)


def test_solving_where_nothing_listens_exits_3():
    """The message names the command that starts the services."""
    command = [*COMMAND, "solve", "x", "--url", f"http://127.0.0.1:{free_port()}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert "counterpoint up" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up", "--models", "nonsense"], "smollm2"),
        (["up", "--set", "ACTOR_SLOT=2"], "COUNTERPOINT_ACTOR_SLOTS"),
        (["solve", "x", "--strategy", "nonsense"], "strategy"),
    ],
)
def test_wrong_usage_is_explained_without_a_traceback(arguments: list[str], message: str):
    """Exit code 2 and a message."""
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
