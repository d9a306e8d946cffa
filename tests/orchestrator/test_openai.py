"""The OpenAI-compatible API of three real servers, with OpenAI's own client."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

MESSAGES: list[Any] = [{"role": "user", "content": "Add 12 and 30 and 7."}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
MODELS = ["counterpoint", "counterpoint-refine", "counterpoint-best-of-n", "counterpoint-single", "actor"]


def _account(answer: Any) -> dict[str, Any]:
    return answer.usage.model_extra["counterpoint"]


@asynccontextmanager
async def client(running: Stack) -> AsyncGenerator[Any]:
    """Connect OpenAI's client to the running orchestrator."""
    async with openai.AsyncOpenAI(base_url=f"{running.urls[0]}/v1", api_key="none", max_retries=0) as ai:
        yield ai


async def test_models_are_listed():
    """Every preset is listed and can be retrieved; another id is not found."""
    async with stack() as running, client(running) as ai:
        assert [model.id async for model in ai.models.list()] == MODELS
        assert (await ai.models.retrieve("actor")).owned_by == "counterpoint"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("gpt-4")


@pytest.mark.parametrize("model", MODELS)
async def test_a_completion_is_a_solve_with_exact_usage(model: str):
    """Content is the solution, usage equals the counts of the engines, and ignored parameters are listed."""
    async with stack() as running, client(running) as ai:
        extra = {"logit_bias": {"1": 2}, "user": "somebody"}
        answer = await ai.chat.completions.create(model=model, messages=MESSAGES, seed=4, max_tokens=300, extra_body=extra)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == sum(running.engine_tokens())
        account = _account(answer)
        assert account["ignored"] == ["logit_bias", "user"]
        details = answer.usage.completion_tokens_details
        assert details is not None
        assert 0 <= (details.reasoning_tokens or 0) <= answer.usage.completion_tokens
        reasoning: Any = getattr(answer.choices[0].message, "reasoning_content", None)
        assert bool(reasoning) == (model not in {"counterpoint-single", "actor"})


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_has_reasoning_before_content(model: str):
    """Role, reasoning, content (never empty), one finish reason, usage; the same text as without streaming."""
    async with stack() as running, client(running) as ai:
        options: Any = {"include_usage": True}
        call: dict[str, Any] = {"model": model, "messages": MESSAGES, "seed": 4}
        stream: Any = await ai.chat.completions.create(**call, stream=True, stream_options=options)
        chunks: list[Any] = [chunk async for chunk in stream]
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert deltas[0].role == "assistant"
        assert all(delta.content != "" for delta in deltas)
        extras: list[dict[str, Any]] = [delta.model_extra or {} for delta in deltas]
        parts = [(delta.content, extra) for delta, extra in zip(deltas, extras, strict=True)]
        kinds = ["content" if content else "reasoning" for content, extra in parts if content or extra]
        assert kinds == sorted(kinds, reverse=True), "no reasoning after the first content"
        assert all(extra.get("reasoning") == extra.get("reasoning_content") for extra in extras)
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        last = chunks[-1]
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.total_tokens == sum(running.engine_tokens())
        whole: Any = await ai.chat.completions.create(**call)
        written = "".join(delta.content or "" for delta in deltas)
        assert written.split() == (whole.choices[0].message.content or "").split()


async def test_a_conversation_with_a_developer_message_and_text_parts():
    """All messages and text parts reach the actor; the bare actor gets them without a prompt for steps."""
    messages: list[Any] = [
        {"role": "developer", "content": "Answer in French."},
        {"role": "user", "content": [{"type": "text", "text": "Add 1 and 2."}, {"type": "text", "text": "Please."}]},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "And 4?"},
    ]
    async with stack() as running, client(running) as ai:
        plain = await ai.chat.completions.create(model="actor", messages=messages)
        solved = await ai.chat.completions.create(model="counterpoint-single", messages=messages)
        assert plain.usage is not None
        assert solved.usage is not None
        assert plain.usage.prompt_tokens < solved.usage.prompt_tokens, "without the prompt that asks for steps"


async def test_strategy_and_budget_in_the_body():
    """They work as in `/solve`; a solve that reaches its limit still returns an answer."""
    async with stack() as running, client(running) as ai:
        extra = {"strategy": {"name": "best_of_n", "n": 3, "select": "majority", "stop_early": False}}
        answer = await ai.chat.completions.create(model="counterpoint", messages=MESSAGES, extra_body=extra)
        account = _account(answer)
        assert account["strategy"]["n"] == 3
        assert account["usage"]["critic"]["calls"] == 0
        tight = {**extra, "budget": {"max_completion_tokens": 60}}
        answer = await ai.chat.completions.create(model="counterpoint", messages=MESSAGES, extra_body=tight)
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 60


async def test_max_tokens_truncates_each_solution():
    """The finish reason is `length`."""
    async with stack() as running, client(running) as ai:
        answer = await ai.chat.completions.create(model="counterpoint-single", messages=MESSAGES, max_completion_tokens=5)
        assert answer.choices[0].finish_reason == "length"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"n": {}}, "n"),
    ({"stop": {}}, "stop"),
    ({"stream_options": []}, "stream_options"),
    ({"budget": []}, "budget"),
    ({"strategy": [[]]}, "strategy"),
    ({"messages": [[]]}, "messages.0"),
    ({"messages": [{"role": {}, "content": "x"}]}, "messages.0.role"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages.0.content"),
    ({"temperature": 9}, "sampling.temperature"),
    ({"strategy": "nothing"}, "strategy"),
    ({"budget": {"max_tokens": -1}}, "budget.max_tokens"),
]


@pytest.mark.parametrize(("change", "param"), BAD)
async def test_bad_input_names_the_parameter(change: dict[str, Any], param: str):
    """422 in OpenAI's format."""
    async with stack() as running:
        response = await running.client.post(
            "/v1/chat/completions", json={"model": "counterpoint", "messages": MESSAGES, **change}
        )
        assert response.status_code == 422
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"].startswith(param)
        assert error["message"]
        assert running.actor.generations == 0


async def test_other_errors_have_the_same_format():
    """A body that is not JSON, an unknown model, and an unreachable actor, with and without streaming."""
    async with stack(without="actor") as running:
        post = running.client.post
        assert (await post("/v1/chat/completions", content=b"{")).json()["error"]["code"] == "invalid_request"
        missing = await post("/v1/chat/completions", json={"model": "gpt-4", "messages": MESSAGES})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        for stream in (False, True):
            body = {"model": "counterpoint", "messages": MESSAGES, "stream": stream}
            unreachable = await post("/v1/chat/completions", json=body)
            assert (unreachable.status_code, unreachable.json()["error"]["code"]) == (503, "not_ready")
            assert unreachable.headers["retry-after"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "counterpoint", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}',
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "counterpoint", "messages": [{"role": "user", "content": "\\udfff"}]}',
        b'{"model": "counterpoint", "messages": [{"role": "user", "content": "\\u0000"}]}',
        b'{"model": "counterpoint", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
        b"[" * 100_000,
        b'\xff{"model": 1}',
        b'"text"',
        b"null",
    ],
    ids=lambda body: str(body[:40]),
)
async def test_malformed_bodies_are_refused(body: bytes):
    """Lone surrogates, null bytes, deep nesting, and JSON that is not an object: 422, never 500."""
    async with stack() as running:
        response = await running.client.post("/v1/chat/completions", content=body)
        assert response.status_code == 422
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_late_failure_is_an_error_in_the_stream():
    """The client raises the error of the stream."""
    options = ScriptedOptions(failure_rate=1.0, token_seconds=0.001)
    async with stack(actor=options) as running, client(running) as ai:
        stream = await ai.chat.completions.create(model="counterpoint", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


async def test_closing_a_stream_stops_the_engine():
    """The engine aborts the calls in flight."""
    async with stack(actor=ScriptedOptions(token_seconds=0.05)) as running, client(running) as ai:
        stream = await ai.chat.completions.create(model="counterpoint-best-of-n", messages=MESSAGES, stream=True)
        async for _ in stream:
            if running.actor.in_flight:
                break
        await stream.close()
        await wait_until(lambda: running.actor.in_flight == 0)
        assert running.actor.aborted == 1
        assert (await running.client.get("/healthz")).status_code == httpx.codes.OK
