"""The pocket pair gives the same results on llama.cpp and on vLLM."""

import math
import sys
from itertools import islice

import pytest

from critic_service.dialects import Case
from critic_service.dialects.pocket import PocketCriticDialect
from pocket.calibration import Calibration
from pocket.problems import problems
from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import model_name, model_path, tokenizer_path
from services.engines.protocol import ANONYMOUS, Engine, Generation, Prompt, TokenLogprobs
from services.engines.testing import complete

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

PROBLEMS = 200


async def _engines(name: str) -> tuple[Engine, Engine]:
    from services.engines.vllm.engine import VllmEngine, VllmOptions  # noqa: PLC0415 - imports vLLM

    options = VllmOptions(model_name(name), context_length=1024, dtype="float32", block_size=32, enforce_eager=True)
    llama = EmbeddedOptions(model_path(name), tokenizer_path(name), context_length=1024, batch=64)
    return await EmbeddedEngine.load(llama), await VllmEngine.load(options)


async def test_greedy_solutions_are_identical():
    """At least 95% of 200 greedy solutions are identical.

    The others diverge at a token whose two likeliest values are nearly tied: the engines round differently.
    """
    embedded, vllm = await _engines("pocket-actor")
    greedy = Sampling(temperature=0.0, max_tokens=160)
    same, differing = 0, list[float]()
    try:
        for problem in islice(problems(77, split="dev"), PROBLEMS):
            generation = Generation(Prompt((Message(role="user", content=problem.text),)), greedy, top_logprobs=2)
            (one, _, _), (other, _, deltas) = await complete(embedded, generation), await complete(vllm, generation)
            same += one == other
            if one != other:
                differing.append(_margin(one[0], [entry for delta in deltas for entry in delta.logprobs]))
    finally:
        await embedded.close()
        await vllm.close()
    sys.stdout.write(f"\n{same} of {PROBLEMS} are identical; margins where the others diverge: {differing}\n")
    assert same >= 0.95 * PROBLEMS
    assert all(margin < 0.1 for margin in differing)


def _margin(one: str, entries: list[TokenLogprobs]) -> float:
    """Return the margin (nats) between vLLM's two likeliest tokens where its text first differs from `one`."""
    text = ""
    for entry in entries:
        if not one.startswith(text + entry.token):
            return entry.top[0][1] - entry.top[1][1]
        text += entry.token
    return math.nan


async def test_scores_of_the_critic_agree():
    """The log-likelihoods of the all-correct critique agree within 0.01 nats per prompt token."""
    embedded, vllm = await _engines("pocket-critic")
    critic = PocketCriticDialect(Calibration())
    try:
        for problem in islice(problems(78, split="dev"), 12):
            lines = [f"Step {k}: {s.left} {s.symbol} {s.right} = {s.value}" for k, s in enumerate(problem.steps, start=1)]
            case = Case((Message(role="user", content=problem.text),), tuple(lines), "")
            question = critic.question(case, "verdict", "first", scores=True)
            assert question.scored_answer
            totals = list[float]()
            for engine in (embedded, vllm):
                async with engine.score(question.prompt, question.scored_answer, ANONYMOUS) as stream:
                    totals.append(sum([entry.logprob async for delta in stream for entry in delta.logprobs]))
            assert totals[0] == pytest.approx(totals[1], abs=0.01 * stream.usage.prompt_tokens)
    finally:
        await embedded.close()
        await vllm.close()
