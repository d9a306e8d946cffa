"""Chats in Open WebUI through its own API, with the pocket pair: `make test-openwebui`, not part of `make test`."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import httpx
import pytest

from counterpoint.supervisor import free_port

pytestmark = pytest.mark.anyio

BINARY = Path(__file__).parents[2] / ".venv-openwebui" / "bin" / "open-webui"
START_SECONDS = 600
"""The first start creates a database and imports torch, which takes about a minute on an idle machine."""
STOP_SECONDS = 20
POLL_SECONDS = 0.2
PROBLEM = (
    "Adam owns 28 candles. Now the number of candles doubles. He picks 12 more candles. How many candles does Adam have?"
)
MESSAGE = {"role": "user", "content": PROBLEM}
CHAT = {"model": "counterpoint", "messages": [MESSAGE]}
COMPLETIONS = "/api/chat/completions"
ENVIRONMENT = {
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "WEBUI_AUTH": "False",
    "WEBUI_SECRET_KEY": "a secret",
    "ENABLE_OLLAMA_API": "False",
    "RAG_EMBEDDING_ENGINE": "openai",
    "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
    "OPENAI_API_KEYS": "none;none",
    "OPENAI_API_CONFIGS": json.dumps({"1": {"prefix_id": "slow"}}),
    "TASK_MODEL_EXTERNAL": "actor",
}
"""The variables of docs/open-webui.md, without a login and without downloads."""

SLOW = ["--models", "scripted", "--set", "ACTOR_SCRIPTED_TOKEN_SECONDS=0.2"]
"""Options of a service whose solves take long enough to be stopped."""


@dataclass(frozen=True)
class Chat:
    """A signed-in client, and the URL of the slow service, whose models have the prefix `slow.`."""

    client: httpx.AsyncClient
    slow: str

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a request that must succeed, and return the decoded response."""
        return (await self.client.post(path, json=body)).raise_for_status().json()

    async def begin(self, model: str) -> tuple[dict[str, Any], str]:
        """Send a first message like the page; return the immediate response and the id of the reply."""
        question, reply = str(uuid4()), str(uuid4())
        body: dict[str, Any] = {
            "model": model,
            "messages": [MESSAGE],
            "stream": True,
            "parent_id": None,
            "session_id": "page",
            "user_message": {"id": question, "parentId": None, **MESSAGE},
            "message_ids": [{"model_id": model, "message_id": reply}],
            "background_tasks": {"title_generation": True},
        }
        return await self.post(COMPLETIONS, body), reply


@contextmanager
def _process(command: list[str], log: Path, **more: str) -> Generator[None]:
    """Run a process until the block ends."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent, env={**os.environ, **more}
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


T = TypeVar("T")


async def _until(poll: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """Call `poll` until it returns a value, and return that. Raises `TimeoutError`."""
    with anyio.fail_after(seconds):
        while (value := await poll()) is None:  # noqa: ASYNC110 - another process cannot set an event
            await anyio.sleep(POLL_SECONDS)
    return value


async def _healthy(url: str) -> bool | None:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(url, timeout=5)).is_success or None
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
async def chat(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Chat]:
    """Start two services and an Open WebUI that uses both, and sign in."""
    folder = tmp_path_factory.mktemp("openwebui")
    root = str(Path(__file__).parents[2])
    port = free_port()
    slow_port, webui_port = free_port(after=port + 50), free_port(after=port + 100)
    up = [sys.executable, "-m", "counterpoint", "up", "--port"]
    serve = [str(BINARY), "serve", "--host", "127.0.0.1", "--port", str(webui_port)]
    url, base, slow = (f"http://127.0.0.1:{number}" for number in (webui_port, port, slow_port))
    with (
        _process([*up, str(port)], folder / "up.log", PYTHONPATH=root),
        _process([*up, str(slow_port), *SLOW], folder / "slow.log", PYTHONPATH=root),
        _process(
            serve,
            folder / "open-webui.log",
            **ENVIRONMENT,
            DATA_DIR=str(folder),
            OPENAI_API_BASE_URLS=f"{base}/v1;{slow}/v1",
        ),
    ):
        for health in (f"{base}/readyz", f"{slow}/readyz", f"{url}/health"):
            await _until(partial(_healthy, health), START_SECONDS)
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            signed_in = await client.post("/api/v1/auths/signin", json={"email": "", "password": ""})
            client.headers["authorization"] = f"Bearer {signed_in.raise_for_status().json()['token']}"
            yield Chat(client, slow)


async def test_models_are_listed(chat: Chat):
    """Every preset is available under its own id."""
    models = {model["id"] for model in (await chat.client.get("/api/models")).json()["data"]}
    assert models >= {"counterpoint", "counterpoint-refine", "counterpoint-best-of-n", "counterpoint-single", "actor"}


async def test_a_response_without_streaming(chat: Chat):
    """It has the solution as content, the exchange of actor and critic as reasoning, and the usage."""
    answer = await chat.post(COMPLETIONS, CHAT)
    message = answer["choices"][0]["message"]
    assert "68" in message["content"]
    assert message["reasoning_content"].startswith("**Draft c0**")
    assert answer["usage"]["counterpoint"]["answer"] == "68"


async def test_a_stream(chat: Chat):
    """Reasoning comes before content, and `[DONE]` is last."""
    async with chat.client.stream("POST", COMPLETIONS, json={**CHAT, "stream": True}) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    choices = [chunk["choices"][0] for chunk in map(json.loads, lines[:-1]) if chunk.get("choices")]
    kinds = [kind for choice in choices for kind in ("reasoning_content", "content") if choice["delta"].get(kind)]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("reasoning_content") > 1
    assert "68" in "".join(choice["delta"].get("content", "") for choice in choices)
    assert choices[-1]["finish_reason"] == "stop"


async def test_strategy_and_budget_as_custom_parameters(chat: Chat):
    """Custom parameters of a model are sent as JSON."""
    params = {"custom_params": {"budget": '{"max_seconds": 30}', "strategy": '{"name": "refine", "rounds": 1}'}}
    account = (await chat.post(COMPLETIONS, {**CHAT, "params": params}))["usage"]["counterpoint"]
    assert account["budget"]["limits"]["max_seconds"] == 30
    assert (account["strategy"]["name"], account["strategy"]["rounds"]) == ("refine", 1)


async def test_titles_come_from_the_bare_actor(chat: Chat):
    """Titles use the model in `TASK_MODEL_EXTERNAL`, without a solve."""
    assert (await chat.post("/api/v1/tasks/title/completions", CHAT))["model"] == "actor"


async def test_a_chat_of_the_page_keeps_a_thinking_block(chat: Chat):
    """The reply is generated in the background and saved with the chat."""
    response, reply = await chat.begin("counterpoint")

    async def saved_reply() -> dict[str, Any] | None:
        saved = (await chat.client.get(f"/api/v1/chats/{response['chat_id']}")).raise_for_status().json()
        message = saved["chat"]["history"]["messages"][reply]
        return message if message["done"] else None

    answer = await _until(saved_reply, 60)
    thinking, text = answer["output"]
    assert (thinking["type"], text["type"]) == ("reasoning", "message")
    assert thinking["content"][0]["text"].startswith("**Draft c0**")
    assert "68" in answer["content"]


async def test_the_stop_button_ends_the_solve(chat: Chat):
    """Within seconds no call is in flight, although the solve would take a minute."""

    async def in_flight(count: int) -> bool | None:
        metrics = (await chat.client.get(f"{chat.slow}/metrics")).text
        return f"counterpoint_in_flight {count}.0\n" in metrics or None

    response, _ = await chat.begin("slow.counterpoint-best-of-n")
    await _until(lambda: in_flight(1), 30)
    await chat.post(f"/api/tasks/stop/{response['task_ids'][0]}", {})
    await _until(lambda: in_flight(0), 5)


async def test_an_unknown_model_is_refused(chat: Chat):
    """Open WebUI rejects it."""
    assert (await chat.client.post(COMPLETIONS, json={**CHAT, "model": "gpt-4"})).is_error
