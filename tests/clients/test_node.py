"""The OpenAI-compatible API of three real servers, with the clients for Node: OpenAI's own and the AI SDK."""

import fcntl
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("installed")]

NODE = Path(__file__).parent / "node"
OLDEST = 18
CLIENTS = pytest.mark.parametrize("client", ["openai", "ai"])
MODELS = ["counterpoint", "counterpoint-refine", "counterpoint-best-of-n", "counterpoint-single", "actor"]
PAUSE = ScriptedOptions(token_seconds=0.05)


@pytest.fixture(scope="session")
def installed() -> None:
    """Install the locked clients in `tests/clients/node/node_modules`; skip the tests if Node is missing."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    version = subprocess.check_output(["node", "--version"], text=True).strip()
    if int(re.split(r"\D+", version)[1]) < OLDEST:
        pytest.skip(f"node {version} is older than {OLDEST}, which the clients need")
    with (NODE / "package-lock.json").open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # only one of several parallel test processes installs
        locked, installed_lock = lock.read(), NODE / "node_modules" / "of-package-lock.json"
        if installed_lock.exists() and installed_lock.read_text("utf-8") == locked:
            return
        done = subprocess.run(["npm", "ci", "--prefer-offline"], cwd=NODE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        installed_lock.write_text(locked, "utf-8")


def _command(running: Stack, client: str, *cases: str) -> list[str]:
    return ["node", str(NODE / f"{client}.mjs"), f"{running.urls[0]}/v1", *cases]


async def run(running: Stack, client: str, *cases: str) -> list[dict[str, Any]]:
    """Run the cases with a client and return the result of each."""
    with anyio.fail_after(60):
        done = await anyio.run_process(_command(running, client, *cases), check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def test_the_lock_names_no_registry():
    """The lock file works with any registry."""
    lock = (NODE / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == lock.count('"node_modules/')


async def test_models_are_listed():
    """With OpenAI's client; the AI SDK cannot list models."""
    async with stack() as running:
        assert await run(running, "openai", "models") == [{"models": MODELS, "one": "actor"}]


@CLIENTS
async def test_a_stream_equals_the_whole_response(client: str):
    """Reasoning before content, the same text, and the same usage, which equals the counts of the engines."""
    async with stack() as running:
        [whole] = await run(running, client, "whole")
        counted = sum(running.engine_tokens())
        [streamed] = await run(running, client, "stream")
        assert whole == streamed
        assert whole["kinds"] == ["reasoning", "content"]
        assert whole["reasoning"].startswith("**Draft c0**")
        assert "boxed" in whole["content"]
        assert whole["finish"] == "stop"
        usage = whole["usage"]
        assert usage["total"] == counted
        assert 0 < usage["reasoning"] < usage["completion"] < usage["total"]
        assert usage["strategy"] == "refine"


@CLIENTS
async def test_strategy_and_budget_are_sent(client: str):
    """Beside OpenAI's parameters in the body, or as provider options."""
    async with stack() as running:
        [answer] = await run(running, client, "extra")
        assert answer["usage"]["strategy"] == "best_of_n"
        assert answer["usage"]["completion"] <= 400
        assert running.critic.generations == 0


@CLIENTS
async def test_errors_are_typed_and_name_the_parameter(client: str):
    """An unknown model and a value out of range are rejected before any engine is called."""
    async with stack() as running:
        model, parameter = await run(running, client, "model", "parameter")
        assert (model["status"], model["code"]) == (404, "not_found")
        assert "there is no model 'gpt-4'" in model["message"]
        assert (parameter["status"], parameter["code"]) == (422, "invalid_request")
        assert parameter["param"] == "sampling.temperature"
        assert running.generations == 0


@CLIENTS
async def test_a_late_failure_is_raised(client: str):
    """The client raises the error that ends the stream."""
    async with stack(actor=ScriptedOptions(failure_rate=1.0, token_seconds=0.001)) as running:
        message = "the actor answered every attempt with an error: the script says that this call fails"
        assert await run(running, client, "late") == [{"message": message, "code": "actor_failed"}]


@CLIENTS
async def test_abort_stops_the_engine(client: str):
    """Aborting at the first delta stops the engine, while the client's process keeps running."""
    async with stack(actor=PAUSE) as running, await anyio.open_process(_command(running, client, "abort")) as process:
        assert process.stdout
        assert process.stdin
        with anyio.fail_after(60):
            assert json.loads(await TextReceiveStream(process.stdout).receive()) == {"abandoned": True}
        await wait_until(lambda: running.actor.in_flight == 0)
        assert process.returncode is None
        assert running.actor.aborted == 1
        await process.stdin.aclose()
        assert await process.wait() == 0
