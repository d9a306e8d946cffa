"""The critic on a real model behind a real server: each depth, each dialect, its usage, its limits."""

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

Ask = Callable[..., Prompt]


def judge(depth: str, **fields: Any) -> dict[str, Any]:
    """Return a request for a greedy critique."""
    return {
        "problem": PROBLEM,
        "steps": STEPS,
        "depth": depth,
        "sampling": {"temperature": 0.0, "seed": SEED, "max_tokens": 420},
        **fields,
    }


@pytest.fixture(scope="module")
def ask(secret: bytes) -> Ask:
    """Return a function from a depth to the prompt that its critique should have."""

    def prompt(depth: Depth, explain: str = "first", dialect: str = "structured") -> Prompt:
        messages = (Message(role="user", content=PROBLEM),)
        case = Case(messages, STEPS, derive_nonce(secret, messages, SEED))
        return CHAT_DIALECTS[dialect].question(case, depth, explain, scores=False).prompt

    return prompt


def of(kind: str, events: NamedEvents) -> list[dict[str, Any]]:
    """Return the data of the events of one kind."""
    return [data for name, data in events if name == kind]


def spent(events: NamedEvents) -> Usage:
    """Return the usage that a stream ends with."""
    name, data = events[-1]
    assert name == "usage"
    return Usage.model_validate(data)


def read(events: NamedEvents) -> Critique:
    """Return the critique; the labels and explanations before it are its own, in the order of the steps."""
    (data,) = of("critique", events)
    critique = Critique.model_validate(data)
    before = events[: events.index(("critique", data))]
    assert [name["index"] for name in of("label", before)] == list(range(1, len(critique.labels) + 1))
    assert [(x["label"], x["p_correct"]) for x in of("label", before)] == [(x.label, x.p_correct) for x in critique.labels]
    assert [(x["index"], x["text"]) for x in of("explanation", before)] == [(x.index, x.text) for x in critique.explanations]
    wrong = [label.index for label in critique.labels if label.label == "incorrect"]
    assert critique.first_error == (wrong[0] if wrong else None)
    return critique


async def test_a_verdict_is_a_probability(client: httpx.AsyncClient, engine: ObservedEngine, ask: Ask):
    """About one token, whose alternatives give p_correct, on whose side the verdict is."""
    before = engine.totals
    events = await post_events(client, URL, judge("verdict"))
    critique = read(events)
    assert [name for name, _ in events] == ["critique", "usage"]
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(ask("verdict"))
    assert critique.p_correct is not None
    assert 0 < critique.p_correct < 1
    assert critique.verdict == ("correct" if critique.p_correct >= 0.5 else "incorrect")
    assert engine.texts[-1] in {"Correct", "Incorrect"}
    assert before + spent(events) == engine.totals
    assert spent(events).completion_tokens <= 4


async def test_labels_are_one_a_step_with_a_probability_each(client: httpx.AsyncClient, engine: ObservedEngine, ask: Ask):
    """A guided answer names every step; p_correct of the whole is that of its weakest step."""
    before = engine.totals
    events = await post_events(client, URL, judge("labels"))
    critique = read(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(ask("labels"))
    assert [label.index for label in critique.labels] == [1, 2]
    known = [label.p_correct for label in critique.labels if label.p_correct is not None]
    assert len(known) == 2
    assert critique.p_correct == min(known)
    assert before + spent(events) == engine.totals
    assert spent(events).prompt_tokens == engine.count(ask("labels"))


@pytest.mark.parametrize("explain", ["first", "all"])
async def test_structured_explanations(client: httpx.AsyncClient, engine: ObservedEngine, ask: Ask, explain: str):
    """Labels with words: about the first wrong step, or about every step."""
    events = await post_events(client, URL, judge("explain", explain=explain))
    critique = read(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(ask("explain", explain))
    assert not critique.unparsable
    assert [label.index for label in critique.labels] == [1, 2]
    explained = [entry.index for entry in critique.explanations]
    assert explained == ([1, 2] if explain == "all" else [critique.first_error] if critique.first_error else [])
    assert spent(events).prompt_tokens == engine.count(ask("explain", explain))


async def test_published_explanations_are_read_as_they_were_written(
    published: httpx.AsyncClient, engine: ObservedEngine, ask: Ask
):
    """In free text a small model may write anything: what the parser reads is the critique, and what it cannot is unsure."""
    body = judge("explain", explain="all", sampling={"temperature": 0.0, "seed": SEED, "max_tokens": 120})
    events = await post_events(published, URL, body)
    critique = read(events)
    assert engine.prompts[-1] == engine.tokenizer.prompt_ids(ask("explain", "all", "mathcritique"))
    question = CHAT_DIALECTS["mathcritique"].question(Case((), STEPS, "0" * 12), "explain", "all", scores=False)
    try:
        expected = question.parse(engine.texts[-1])
    except UnparsableCritique:
        expected = Critique(depth="explain", verdict="unsure", unparsable=True)
    assert critique == expected
    assert spent(events).completion_tokens <= 120


async def test_a_critique_that_was_cut_off_is_unsure(client: httpx.AsyncClient, engine: ObservedEngine, ask: Ask):
    """An allowance caps the completion to the token; half a document is no critique, and is counted as unparsable."""
    needed = engine.count(ask("labels")) + 1
    events = await post_events(client, URL, judge("labels", allowance={"max_tokens": needed + 3}))
    assert read(events) == Critique(depth="labels", verdict="unsure", unparsable=True)
    assert (spent(events).prompt_tokens, spent(events).completion_tokens) == (needed - 1, 4)
    assert 'counterpoint_critic_unparsable_total{depth="labels"}' in (await client.get("/metrics")).text


@pytest.mark.parametrize("depth", ["verdict", "labels", "explain"])
async def test_an_allowance_holds_to_the_token(client: httpx.AsyncClient, engine: ObservedEngine, ask: Ask, depth: str):
    """One token too few is refused with what is needed, before anything is computed; just enough is one token."""
    needed = engine.count(ask(depth)) + 1
    before, requests = engine.totals, len(engine.prompts)
    ((name, problem),) = await post_events(client, URL, judge(depth, allowance={"max_tokens": needed - 1}))
    assert (name, problem["status"], problem["code"], problem["needed"]) == ("refused", 422, "budget_too_small", needed)
    assert (engine.totals, len(engine.prompts)) == (before, requests)
    events = await post_events(client, URL, judge(depth, allowance={"max_tokens": needed}))
    assert spent(events).total_tokens == needed


async def test_a_solution_beyond_the_context_is_refused(client: httpx.AsyncClient, engine: ObservedEngine):
    """As many long steps as a request may hold are too long for this model: 422 with the length, not a defect."""
    ((_, problem),) = await post_events(client, URL, judge("verdict", steps=["a " * 1_000] * 200))
    assert (problem["status"], problem["limit"]["name"]) == (422, "context_length")
    assert problem["needed"] > engine.context_length


async def test_a_cancelled_call_ends_with_its_exact_usage(published: httpx.AsyncClient, engine: ObservedEngine):
    """`DELETE /v1/calls/{id}` aborts it in the engine; there is a usage event and no critique."""
    before, aborted, requests = engine.totals, engine.aborted, len(engine.texts)
    streams: list[NamedEvents] = []

    async def follow() -> None:
        body = judge("explain", sampling={"temperature": 0.7, "seed": 2, "max_tokens": 500})
        streams.append(await post_events(published, URL, body, {"X-Call-ID": "long"}))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await wait_until(lambda: any(engine.texts[requests:]))
        cancelled = await published.delete("/v1/calls/long")
        assert (cancelled.status_code, cancelled.json()) == (202, {"cancelled": True})
    (events,) = streams
    assert [name for name, _ in events] == ["usage"]
    assert before + spent(events) == engine.totals
    assert 0 < spent(events).completion_tokens < 500
    assert (engine.aborted, engine.in_flight) == (aborted + 1, 0)


async def test_the_card_describes_the_model(client: httpx.AsyncClient, published: httpx.AsyncClient, engine: ObservedEngine):
    """`GET /v1/model`: dialect, depths, prior, and each depth's overhead, to which texts add their own tokens."""
    card, other = (await client.get("/v1/model")).json(), (await published.get("/v1/model")).json()
    assert (card["role"], card["dialect"], other["dialect"]) == ("critic", "structured", "mathcritique")
    assert (card["depths"], card["prior"]) == (["verdict", "labels", "explain"], 0.5)
    assert set(card["capabilities"]["guided"]) >= {"choice", "json"}
    messages = (Message(role="user", content=PROBLEM),)
    case = Case(messages, ("1 + 1 = 2",), "0" * 12)
    for depth, overhead in card["overhead"].items():
        question = CHAT_DIALECTS["structured"].question(case, depth, "all", scores=False)
        added = engine.count(question.prompt) - overhead
        assert 0 < added <= len(PROBLEM.encode()) + len("1 + 1 = 2")


def test_an_unknown_dialect_is_refused_at_the_start():
    """The error names the variable and the dialects that exist."""
    with pytest.raises(SettingsError, match="COUNTERPOINT_CRITIC_DIALECT: there is no dialect latin; there are structured"):
        dialect_of(CriticSettings.load(dialect="latin"))


async def test_its_openapi_document_describes_its_calls(client: httpx.AsyncClient):
    """The document is served, and lists the streamed calls with their errors."""
    paths = (await client.get("/openapi.json")).raise_for_status().json()["paths"]
    calls = [path["post"] for path in paths.values() if "post" in path]
    assert calls
    assert all({"200", "422", "503"} <= set(call["responses"]) for call in calls)
