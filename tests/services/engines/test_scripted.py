"""The scripted engine: deterministic, with exact token counts and configurable delays and failures."""

import json
from collections import Counter

import anyio
import pytest

from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage
from services.engines.protocol import Generation, Guide, Prompt
from services.engines.scripted import Plausible, ScriptedEngine, ScriptedOptions, fixed, tokens
from services.engines.testing import complete, user_prompt
from services.errors import ContextExceeded, EngineFailed

pytestmark = pytest.mark.anyio

CRITIQUE = "Judge it.\nCorrectness of the step: Correct|Wrong\n<solution x>\n{}\n</solution x>"


def generation(text: str = "What is 3 + 4 * 5?\n\nSolve it.", n: int = 1, **sampling: object) -> Generation:
    """Return a generation with a seed."""
    return Generation(user_prompt(text), Sampling.model_validate({"seed": 7, **sampling}), n)


def always(text: str, **options: object) -> ScriptedEngine:
    """Return an engine that always writes `text`."""
    return ScriptedEngine(ScriptedOptions(script=fixed(text), **options))  # pyright: ignore[reportArgumentType] - knobs of any type


async def test_the_same_call_returns_the_same_text() -> None:
    """The text is a function of prompt, seed and sample index. Different samples and seeds give different texts."""
    first, usage, _ = await complete(ScriptedEngine(), generation(n=16))
    again, usage_again, _ = await complete(ScriptedEngine(), generation(n=16))
    other, _, _ = await complete(ScriptedEngine(), generation(n=16, seed=8))
    assert (first, usage) == (again, usage_again)
    assert len(set(first)) > 1
    assert other != first


async def test_solutions_are_wrong_at_the_error_rate() -> None:
    """Most solutions reach the right answer step by step. The share of wrong ones is close to the error rate."""
    texts, _, _ = await complete(ScriptedEngine(), generation(n=64))
    assert "Step 1: 4 * 5 = 20\nStep 2: 3 + 20 = 23\nThe answer is \\boxed{23}." in texts
    right = sum(text.endswith("\\boxed{23}.") for text in texts)
    assert 0.5 < right / 64 < 0.9


async def test_a_prefix_is_continued_without_repeating_it() -> None:
    """If the prefix holds the first step, the solution continues with the second."""
    options = ScriptedOptions(script=Plausible(error_rate=0))
    call = Generation(user_prompt("What is 3 + 4 * 5?\n\nSolve it.", "Step 1: 4 * 5 = 20\n"), Sampling())
    texts, _, _ = await complete(ScriptedEngine(options), call)
    assert texts == ["Step 2: 3 + 20 = 23\nThe answer is \\boxed{23}."]


async def test_the_critique_marks_the_wrong_step() -> None:
    """A critic without misjudgements marks the false equation and every step after it, in the published format."""
    engine = ScriptedEngine(ScriptedOptions(script=Plausible(misjudge_rate=0)))
    solution = "Step 1: 1 + 1 = 2\nStep 2: 2 + 2 = 5\nThe answer is \\boxed{5}."
    texts, _, _ = await complete(engine, generation(CRITIQUE.format(solution)))
    labels = [line.rpartition(" ")[2] for line in texts[0].splitlines() if line.startswith("Correctness")]
    assert labels == ["Correct", "Wrong", "Wrong", "Wrong"]


async def test_a_choice_has_probabilities() -> None:
    """A choice guide yields one of its values. The alternatives include the opposite label."""
    engine = ScriptedEngine(ScriptedOptions(script=Plausible(misjudge_rate=0)))
    prompt = user_prompt(CRITIQUE.format("Step 1: 1 + 1 = 3"))
    call = Generation(prompt, Sampling(), guide=Guide("choice", ("correct", "incorrect")), top_logprobs=5)
    texts, _, deltas = await complete(engine, call)
    (choice,) = deltas[0].logprobs
    assert [choice.token, *texts] == ["incorrect", "incorrect"]
    assert {name for name, _ in choice.top} >= {"incorrect", "correct"}
    assert choice.logprob <= 0


async def test_a_json_guide_yields_a_document_of_its_schema() -> None:
    """A JSON guide yields a document that follows its schema, with a label for each step number."""
    engine = ScriptedEngine(ScriptedOptions(script=Plausible(misjudge_rate=0)))
    label = {"enum": ["correct", "incorrect"]}
    schema = {"type": "object", "properties": {"labels": {"type": "object", "properties": {"1": label, "2": label}}}}
    prompt = user_prompt(CRITIQUE.format("Step 1: 1 + 1 = 2\nStep 2: 2 + 2 = 5"))
    texts, _, _ = await complete(engine, Generation(prompt, Sampling(), guide=Guide("json", json.dumps(schema))))
    assert json.loads(texts[0]) == {"labels": {"1": "correct", "2": "incorrect"}}


async def test_token_counts_are_exact() -> None:
    """Usage counts the prompt once and every generated token, and matches the sums of the deltas and the totals."""
    engine = ScriptedEngine()
    call = generation(n=3)
    texts, usage, deltas = await complete(engine, call)
    completion = sum(len(tokens(text)) for text in texts)
    assert usage == Usage(prompt_tokens=engine.count(call.prompt), completion_tokens=completion)
    assert sum(delta.tokens for delta in deltas) == completion
    assert (engine.totals, engine.generations, engine.aborted, engine.in_flight) == (usage, 1, 0, 0)


@pytest.mark.parametrize(
    ("sampling", "text", "completion_tokens", "finish"),
    [
        ({}, "one two, three", 6, "stop"),
        ({"max_tokens": 4}, "one two,", 4, "length"),
        ({"max_tokens": 6}, "one two, three", 6, "stop"),
        ({"stop": ["o,"]}, "one tw", 4, "stop"),
        ({"stop": ["two", "one t"]}, "", 3, "stop"),
        ({"stop": ["three"], "max_tokens": 4}, "one two,", 4, "length"),
    ],
)
async def test_stop_strings_and_max_tokens_end_a_sample(
    sampling: dict[str, object], text: str, completion_tokens: int, finish: str
) -> None:
    """A stop string is left out of the text, but its tokens count. `max_tokens` truncates the text."""
    call = Generation(user_prompt("Count."), Sampling.model_validate(sampling))
    texts, usage, deltas = await complete(always("one two, three"), call)
    assert texts == [text]
    assert usage.completion_tokens == completion_tokens
    assert [delta.finish_reason for delta in deltas] == [*[None] * (len(deltas) - 1), finish]


async def test_the_context_length_limits_prompt_and_completion() -> None:
    """A prompt that fills the context is refused with its length. Otherwise the completion is truncated."""
    engine = always("a b c", context_length=8)
    texts, _, deltas = await complete(engine, generation("x y"))
    assert (texts, deltas[-1].finish_reason) == (["a "], "length")
    with pytest.raises(ContextExceeded) as refusal:
        await complete(engine, generation("u v w x y"))
    assert refusal.value.needed == 13


async def test_failures_happen_before_and_during_the_text() -> None:
    """With failure rate 1 every call fails, about half of them after some text. A repeated call fails the same way."""
    counts: Counter[bool] = Counter()
    for seed in range(40):
        outcomes: list[int] = []
        for _ in range(2):
            engine = ScriptedEngine(ScriptedOptions(failure_rate=1.0))
            with pytest.raises(EngineFailed):
                await complete(engine, generation(seed=seed))
            outcomes.append(engine.totals.completion_tokens)
            assert (engine.aborted, engine.in_flight) == (1, 0)
        assert outcomes[0] == outcomes[1]
        counts[outcomes[0] > 0] += 1
    assert min(counts.values()) > 8


async def test_garbage_contains_no_answer() -> None:
    """With garbage rate 1 no sample contains an answer."""
    texts, _, _ = await complete(ScriptedEngine(ScriptedOptions(garbage_rate=1.0)), generation(n=8))
    assert not any("answer" in text for text in texts)


async def test_leaving_early_stops_the_engine() -> None:
    """The engine stops when its consumer is cancelled or leaves the block, and counts the tokens generated until then."""
    engine = always("a b c d e f", token_seconds=3600.0)
    async with engine.generate(generation()) as stream:
        assert engine.in_flight == 1
        async for delta in stream:
            assert (delta.text, delta.tokens) == ("a", 1)
            break
    with anyio.move_on_after(0.01) as scope:
        await complete(engine, generation(seed=8))
    assert scope.cancelled_caught
    assert (engine.in_flight, engine.aborted, engine.totals.completion_tokens) == (0, 2, 2)


async def test_a_repeated_prefix_is_cached() -> None:
    """Messages that an earlier prompt also began with count as cached."""
    engine = always("ok")
    first = user_prompt("a long problem")
    longer = Prompt((*first.messages, Message(role="assistant", content="b"), Message(role="user", content="c")))
    usages = [(await complete(engine, Generation(p, Sampling()))).usage for p in (first, longer, longer)]
    assert [usage.cached_tokens for usage in usages] == [0, engine.count(first), engine.count(longer)]
