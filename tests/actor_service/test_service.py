"""The actor on a real model behind a real server: events, usage and limits."""

from typing import Any

import anyio
import httpx
import pytest

from actor_service.answer import answer_of
from actor_service.dialects import DIALECTS
from actor_service.steps import prefix_of, steps_of
from services.contracts.critique import Critique, StepExplanation
from services.contracts.messages import Message
from services.contracts.usage import Usage
from services.engines.protocol import Prompt
from services.engines.testing import PAUSED_LINES, ObservedEngine
from services.http import sse
from services.settings import ActorSettings, SettingsError
from services.testing import NamedEvents, post_events, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

PROBLEM = "Ann has 3 boxes of 12 pencils and gives away 7. How many are left?"
MESSAGES = (Message(role="user", content=PROBLEM),)
SOLUTION = "Step 1: 3 * 12 = 36\nStep 2: 36 - 7 = 28\nThe answer is \\boxed{28}."
CRITIQUE = Critique(
    depth="explain",
    verdict="incorrect",
    first_error=2,
    explanations=(StepExplanation(index=2, text="36 - 7 is 29."),),
)
DIALECT = DIALECTS["structured"]


def draft_request(**fields: Any) -> dict[str, Any]:
    """Return a request for a short, seeded draft."""
    return {"problem": PROBLEM, "sampling": {"seed": 3, "max_tokens": 40}, **fields}


def refine_request(keep_steps: int, **fields: Any) -> dict[str, Any]:
    """Return a request for a short, seeded refinement of `SOLUTION`."""
    refinement = {"solution": SOLUTION, "critique": CRITIQUE.model_dump(), "keep_steps": keep_steps}
    return {**draft_request(), **refinement, **fields}


def data_of(kind: str, events: NamedEvents) -> list[dict[str, Any]]:
    """Return the data of the events of one kind."""
    return [data for name, data in events if name == kind]


def tokens(usage: Usage) -> tuple[int, int]:
    """Return the numbers of prompt and completion tokens."""
    return usage.prompt_tokens, usage.completion_tokens


def usage_of(events: NamedEvents) -> Usage:
    """Return the usage in the last event of a stream."""
    name, data = events[-1]
    assert name == "usage"
    return Usage.model_validate(data)


def assert_emitted_step_by_step(events: NamedEvents) -> None:
    """Check that the numbered steps of each candidate were sent before it and match its text."""
    for candidate in data_of("candidate", events):
        before = events[: events.index(("candidate", candidate))]
        steps = [step for step in data_of("step", before) if step["sample"] == candidate["sample"]]
        assert [(step["index"], step["text"]) for step in steps] == [(s.index, s.text) for s in steps_of(candidate["text"])]
        assert [step["text"] for step in steps] == [step["text"] for step in candidate["steps"]]
        assert candidate["answer"] == answer_of(candidate["text"])


@pytest.mark.parametrize("n", [1, 2])
async def test_usage_of_a_draft_matches_the_engine_counts(client: httpx.AsyncClient, engine: ObservedEngine, n: int):
    """Every sample is sent once, the prompt counts once, and the usage equals the growth of the engine's totals."""
    before = engine.totals
    events = await post_events(client, "/v1/draft", draft_request(n=n))
    usage = usage_of(events)
    assert before + usage == engine.totals
    assert usage.prompt_tokens == engine.count(DIALECT.draft(MESSAGES)) == len(engine.prompts[-1])
    assert sorted(candidate["sample"] for candidate in data_of("candidate", events)) == list(range(n))
    assert {candidate["finish_reason"] for candidate in data_of("candidate", events)} <= {"stop", "length"}
    assert n <= usage.completion_tokens <= 40 * n
    assert_emitted_step_by_step(events)


async def test_steps_are_sent_as_soon_as_they_are_complete(client: httpx.AsyncClient, engine: ObservedEngine):
    """The client receives the first step while the engine, paused after its first lines, has not finished."""
    listing = "Write a shopping list with ten items."
    body = draft_request(problem=listing, plain=True, sampling={"temperature": 0.0, "max_tokens": 80})
    engine.resumed.clear()
    written: list[int] = []
    async with client.stream("POST", "/v1/draft", json=body) as response:
        async for event in sse.decode(response.aiter_raw()):
            if event.event == "step":
                written.append(len(engine.texts[-1]))
                engine.resumed.set()
    assert len(written) > 4
    assert engine.texts[-1][: written[0]].count("\n") <= PAUSED_LINES < engine.texts[-1].count("\n")
    assert engine.in_flight == 0


async def test_plain_draft_sends_only_the_conversation(client: httpx.AsyncClient, engine: ObservedEngine):
    """With `plain`, no instructions about steps are added to the prompt."""
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Hm"}]
    body = {"messages": messages, "plain": True, "sampling": {"max_tokens": 2}}
    events = await post_events(client, "/v1/draft", body)
    conversation = tuple(Message.model_validate(message) for message in messages)
    assert usage_of(events).prompt_tokens == engine.count(Prompt(conversation))


async def test_rewrite_prompt_contains_the_solution_and_its_critique(client: httpx.AsyncClient, engine: ObservedEngine):
    """With `keep_steps` 0, the prompt contains the solution and its critique, and no step is kept."""
    events = await post_events(client, "/v1/refine", refine_request(0))
    prompt = DIALECT.rewrite(MESSAGES, SOLUTION, CRITIQUE)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt)
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    assert "On step 2: 36 - 7 is 29." in prompt.messages[-1].content
    assert usage_of(events).prompt_tokens == engine.count(prompt)
    assert_emitted_step_by_step(events)


async def test_rewind_keeps_the_steps_before_the_error(client: httpx.AsyncClient, engine: ObservedEngine):
    """Every sample starts with the kept step, which counts as prompt; only the rest is generated."""
    events = await post_events(client, "/v1/refine", refine_request(1, n=2))
    kept = prefix_of(SOLUTION, 1)
    prompt = DIALECT.rewind(MESSAGES, SOLUTION, kept, CRITIQUE)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt)
    assert usage_of(events).prompt_tokens == engine.count(prompt)
    candidates = data_of("candidate", events)
    assert len(candidates) == 2
    assert all(candidate["text"].startswith(kept) for candidate in candidates)
    assert candidates[0]["steps"][0] == {"index": 1, "text": "Step 1: 3 * 12 = 36"}
    assert_emitted_step_by_step(events)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("path", ["/v1/draft", "/v1/refine"])
async def test_allowance_is_exact_to_the_token(client: httpx.AsyncClient, engine: ObservedEngine, path: str, n: int):
    """An allowance one token too small is refused before any work; the exact one gives each sample one token."""
    body = draft_request(n=n) if path == "/v1/draft" else refine_request(1, n=n)
    rewind = DIALECT.rewind(MESSAGES, SOLUTION, prefix_of(SOLUTION, 1), CRITIQUE)
    prompt = DIALECT.draft(MESSAGES) if path == "/v1/draft" else rewind
    needed = engine.count(prompt) + n
    before, requests = engine.totals, len(engine.prompts)
    ((name, problem),) = await post_events(client, path, {**body, "allowance": {"max_tokens": needed - 1}})
    assert (name, problem["status"], problem["code"], problem["needed"]) == ("refused", 422, "budget_too_small", needed)
    assert (engine.totals, len(engine.prompts)) == (before, requests)
    for more in (0, 5):
        events = await post_events(client, path, {**body, "allowance": {"max_tokens": needed + more}})
        each = 1 + more // n
        assert tokens(usage_of(events)) == (needed - n, n * each)
        assert {candidate["finish_reason"] for candidate in data_of("candidate", events)} == {"length"}


async def test_completion_allowance_is_shared_by_the_samples(client: httpx.AsyncClient):
    """The samples share `max_completion_tokens` equally; less than one token per sample is refused."""
    events = await post_events(client, "/v1/draft", draft_request(n=2, allowance={"max_completion_tokens": 7}))
    assert usage_of(events).completion_tokens == 6
    ((_, problem),) = await post_events(client, "/v1/draft", draft_request(n=2, allowance={"max_completion_tokens": 1}))
    assert (problem["code"], problem["needed"]) == ("budget_too_small", 2)


async def test_prompt_longer_than_the_context_is_refused(client: httpx.AsyncClient, engine: ObservedEngine):
    """The longest problem that a request may contain exceeds the model's context: it gets 422 with the length needed."""
    ((_, problem),) = await post_events(client, "/v1/draft", draft_request(problem="a " * 32_768))
    assert (problem["status"], problem["limit"]["name"]) == (422, "context_length")
    assert problem["needed"] > engine.context_length


async def test_cancelled_call_ends_with_its_exact_usage(client: httpx.AsyncClient, engine: ObservedEngine):
    """`DELETE /v1/calls/{id}` aborts the call in the engine; the stream ends with the text so far and its usage."""
    before, aborted, requests = engine.totals, engine.aborted, len(engine.texts)
    streams: list[NamedEvents] = []

    async def follow() -> None:
        body = draft_request(problem="Tell a very long story.", plain=True, n=2, sampling={"seed": 1, "max_tokens": 600})
        streams.append(await post_events(client, "/v1/draft", body, {"X-Call-ID": "story"}))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await wait_until(lambda: any(engine.texts[requests:]))
        cancelled = await client.delete("/v1/calls/story")
        assert (cancelled.status_code, cancelled.json()) == (202, {"cancelled": True})
    (events,) = streams
    assert [candidate["finish_reason"] for candidate in data_of("candidate", events)] == ["cancelled"] * 2
    assert before + usage_of(events) == engine.totals
    assert 0 < usage_of(events).completion_tokens < 1_200
    assert (engine.aborted, engine.in_flight) == (aborted + 1, 0)
    assert (await client.delete("/v1/calls/story")).json() == {"cancelled": False}


async def test_call_past_its_deadline_ends_with_its_exact_usage(client: httpx.AsyncClient, engine: ObservedEngine):
    """After `X-Deadline-Ms` milliseconds the stream ends with the text so far and its usage."""
    before = engine.totals
    body = draft_request(sampling={"seed": 3, "max_tokens": 500, "temperature": 2.0})
    events = await post_events(client, "/v1/draft", body, {"X-Deadline-Ms": "400"})
    assert [candidate["finish_reason"] for candidate in data_of("candidate", events)] == ["cancelled"]
    assert before + usage_of(events) == engine.totals


async def test_card_describes_the_model(client: httpx.AsyncClient, engine: ObservedEngine):
    """`GET /v1/model` returns role, engine, capabilities, and each prompt's overhead, without the problem's own tokens."""
    card = (await client.get("/v1/model")).json()
    assert (card["role"], card["engine"], card["dialect"], card["counts"]) == ("actor", "embedded", "structured", "exact")
    assert (card["context_length"], card["parameters"]) == (768, 134_515_008)
    assert card["capabilities"]["prefix"]
    added = engine.count(DIALECT.draft(MESSAGES)) - card["overhead"]["draft"]
    assert 0 < added <= len(PROBLEM.encode())
    assert card["overhead"]["refine"] > card["overhead"]["draft"]


async def test_metrics_count_calls_and_tokens(client: httpx.AsyncClient):
    """A draft increases the service's metrics by one call and by the tokens of its usage."""

    async def metrics() -> dict[str, float]:
        lines = (await client.get("/metrics")).text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    await post_events(client, "/v1/draft", draft_request())
    before = await metrics()
    usage = usage_of(await post_events(client, "/v1/draft", draft_request()))
    grown = {name: value - before.get(name, 0.0) for name, value in (await metrics()).items() if "_role_" in name}
    assert grown['counterpoint_role_calls_total{outcome="ok",verb="draft"}'] == 1
    assert grown['counterpoint_role_tokens_total{kind="prompt"}'] == usage.prompt_tokens
    assert grown['counterpoint_role_tokens_total{kind="completion"}'] == usage.completion_tokens


def test_unknown_dialect_is_a_settings_error():
    """The error names the variable and lists the available dialects."""
    with pytest.raises(SettingsError, match="COUNTERPOINT_ACTOR_DIALECT: there is no dialect latin; there are structured"):
        ActorSettings.load(dialect="latin").choose_dialect(DIALECTS)


async def test_openapi_document_describes_the_calls(client: httpx.AsyncClient):
    """The served document lists the streamed calls with their errors."""
    paths = (await client.get("/openapi.json")).raise_for_status().json()["paths"]
    calls = [path["post"] for path in paths.values() if "post" in path]
    assert calls
    assert all({"200", "422", "503"} <= set(call["responses"]) for call in calls)
