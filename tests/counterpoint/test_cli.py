"""The command line: help, rejected arguments and exit codes."""

import json
import subprocess
import sys

import pytest
from anyio import run_process
from stack import NOWHERE, stack
from typer.testing import CliRunner

from counterpoint.cli import app
from services.http.app import VERSION

COMMAND = [sys.executable, "-m", "counterpoint"]
COMMANDS = {"actor", "critic", "orchestrator", "up", "run", "solve", "doctor", "health", "worker", "replay", "key"}


def test_the_version():
    """`--version` prints the version and nothing else."""
    result = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (f"{VERSION}\n", "")


def test_every_command_is_listed():
    """Without arguments the commands are listed, each with a description."""
    text = CliRunner().invoke(app, []).output
    assert {command.name or command.callback.__name__ for command in app.registered_commands if command.callback} == COMMANDS
    assert [name for name in COMMANDS if name not in text] == []
    assert all(command.callback and command.callback.__doc__ for command in app.registered_commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["solve"], "problem"),
        (["solve", "x", "--nonsense"], "--nonsense"),
        (["solve", ""], "problem"),
        (["run", ""], "problem"),
        (["eval", "run", "--strategy", "nonsense"], "strategy nonsense: name: "),
        (["solve", "x", "--max-tokens", "many"], "--max-tokens"),
        (["solve", "x", "--max-tokens", "0"], "budget.max_tokens"),
        (["solve", "x", "--seed", "-1"], "sampling.seed"),
        (["solve", "x", "--url", "127.0.0.1:8080"], "http://127.0.0.1:8080"),
        (["solve", "x", "--url", "ftp://example.org"], "not an address"),
        (["solve", "x", "--url", "http://[::1"], "http://[::1"),
        (["doctor", "--url", "localhost"], "not an address"),
        (["health", "localhost"], "not an address"),
        (["up", "--port", "high"], "--port"),
        (["actor", "--port", "70000"], "COUNTERPOINT_ACTOR_PORT"),
        (["run", "x", "--models", "nonsense"], "smollm2"),
    ],
    ids=str,
)
def test_wrong_usage_is_named_and_the_exit_code_is_2(arguments: list[str], message: str):
    """A message on standard error that names the mistake, without a traceback."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("source", ["option", "variable"])
def test_where_nothing_listens_the_exit_code_is_3(source: str, monkeypatch: pytest.MonkeyPatch):
    """However the address is given and spelt, the only output is a message that names the command to start the services."""
    address = NOWHERE.replace("127.0.0.1", "LOCALHOST") + "/"
    if source == "variable":
        monkeypatch.setenv("COUNTERPOINT_URL", address)
    command = [*COMMAND, "solve", "x", *(["--url", address] if source == "option" else [])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == f"nothing answers at {address}: start it with counterpoint up\n"


@pytest.mark.anyio
async def test_json_is_the_response_and_nothing_else():
    """`--json` prints one document; the problem may come from standard input; the exit code is 0."""
    async with stack() as running:
        command = [
            *COMMAND,
            "solve",
            "-",
            "--json",
            "--seed",
            "4",
            "--strategy",
            "single",
            "--url",
            running.urls[0],
        ]
        result = await run_process(command, input=b"Add 12 and 30 and 7.")
        document = json.loads(result.stdout)
        assert document["strategy"] == {"name": "single"}
        assert document["answer"] == (await running.solve(strategy="single", sampling={"seed": 4}))["answer"]


@pytest.mark.anyio
async def test_a_refusal_is_exit_code_1():
    """The code and detail of the error are on standard error."""
    async with stack(without="actor") as running:
        command = [*COMMAND, "solve", "x", "--url", running.urls[0]]
        result = await run_process(command, check=False)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().startswith("not_ready: ")


@pytest.mark.anyio
@pytest.mark.parametrize(("without", "path", "code"), [(None, "readyz", 0), ("actor", "readyz", 1)])
async def test_health_is_an_exit_code(without: str | None, path: str, code: int):
    """0 if and only if the address answers 200, as needed by a container's health check."""
    async with stack(without=without) as running:
        result = await run_process([*COMMAND, "health", f"{running.urls[0]}/{path}"], check=False)
    assert result.returncode == code
