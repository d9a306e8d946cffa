"""The embedded engine on a real model: exact counts, guides and scores."""

import json
import math
from collections.abc import Mapping

import anyio
import jsonschema
import pytest

from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions, Event, Llama, wire
from services.engines.models import SMOLLM2, model_path
from services.engines.protocol import ANONYMOUS, Generation, Guide, Prompt
from services.engines.testing import complete, user_prompt
from services.engines.tokenizers import ChatTokenizer
from services.errors import ContextExceeded, EngineFailed, InvalidRequest

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]


def sampling(**fields: object) -> Sampling:
    """Return sampling parameters with a seed and a small `max_tokens`."""
    return Sampling.model_validate({"seed": 7, "max_tokens": 12, **fields})


def llama_events(request: Mapping[str, object]) -> list[Event]:
    """Return the events that llama.cpp streams for a request."""
    events: list[Event] = []

    def keep(event: Event) -> bool:
        events.append(event)
        return False

    llama = Llama(EmbeddedOptions(model_path(SMOLLM2), context_length=512))
    llama.complete(request, keep)
    llama.close()
    return events


async def test_usage_adds_up_over_samples(embedded: EmbeddedEngine) -> None:
    """With more samples than slots, the prompt counts once, all tokens count, and each sample finishes once."""
    call = Generation(user_prompt("Name a colour."), sampling(), n=3)
    texts, usage, deltas = await complete(embedded, call)
    finished = {delta.index: delta.finish_reason for delta in deltas if delta.finish_reason}
    tokens = [sum(delta.tokens for delta in deltas if delta.index == index) for index in range(3)]
    assert usage.prompt_tokens == embedded.count(call.prompt)
    assert usage.completion_tokens == sum(tokens)
    assert sorted(finished) == [0, 1, 2]
    assert all(count == 12 for index, count in enumerate(tokens) if finished[index] == "length")
    assert len(set(texts)) == 3
    assert embedded.in_flight == 0


@pytest.mark.parametrize(
    ("guide", "fields"),
    [
        (None, {}),
        (None, {"stop": [" the", "a"], "max_tokens": 30}),
        (Guide("choice", ("\N{GRINNING FACE}\N{SNOWMAN}",)), {"max_tokens": 30}),
    ],
)
async def test_token_counts_match_llama_cpp(
    embedded: EmbeddedEngine, smollm2: ChatTokenizer, guide: Guide | None, fields: dict[str, object]
) -> None:
    """Each sample's token count, end of text and held-back tokens included, is the one that llama.cpp reports."""
    call = Generation(user_prompt("Tell a story."), sampling(**fields), n=2, guide=guide)
    _, usage, deltas = await complete(embedded, call)
    ids = smollm2.prompt_ids(call.prompt)
    events = llama_events(wire.request(call, ids, embedded.context_length - len(ids)).samples(range(2)))
    own = {wire.sample(event): event["usage"] for event in events if event.get("usage")}
    assert usage.prompt_tokens == own[0]["prompt_tokens"]
    for index in (0, 1):
        counted = sum(delta.tokens for delta in deltas if delta.index == index)
        assert counted == own[index]["completion_tokens"]


async def test_a_sample_does_not_depend_on_concurrent_calls(embedded: EmbeddedEngine) -> None:
    """The same seed gives the same samples, whatever their number and the concurrent calls. Another seed gives others."""
    prompt = user_prompt("Name a colour.")
    three, _, _ = await complete(embedded, Generation(prompt, sampling(), n=3))
    beside: list[list[str]] = []

    async def one(seed: int) -> None:
        beside.append((await complete(embedded, Generation(prompt, sampling(seed=seed))))[0])

    async with anyio.create_task_group() as group:
        for seed in (7, 8, 7):
            group.start_soon(one, seed)
    assert sorted(texts == three[:1] for texts in beside) == [False, True, True]


@pytest.mark.parametrize(
    ("fields", "text", "finish"),
    [
        ({"max_tokens": 3}, "1, ", "length"),
        ({"stop": ["4"]}, "1, 2, 3, ", "stop"),
        ({"stop": [", 3", "9"]}, "1, 2", "stop"),
    ],
)
async def test_stop_strings_and_max_tokens_end_a_sample(
    embedded: EmbeddedEngine, fields: dict[str, object], text: str, finish: str
) -> None:
    """`max_tokens` truncates the text. A stop string is left out of the text, but its tokens count."""
    choices = ("1, 2, 3, 4, 5, 6",)
    greedy = sampling(temperature=0.0, **{"max_tokens": 40, **fields})
    texts, usage, deltas = await complete(
        embedded, Generation(user_prompt("Count."), greedy, guide=Guide("choice", choices))
    )
    generated = text if finish == "length" else text + str(greedy.stop[0])
    assert texts == [text]
    assert usage.completion_tokens == 3 if finish == "length" else usage.completion_tokens >= len(generated) / 2
    assert [delta.finish_reason for delta in deltas] == [*[None] * (len(deltas) - 1), finish]


async def test_usage_matches_the_tokens_of_the_text(embedded: EmbeddedEngine) -> None:
    """Without an end-of-text token, each counted token has a log-probability, and the tokens spell the text."""
    call = Generation(user_prompt("Tell a story."), sampling(max_tokens=20, stop=[" the"]), top_logprobs=1)
    texts, usage, deltas = await complete(embedded, call)
    tokens = [token.token for delta in deltas for token in delta.logprobs]
    assert len(tokens) == usage.completion_tokens
    assert "".join(tokens).startswith(texts[0])


async def test_a_prefix_is_continued(embedded: EmbeddedEngine) -> None:
    """A prefix is not repeated in the text, and the continuation depends on it."""
    greedy = sampling(temperature=0.0, max_tokens=3)
    texts, usage, _ = await complete(embedded, Generation(user_prompt("Say the alphabet."), greedy))
    prompt = user_prompt("Say the alphabet.", "A, B, C, D, E, F,")
    continued, longer, _ = await complete(embedded, Generation(prompt, greedy))
    assert continued[0].startswith(" G")
    assert continued != texts
    assert longer.prompt_tokens > usage.prompt_tokens


async def test_a_choice_comes_with_probabilities(embedded: EmbeddedEngine) -> None:
    """The text is one of the choices. The alternatives are those of the model before the guide applies."""
    guide = Guide("choice", ("correct", 'in"correct\n\\'))
    texts, _, deltas = await complete(
        embedded, Generation(user_prompt("2 + 2 = 4. Correct?"), sampling(max_tokens=40), guide=guide, top_logprobs=4)
    )
    first = next(token for delta in deltas for token in delta.logprobs)
    assert texts[0] in guide.value
    assert len(first.top) == 4
    assert sum(math.exp(logprob) for _, logprob in first.top) <= 1.0 + 1e-6
    assert all(logprob <= 0 for _, logprob in first.top)


async def test_a_json_guide_yields_a_document_of_its_schema(embedded: EmbeddedEngine) -> None:
    """A JSON guide yields a document that is valid under the schema."""
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["correct", "incorrect"]}, "step": {"type": "integer", "maximum": 9}},
        "required": ["label", "step"],
        "additionalProperties": False,
    }
    call = Generation(user_prompt("Judge: 1 + 1 = 3"), sampling(max_tokens=60), guide=Guide("json", json.dumps(schema)))
    texts, _, deltas = await complete(embedded, call)
    assert deltas[-1].finish_reason == "stop"
    jsonschema.validate(json.loads(texts[0]), schema)


async def test_an_unsupported_guide_is_refused(embedded: EmbeddedEngine) -> None:
    """An unsupported kind of guide or an invalid grammar is the caller's error."""
    for guide in (Guide("regex", "[0-9]+"), Guide("grammar", "root ::= [")):
        with pytest.raises(InvalidRequest):
            await complete(embedded, Generation(user_prompt("Hi"), sampling(), guide=guide))
    assert embedded.in_flight == 0


async def test_an_exception_in_the_event_callback_is_raised() -> None:
    """An exception in the event callback ends the completion and is raised, although the library would ignore it."""
    llama = Llama(EmbeddedOptions(model_path(SMOLLM2), context_length=64, slots=1))
    events: list[Event] = []

    def failing(event: Event) -> bool:
        events.append(event)
        return bool(event["no such field"])

    with pytest.raises(EngineFailed, match="no such field"):
        llama.complete({"prompt": [5, 6], "n_predict": 8, "stream": True}, failing)
    llama.close()
    assert len(events) == 1


async def _log_likelihood(engine: EmbeddedEngine, prompt: Prompt, continuation: str) -> float:
    async with engine.score(prompt, continuation, ANONYMOUS) as stream:
        return sum([token.logprob async for delta in stream for token in delta.logprobs])
    raise AssertionError


async def test_scores_match_generated_log_probabilities(embedded: EmbeddedEngine) -> None:
    """Scoring a generated text returns the same log-probabilities as generating it."""
    prompt = user_prompt("Tell a story.")
    greedy = sampling(temperature=0.0, max_tokens=8)
    texts, _, deltas = await complete(embedded, Generation(prompt, greedy, top_logprobs=1))
    generated = [token.logprob for delta in deltas for token in delta.logprobs]
    async with embedded.score(prompt, texts[0], ANONYMOUS) as stream:
        scored = [token async for delta in stream for token in delta.logprobs]
    assert [token.logprob for token in scored] == pytest.approx(generated, abs=1e-3)
    assert "".join(token.token for token in scored) == texts[0]
    assert stream.usage.completion_tokens == 0
    assert stream.usage.prompt_tokens == embedded.count(prompt) + len(scored)


async def test_unlikely_text_has_a_lower_score(embedded: EmbeddedEngine) -> None:
    """An unlikely continuation has a lower score. A continuation that cannot be scored is refused."""
    prompt = user_prompt("What is the capital of France?", "The capital of France is")
    paris, banana = [await _log_likelihood(embedded, prompt, word) for word in (" Paris", " banana")]
    assert banana < paris - 3
    for text in ("", "\N{GRINNING FACE}"):
        with pytest.raises(InvalidRequest):
            await _log_likelihood(embedded, prompt, text)


async def test_deltas_hold_whole_characters(embedded: EmbeddedEngine) -> None:
    """Characters that span several tokens arrive whole, and all their tokens count."""
    guide = Guide("choice", ("\N{GRINNING FACE}\N{SNOWMAN}",))
    call = Generation(user_prompt("Hi"), sampling(), guide=guide)
    texts, usage, deltas = await complete(embedded, call)
    assert texts == ["\N{GRINNING FACE}\N{SNOWMAN}"]
    assert usage.completion_tokens > 4
    assert sum(delta.tokens for delta in deltas) == usage.completion_tokens


async def test_a_long_prompt_is_refused_before_it_is_computed(embedded: EmbeddedEngine) -> None:
    """A prompt that fills the context is refused with its exact length. After one that just fits, the text is truncated."""
    overhead = embedded.count(user_prompt(""))
    left = embedded.context_length - overhead
    with pytest.raises(ContextExceeded) as refusal:
        await complete(embedded, Generation(user_prompt(" a" * left), sampling()))
    assert refusal.value.needed == embedded.context_length + 1
    with pytest.raises(ContextExceeded):
        await _log_likelihood(embedded, user_prompt(" a" * (left - 1)), "b c")


async def test_a_repeated_prompt_is_cached(embedded: EmbeddedEngine) -> None:
    """When a prompt is repeated, all its tokens but the last come from the cache."""
    call = Generation(user_prompt("Name a very particular animal."), sampling(max_tokens=1))
    await complete(embedded, call)
    _, usage, _ = await complete(embedded, call)
    assert usage.cached_tokens == usage.prompt_tokens - 1
