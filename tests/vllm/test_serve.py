"""The `openai` engine on vLLM's own server, alone and as two replicas."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest

from counterpoint.stack import RunningStack, run_stack
from counterpoint.supervisor import free_port
from pocket.problems import problems
from services.contracts.sampling import Sampling
from services.engines.models import model_name
from services.engines.openai import OpenAIEngine, OpenAIOptions
from services.engines.protocol import ANONYMOUS, Generation
from services.engines.testing import call_of, complete, user_prompt
from services.engines.tokenizers import load_tokenizer
from tests.vllm.counters import metric_value

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--block-size", "32", "--max-model-len", "1024", "--host", "127.0.0.1")


@asynccontextmanager
async def server(name: str, core: int, port: int) -> AsyncGenerator[tuple[str, anyio.abc.Process]]:
    """Run vLLM's server on a model of the pocket pair; yield its URL and process once it responds."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model_name(name), "--port", str(port)]
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_LOGGING_LEVEL": "WARNING"}
    more = ("--served-model-name", name, "--scheduling-policy", "priority", "--generation-config", "vllm")
    process = await anyio.open_process([*command, *ARGUMENTS, *more], env=environment, start_new_session=True, stdout=None)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with anyio.fail_after(300):
                while not await _responds(client):
                    assert process.returncode is None
                    await anyio.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process
    finally:
        await _kill(process)


async def _responds(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/v1/models")).is_success
    except httpx.TransportError:
        return False


async def _kill(process: anyio.abc.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, 9)
        await process.wait()


@pytest.mark.parametrize("exact", [True, False], ids=["with the tokenizer", "without"])
async def test_the_engine_on_a_vllm_server(exact: bool):  # noqa: FBT001 - a parameter
    """Features are probed, and texts, prefixes, samples, token counts and scores match vLLM's."""
    async with server("pocket-actor", 0, free_port()) as (url, _):
        tokenizer = load_tokenizer(Path(model_name("pocket-actor"))) if exact else None
        engine = OpenAIEngine(OpenAIOptions((url,), "pocket-actor"), tokenizer)
        try:
            await engine.check()
            capabilities = engine.capabilities
            assert (capabilities.prefix, capabilities.logprobs, capabilities.counts) == (
                True,
                True,
                "exact" if exact else "bounded",
            )
            assert set(capabilities.guided) >= {"choice", "regex"}
            assert capabilities.score == exact
            assert engine.context_length == 1024
            assert engine.features.priority
            prompt = user_prompt(next(problems(3, split="dev", level=6)).text)
            greedy = Generation(prompt, Sampling(temperature=0.0, max_tokens=200), call=call_of("s", "tenant", -2))
            texts, usage, deltas = await complete(engine, greedy)
            assert "The answer is" in texts[0]
            assert usage.completion_tokens == sum(delta.tokens for delta in deltas) or not exact
            assert usage.prompt_tokens == engine.count(prompt) or not exact
            repeated = await complete(engine, greedy)
            assert repeated.texts == texts
            head = texts[0].split("\n")[0] + "\n"
            rest, _, _ = await complete(engine, Generation(user_prompt(prompt.messages[0].content, head), greedy.sampling))
            assert head + rest[0] == texts[0]
            eight, used, _ = await complete(
                engine, Generation(prompt, Sampling(temperature=1.0, max_tokens=200, seed=1), n=8)
            )
            assert len(set(eight)) > 1
            assert used.prompt_tokens == usage.prompt_tokens
            if exact:
                async with engine.score(prompt, texts[0], ANONYMOUS) as stream:
                    scored = [entry async for delta in stream for entry in delta.logprobs]
                assert "".join(entry.token for entry in scored) == texts[0]
                assert sum(entry.logprob for entry in scored) > -5
        finally:
            await engine.close()


async def test_no_solve_is_lost_when_a_replica_is_killed():
    """Killing one of the actor's two servers in the middle of twelve solves loses none. The critic runs on llama.cpp."""
    ports = free_port(), free_port() + 7
    async with AsyncExitStack() as running:
        (one, first), (two, _) = [
            await running.enter_async_context(server("pocket-actor", core, port)) for core, port in enumerate(ports)
        ]
        settings = {"ENGINE": "openai", "BASE_URLS": f"{one},{two}", "MODEL": "pocket-actor"}
        named = {f"COUNTERPOINT_ACTOR_{name}": value for name, value in settings.items()}
        services = await running.enter_async_context(run_stack(named, start_seconds=120))
        results: list[dict[str, Any]] = []
        async with anyio.create_task_group() as group:
            for number, problem in enumerate(islice(problems(5, split="dev", level=7), 12)):
                group.start_soon(_solve, services, problem.text, number, results)
            while not results:  # noqa: ASYNC110 - other processes
                await anyio.sleep(0.01)
            os.killpg(first.pid, 9)
        assert len(results) == 12
        assert all(result["answer"] for result in results)
        assert (await services.orchestrator.get("/readyz")).is_success
        assert await metric_value(services.actor, "counterpoint_replica_breaker_open") == 1


async def _solve(services: RunningStack, problem: str, number: int, results: list[dict[str, Any]]) -> None:
    strategy = {"name": "best_of_n", "n": 4, "select": "weighted", "inner": {"name": "refine", "rounds": 1}}
    body = {"problem": problem, "strategy": strategy, "sampling": {"seed": number, "temperature": 0.8}}
    response = await services.orchestrator.post("/solve", json=body, timeout=120)
    assert response.is_success, response.text
    results.append(response.json())
