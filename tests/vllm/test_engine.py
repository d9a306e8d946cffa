"""The Engine protocol on the real vLLM, in this process."""

import json
import math
import re

import anyio
import pytest

from services.contracts.sampling import Sampling
from services.engines.protocol import ANONYMOUS, Engine, Generation, Guide, Prompt
from services.engines.testing import call_of, complete, user_prompt
from services.errors import ContextExceeded, InvalidRequest

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

GREEDY = Sampling(temperature=0.0, max_tokens=24)


async def test_usage_adds_up_over_samples(smollm2: Engine):
    """Samples differ and each ends once. Usage is the sum over the deltas and counts the prompt once."""
    call = Generation(user_prompt("Name a colour."), Sampling(temperature=1.0, max_tokens=20, seed=5), n=4)
    texts, usage, deltas = await complete(smollm2, call)
    assert len(set(texts)) > 1
    assert sorted(d.index for d in deltas if d.finish_reason) == [0, 1, 2, 3]
    assert sum(d.tokens for d in deltas) == usage.completion_tokens
    assert usage.prompt_tokens == smollm2.count(call.prompt)
    assert (await complete(smollm2, call))[0] == texts, "the same seed gives the same samples"
    assert smollm2.in_flight == 0


async def test_stop_strings_and_max_tokens_end_a_sample(smollm2: Engine):
    """A stop string is left out of the text, and `max_tokens` truncates the text."""
    whole = (await complete(smollm2, Generation(user_prompt("Count from 1 to 9."), GREEDY)))[0][0]
    stop = whole[len(whole) // 2 :][:4]
    stopping = GREEDY.model_copy(update={"stop": (stop,)})
    texts, _, deltas = await complete(smollm2, Generation(user_prompt("Count from 1 to 9."), stopping))
    assert texts[0] == whole[: whole.index(stop)]
    assert deltas[-1].finish_reason == "stop"
    _, _, deltas = await complete(
        smollm2, Generation(user_prompt("Tell a story."), GREEDY.model_copy(update={"max_tokens": 3}))
    )
    assert deltas[-1].finish_reason == "length"


SCHEMA = json.dumps({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]})


@pytest.mark.parametrize(
    ("guide", "form"),
    [
        (Guide("choice", ("correct", "incorrect")), "correct|incorrect"),
        (Guide("regex", "[0-9]{3}"), "[0-9]{3}"),
        (Guide("json", SCHEMA), r'\{\s*"a"\s*:\s*"[xy]"\s*\}'),
    ],
)
async def test_guided_text_matches_and_has_probabilities(smollm2: Engine, guide: Guide, form: str):
    """Guided text matches its guide, and each token lists its likeliest alternatives."""
    call = Generation(
        user_prompt("2 + 2 = 5. Judge it."), Sampling(temperature=0.0, max_tokens=40), guide=guide, top_logprobs=5
    )
    texts, usage, deltas = await complete(smollm2, call)
    assert re.fullmatch(form, texts[0].strip())
    entries = [entry for delta in deltas for entry in delta.logprobs]
    assert usage.completion_tokens - len(entries) in {0, 1}, "a log-probability for each token but the end's"
    assert all(math.isfinite(p) and p <= 0 for entry in entries for _, p in entry.top)


async def test_an_invalid_guide_is_refused(smollm2: Engine):
    """An invalid guide is the caller's error, and the engine still serves calls."""
    with pytest.raises(InvalidRequest):
        await complete(smollm2, Generation(user_prompt("Hi"), GREEDY, guide=Guide("regex", "([")))
    await complete(smollm2, Generation(user_prompt("Hi"), GREEDY))
    await smollm2.check()


async def test_a_prefix_is_continued(smollm2: Engine):
    """A prefix is continued with the text that followed it in the unprefixed completion."""
    whole = (await complete(smollm2, Generation(user_prompt("Say the alphabet."), GREEDY)))[0][0]
    half = whole[: len(whole) // 2].rsplit(" ", 1)[0]
    texts, usage, _ = await complete(smollm2, Generation(user_prompt("Say the alphabet.", half), GREEDY))
    assert whole.startswith(half + texts[0][: len(whole) - len(half)])
    assert usage.prompt_tokens > smollm2.count(user_prompt("Say the alphabet."))


async def test_scores_match_generated_log_probabilities(smollm2: Engine):
    """Scoring a greedy text returns the log-probabilities of its generation (within 1e-3) and counts it as prompt."""
    prompt = user_prompt("Name three animals.")
    texts, _, deltas = await complete(smollm2, Generation(prompt, GREEDY, top_logprobs=1))
    async with smollm2.score(prompt, texts[0], ANONYMOUS) as stream:
        scored = [delta async for delta in stream]
    assert "".join(delta.text for delta in scored) == texts[0]
    written = [entry.logprob for delta in deltas for entry in delta.logprobs][: len(scored)]
    assert [delta.logprobs[0].logprob for delta in scored] == pytest.approx(written, abs=1e-3)
    assert stream.usage.prompt_tokens == smollm2.count(prompt) + len(scored)
    assert stream.usage.completion_tokens == 1, "vLLM samples one token after the text that it scores"
    with pytest.raises(InvalidRequest):
        async with smollm2.score(prompt, "", ANONYMOUS):
            pass


async def test_a_prompt_that_is_too_long_is_refused(smollm2: Engine):
    """A prompt longer than the context is refused with the number of tokens needed."""
    with pytest.raises(ContextExceeded) as raised:
        await complete(smollm2, Generation(user_prompt(" a" * 4000), GREEDY))
    assert raised.value.needed is not None
    assert raised.value.needed > 4000


async def test_cached_prompts_are_counted_and_separate_by_tenant(smollm2: Engine):
    """A repeated prompt reuses all full cache blocks, but not those of another tenant."""
    prompt: Prompt = user_prompt("word " * 200 + "Which word?")

    async def cached(tenant: str) -> int:
        call = Generation(prompt, GREEDY, call=call_of(tenant=tenant))
        return (await complete(smollm2, call)).usage.cached_tokens

    assert await cached("a") == 0
    assert await cached("a") == (smollm2.count(prompt) - 1) // 32 * 32
    assert await cached("b") == 0


async def test_urgent_calls_run_first(smollm2: Engine):
    """When all slots are in use, a queued call with a lower priority number runs before earlier calls."""
    order: list[str] = []

    async def run(name: str, priority: int, n: int) -> None:
        sampling, call = Sampling(max_tokens=60, seed=1), call_of(priority=priority)
        await complete(smollm2, Generation(user_prompt(f"{name}: tell a story."), sampling, n, call=call))
        order.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(run, "busy", -9, 4)
        await anyio.sleep(0.2)
        group.start_soon(run, "fresh", 5, 4)
        await anyio.sleep(0.2)
        group.start_soon(run, "urgent", -5, 4)
    assert order == ["busy", "urgent", "fresh"]


async def test_leaving_frees_the_engine(smollm2: Engine):
    """Leaving the block and cancellation both free the engine. The generated tokens count."""
    call = Generation(user_prompt("Tell a very long story."), Sampling(temperature=1.0, max_tokens=1500), n=3)
    async with smollm2.generate(call) as stream:
        async for _ in stream:
            break
    assert smollm2.in_flight == 0
    assert 0 < stream.usage.completion_tokens < 1500
    with anyio.move_on_after(0.4) as scope:
        await complete(smollm2, call)
    assert scope.cancelled_caught
    assert smollm2.in_flight == 0
    texts, _, _ = await complete(smollm2, Generation(user_prompt("Hi"), GREEDY))
    assert texts[0]
