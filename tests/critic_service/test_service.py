"""The critic on a real model behind a real server: depths, dialects, usage and limits."""

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from critic_service.dialects import CHAT_DIALECTS, Case, UnparsableCritique, dialect_of
from critic_service.nonce import derive_nonce
from services.contracts.critique import Critique, Depth
from services.contracts.messages import Message
from services.contracts.usage import Usage
from services.engines.protocol import Prompt
from services.engines.testing import ObservedEngine
from services.settings import CriticSettings, SettingsError
from services.testing import NamedEvents, post_events, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

PROBLEM = "What is 12 * 3 - 7?"
STEPS = ("Step 1: 12 * 3 = 36", "Step 2: 36 - 7 = 28. The answer is 28.")
SEED = 7
URL = "/v1/critique"

PromptFor = Callable[..., Prompt]


def critique_request(depth: str, **fields: Any) -> dict[str, Any]:
    """Return a request for a greedy critique."""
    return {
        "problem": PROBLEM,
        "steps": STEPS,
        "depth": depth,
        "sampling": {"temperature": 0.0, "seed": SEED, "max_tokens": 420},
        **fields,
    }


@pytest.fixture(scope="module")
def prompt_for(secret: bytes) -> PromptFor:
    """A function that returns the expected prompt of a critique of a given depth."""

    def prompt(depth: Depth, explain: str = "first", dialect: str = "structured") -> Prompt:
        messages = (Message(role="user", content=PROBLEM),)
        case = Case(messages, STEPS, derive_nonce(secret, messages, SEED))
        return CHAT_DIALECTS[dialect].question(case, depth, explain, scores=False).prompt

    return prompt


def data_of(kind: str, events: NamedEvents) -> list[dict[str, Any]]:
    """Return the data of the events of one kind."""
    return [data for name, data in events if name == kind]


def usage_of(events: NamedEvents) -> Usage:
    """Return the usage in the last event of a stream."""
    name, data = events[-1]
    assert name == "usage"
    return Usage.model_validate(data)


def critique_of(events: NamedEvents) -> Critique:
    """Return the critique, and check that the label and explanation events before it match it, in order."""
    (data,) = data_of("critique", events)
    critique = Critique.model_validate(data)
    before = events[: events.index(("critique", data))]
    assert [name["index"] for name in data_of("label", before)] == list(range(1, len(critique.labels) + 1))
    assert [(x["label"], x["p_correct"]) for x in data_of("label", before)] == [
        (x.label, x.p_correct) for x in critique.labels
    ]
    assert [(x["index"], x["text"]) for x in data_of("explanation", before)] == [
        (x.index, x.text) for x in critique.explanations
    ]
    wrong = [label.index for label in critique.labels if label.label == "incorrect"]
    assert critique.first_error == (wrong[0] if wrong else None)
    return critique


async def test_verdict_is_decided_by_its_probability(
    client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor
):
    """The critic writes one guided word; its token's alternatives give p_correct, which decides the verdict."""
    before = engine.totals
    events = await post_events(client, URL, critique_request("verdict"))
    critique = critique_of(events)
    assert [name for name, _ in events] == ["critique", "usage"]
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt_for("verdict"))
    assert critique.p_correct is not None
    assert 0 < critique.p_correct < 1
    assert critique.verdict == ("correct" if critique.p_correct >= 0.5 else "incorrect")
    assert engine.texts[-1] in {"Correct", "Incorrect"}
    assert before + usage_of(events) == engine.totals
    assert usage_of(events).completion_tokens <= 4


async def test_each_step_has_a_label_with_a_probability(
    client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor
):
    """A guided answer labels every step; p_correct of the critique is the smallest of the steps' probabilities."""
    before = engine.totals
    events = await post_events(client, URL, critique_request("labels"))
    critique = critique_of(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt_for("labels"))
    assert [label.index for label in critique.labels] == [1, 2]
    known = [label.p_correct for label in critique.labels if label.p_correct is not None]
    assert len(known) == 2
    assert critique.p_correct == min(known)
    assert before + usage_of(events) == engine.totals
    assert usage_of(events).prompt_tokens == engine.count(prompt_for("labels"))


@pytest.mark.parametrize("explain", ["first", "all"])
async def test_structured_explanations(
    client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor, explain: str
):
    """The critique labels every step, and explains the first wrong one or all of them, as requested."""
    events = await post_events(client, URL, critique_request("explain", explain=explain))
    critique = critique_of(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt_for("explain", explain))
    assert not critique.unparsable
    assert [label.index for label in critique.labels] == [1, 2]
    explained = [entry.index for entry in critique.explanations]
    assert explained == ([1, 2] if explain == "all" else [critique.first_error] if critique.first_error else [])
    assert usage_of(events).prompt_tokens == engine.count(prompt_for("explain", explain))


async def test_mathcritique_answer_is_parsed_or_unsure(
    mathcritique_client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor
):
    """A small model may write anything as free text: the critique is what the parser returns, or `unsure` if it raises."""
    body = critique_request("explain", explain="all", sampling={"temperature": 0.0, "seed": SEED, "max_tokens": 120})
    events = await post_events(mathcritique_client, URL, body)
    critique = critique_of(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(prompt_for("explain", "all", "mathcritique"))
    question = CHAT_DIALECTS["mathcritique"].question(Case((), STEPS, "0" * 12), "explain", "all", scores=False)
    try:
        expected = question.parse(engine.texts[-1])
    except UnparsableCritique:
        expected = Critique(depth="explain", verdict="unsure", unparsable=True)
    assert critique == expected
    assert usage_of(events).completion_tokens <= 120


async def test_truncated_critique_is_unsure(client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor):
    """An allowance cuts the answer off to the token; the incomplete document is unparsable and counted as such."""
    needed = engine.count(prompt_for("labels")) + 1
    events = await post_events(client, URL, critique_request("labels", allowance={"max_tokens": needed + 3}))
    assert critique_of(events) == Critique(depth="labels", verdict="unsure", unparsable=True)
    assert (usage_of(events).prompt_tokens, usage_of(events).completion_tokens) == (needed - 1, 4)
    assert 'counterpoint_critic_unparsable_total{depth="labels"}' in (await client.get("/metrics")).text


@pytest.mark.parametrize("depth", ["verdict", "labels", "explain"])
async def test_allowance_is_exact_to_the_token(
    client: httpx.AsyncClient, engine: ObservedEngine, prompt_for: PromptFor, depth: str
):
    """An allowance one token too small is refused before any work, with the tokens needed; the exact one is accepted."""
    needed = engine.count(prompt_for(depth)) + 1
    before, requests = engine.totals, len(engine.prompts)
    ((name, problem),) = await post_events(client, URL, critique_request(depth, allowance={"max_tokens": needed - 1}))
    assert (name, problem["status"], problem["code"], problem["needed"]) == ("refused", 422, "budget_too_small", needed)
    assert (engine.totals, len(engine.prompts)) == (before, requests)
    events = await post_events(client, URL, critique_request(depth, allowance={"max_tokens": needed}))
    assert usage_of(events).total_tokens == needed


async def test_solution_longer_than_the_context_is_refused(client: httpx.AsyncClient, engine: ObservedEngine):
    """The longest solution that a request may contain exceeds the model's context: it gets 422 with the length needed."""
    ((_, problem),) = await post_events(client, URL, critique_request("verdict", steps=["a " * 1_000] * 200))
    assert (problem["status"], problem["limit"]["name"]) == (422, "context_length")
    assert problem["needed"] > engine.context_length


async def test_cancelled_call_ends_with_its_exact_usage(mathcritique_client: httpx.AsyncClient, engine: ObservedEngine):
    """`DELETE /v1/calls/{id}` aborts the call in the engine; the stream has a usage event and no critique."""
    before, aborted, requests = engine.totals, engine.aborted, len(engine.texts)
    streams: list[NamedEvents] = []

    async def follow() -> None:
        body = critique_request("explain", sampling={"temperature": 0.7, "seed": 2, "max_tokens": 500})
        streams.append(await post_events(mathcritique_client, URL, body, {"X-Call-ID": "long"}))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await wait_until(lambda: any(engine.texts[requests:]))
        cancelled = await mathcritique_client.delete("/v1/calls/long")
        assert (cancelled.status_code, cancelled.json()) == (202, {"cancelled": True})
    (events,) = streams
    assert [name for name, _ in events] == ["usage"]
    assert before + usage_of(events) == engine.totals
    assert 0 < usage_of(events).completion_tokens < 500
    assert (engine.aborted, engine.in_flight) == (aborted + 1, 0)


async def test_card_describes_the_model(
    client: httpx.AsyncClient, mathcritique_client: httpx.AsyncClient, engine: ObservedEngine
):
    """`GET /v1/model` returns dialect, depths, prior, and each depth's prompt overhead, without the texts' own tokens."""
    card, other = (await client.get("/v1/model")).json(), (await mathcritique_client.get("/v1/model")).json()
    assert (card["role"], card["dialect"], other["dialect"]) == ("critic", "structured", "mathcritique")
    assert (card["depths"], card["prior"]) == (["verdict", "labels", "explain"], 0.5)
    assert set(card["capabilities"]["guided"]) >= {"choice", "json"}
    messages = (Message(role="user", content=PROBLEM),)
    case = Case(messages, ("1 + 1 = 2",), "0" * 12)
    for depth, overhead in card["overhead"].items():
        question = CHAT_DIALECTS["structured"].question(case, depth, "all", scores=False)
        added = engine.count(question.prompt) - overhead
        assert 0 < added <= len(PROBLEM.encode()) + len("1 + 1 = 2")


def test_unknown_dialect_is_a_settings_error():
    """The error names the variable and lists the available dialects."""
    with pytest.raises(SettingsError, match="COUNTERPOINT_CRITIC_DIALECT: there is no dialect latin; there are structured"):
        dialect_of(CriticSettings.load(dialect="latin"))


async def test_openapi_document_describes_the_calls(client: httpx.AsyncClient):
    """The served document lists the streamed calls with their errors."""
    paths = (await client.get("/openapi.json")).raise_for_status().json()["paths"]
    calls = [path["post"] for path in paths.values() if "post" in path]
    assert calls
    assert all({"200", "422", "503"} <= set(call["responses"]) for call in calls)
