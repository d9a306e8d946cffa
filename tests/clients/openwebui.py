"""A chat in Open WebUI through its own API, over the pocket pair: `make test-openwebui`, not part of `make test`."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
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
"""The first start makes a database and imports torch; about a minute where nothing else runs."""
STOP_SECONDS = 20
POLL_SECONDS = 0.2
PROBLEM = (
    "Adam owns 28 candles. Now the number of candles doubles. He picks 12 more candles. How many candles does Adam have?"
)
SAID = {"role": "user", "content": PROBLEM}
CHAT = {"model": "counterpoint", "messages": [SAID]}
ENVIRONMENT = {
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "WEBUI_AUTH": "False",
    "WEBUI_SECRET_KEY": "a secret",
    "ENABLE_OLLAMA_API": "False",
    "RAG_EMBEDDING_ENGINE": "openai",
    "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
    "OPENAI_API_KEY": "none",
    "TASK_MODEL_EXTERNAL": "actor",
}
"""As docs/open-webui.md says, without a login and without anything that would be downloaded."""


@contextmanager
def _process(command: list[str], folder: Path, **more: str) -> Generator[None]:
    """A process for as long as the block runs; what it writes goes to a file."""
    log = folder / f"{Path(command[0]).name}.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **more}) as process,
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


async def _until(asked: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """What `asked` answers, once it answers. Raises `TimeoutError`."""
    with anyio.fail_after(seconds):
        while (answer := await asked()) is None:  # noqa: ASYNC110 - what is waited for lives in another process
            await anyio.sleep(POLL_SECONDS)
    return answer


async def _healthy(url: str) -> bool | None:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(url, timeout=5)).is_success or None
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
async def chat(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[httpx.AsyncClient]:
    """Signed in to a new Open WebUI whose only models are those of a new `counterpoint up`."""
    folder = tmp_path_factory.mktemp("openwebui")
    root = str(Path(__file__).parents[2])
    port = free_port()
    webui_port = free_port(after=port + 100)
    up = [sys.executable, "-m", "counterpoint", "up", "--port", str(port)]
    serve = [str(BINARY), "serve", "--host", "127.0.0.1", "--port", str(webui_port)]
    url, base = f"http://127.0.0.1:{webui_port}", f"http://127.0.0.1:{port}"
    with (
        _process(up, folder, PYTHONPATH=root),
        _process(serve, folder, **ENVIRONMENT, DATA_DIR=str(folder), OPENAI_API_BASE_URL=f"{base}/v1"),
    ):
        await _until(lambda: _healthy(f"{base}/readyz"), START_SECONDS)
        await _until(lambda: _healthy(f"{url}/health"), START_SECONDS)
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            signed_in = await client.post("/api/v1/auths/signin", json={"email": "", "password": ""})
            client.headers["authorization"] = f"Bearer {signed_in.raise_for_status().json()['token']}"
            yield client


async def test_the_models_are_there(chat: httpx.AsyncClient):
    """Every preset, under its own id."""
    found = {model["id"] for model in (await chat.get("/api/models")).json()["data"]}
    assert found >= {"counterpoint", "counterpoint-refine", "counterpoint-best-of-n", "counterpoint-single", "actor"}


async def test_a_whole_answer(chat: httpx.AsyncClient):
    """The solution as content, the dialogue of actor and critic beside it, and the account."""
    answer = (await chat.post("/api/chat/completions", json=CHAT)).raise_for_status().json()
    message = answer["choices"][0]["message"]
    assert "68" in message["content"]
    assert message["reasoning_content"].startswith("**Draft c0**")
    assert answer["usage"]["counterpoint"]["answer"] == "68"


async def test_a_stream(chat: httpx.AsyncClient):
    """Reasoning deltas first, the content then, the end last."""
    lines: list[str] = []
    async with chat.stream("POST", "/api/chat/completions", json={**CHAT, "stream": True}) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    choices = [chunk["choices"][0] for chunk in map(json.loads, lines[:-1]) if chunk.get("choices")]
    kinds = [kind for choice in choices for kind in ("reasoning_content", "content") if choice["delta"].get(kind)]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("reasoning_content") > 1
    assert "68" in "".join(choice["delta"].get("content", "") for choice in choices)
    assert choices[-1]["finish_reason"] == "stop"


async def test_a_budget_of_its_own(chat: httpx.AsyncClient):
    """A custom parameter of a model travels as JSON."""
    params = {"custom_params": {"budget": '{"max_seconds": 30}', "strategy": '{"name": "refine", "rounds": 1}'}}
    answer = (await chat.post("/api/chat/completions", json={**CHAT, "params": params})).raise_for_status().json()
    account = answer["usage"]["counterpoint"]
    assert account["budget"]["limits"]["max_seconds"] == 30
    assert (account["strategy"]["name"], account["strategy"]["rounds"]) == ("refine", 1)


async def test_titles_come_from_the_bare_actor(chat: httpx.AsyncClient):
    """The model that `TASK_MODEL_EXTERNAL` names: no strategy is spent on them."""
    asked = await chat.post("/api/v1/tasks/title/completions", json=CHAT)
    assert asked.raise_for_status().json()["model"] == "actor"


async def test_a_chat_of_the_page_keeps_a_thinking_block(chat: httpx.AsyncClient):
    """What the page sends for a first message: the answer is written in the background and kept with the chat."""
    asked, answered = str(uuid4()), str(uuid4())
    body: dict[str, Any] = {
        **CHAT,
        "stream": True,
        "parent_id": None,
        "session_id": "page",
        "user_message": {"id": asked, "parentId": None, **SAID},
        "message_ids": [{"model_id": CHAT["model"], "message_id": answered}],
        "background_tasks": {"title_generation": True},
    }
    begun = (await chat.post("/api/chat/completions", json=body)).raise_for_status().json()

    async def written() -> dict[str, Any] | None:
        kept = (await chat.get(f"/api/v1/chats/{begun['chat_id']}")).raise_for_status().json()
        message = kept["chat"]["history"]["messages"][answered]
        return message if message["done"] else None

    answer = await _until(written, 60)
    thinking, said = answer["output"]
    assert (thinking["type"], said["type"]) == ("reasoning", "message")
    assert thinking["content"][0]["text"].startswith("**Draft c0**")
    assert "68" in answer["content"]


async def test_an_unknown_model_is_refused(chat: httpx.AsyncClient):
    """By Open WebUI itself."""
    refused = await chat.post("/api/chat/completions", json={**CHAT, "model": "gpt-4"})
    assert refused.is_error
