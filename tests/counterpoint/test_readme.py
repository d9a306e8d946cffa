"""The README is accurate: its snippets run, its names exist, and its file tree is complete."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from stack import stack

from counterpoint.cli import app
from counterpoint.up import known_variables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = [
    part for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for part in re.split(r"\n\s*\n", block.strip())
]
CURL = [snippet for snippet in SNIPPETS if snippet.startswith("curl ")]
MAKE = [line for snippet in SNIPPETS for line in snippet.splitlines() if line.startswith("make ")]


def test_every_snippet_is_run_here():
    """Every snippet is a make or a curl command, both of which are tested below."""
    assert len(CURL) >= 2
    assert len(MAKE) >= 2
    assert [line for snippet in SNIPPETS if snippet not in CURL for line in snippet.splitlines() if line not in MAKE] == []


@pytest.mark.parametrize("line", MAKE)
def test_the_targets_of_make_exist(line: str):
    """A dry run of make succeeds."""
    subprocess.run(["bash", "-c", line.replace("make ", "make --dry-run ", 1)], cwd=ROOT, check=True, capture_output=True)


async def shell(command: str, **options: Any) -> str:
    """Run a command with the README's address replaced by that of running services, and return its output."""
    async with stack(**options) as running:
        address = running.urls[0].removeprefix("http://")
        assert "localhost:8080" in command
        done = await run_process(["bash", "-euo", "pipefail", "-c", command.replace("localhost:8080", address)])
        return done.stdout.decode()


@pytest.mark.anyio
async def test_the_first_request_returns_a_solve():
    """The solution, the stop reason, the usage of both roles and every candidate."""
    result = json.loads(await shell(CURL[0]))
    assert result["solution"]
    assert result["answer"]
    assert result["stop_reason"] in {"agreed", "completed"}
    assert result["usage"]["actor"]["calls"] >= 1
    assert result["usage"]["critic"]["calls"] >= 1
    assert 1 <= len(result["candidates"]) <= 4


@pytest.mark.anyio
async def test_the_second_request_streams_events():
    """From the start of the solve to its answer."""
    names = re.findall(r"^event: (.+)$", await shell(CURL[1]), re.MULTILINE)
    assert (names[0], names[-1]) == ("solve.started", "solve.finished")
    assert "step.written" in names


@pytest.mark.anyio
async def test_every_strategy_is_named():
    """The sentence that lists the strategies names exactly those of the service."""
    (listed,) = re.findall(r"lists the strategies: ([^.]*?),? with their", README.replace("\n", " "))
    async with stack() as running:
        strategies = (await running.client.get("/strategies")).json()
    assert set(re.findall(r"`(\w+)`", listed)) == {strategy["name"] for strategy in strategies}


def test_the_names_exist():
    """Commands, environment variables and linked files."""
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    assert set(re.findall(r"`counterpoint (\w+)", README)) <= commands
    assert set(re.findall(r"COUNTERPOINT_\w+", README)) <= set(known_variables())
    linked = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert linked
    assert [link for link in linked if not (ROOT / link).exists()] == []


def test_the_tree_is_complete():
    """It names every top-level folder, and only files and folders that exist."""
    (block,) = re.findall(r"## Project layout\n\n```\n(.*?)```", README, re.DOTALL)
    named: list[str] = []
    for indent, name in re.findall(r"^( *)(\S+)", block, re.MULTILINE):
        named.append(f"{_last_folder(named)}{name}" if indent else name)
    assert [name for name in named if not (ROOT / name).exists()] == []
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    folders = {f"{name.partition('/')[0]}/" for name in files if "/" in name and not name.startswith(".")}
    assert {name for name in named if name.count("/") == 1 and name.endswith("/")} == folders


def _last_folder(named: list[str]) -> str:
    """Return the last top-level folder among `named`."""
    return next(name for name in reversed(named) if name.count("/") == 1 and name.endswith("/"))
