"""Guide 3: writing a strategy.

A strategy is a frozen model. Its fields are its parameters and its wire format. Its method `run` requests drafts,
refinements and judgements from a *context* and returns an *outcome*. It handles no errors: limits, failed calls and
disconnects pass through it, and the answer is then the *incumbent*, the best candidate that the strategy has offered so far.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError
from stack import Stack, stack

from orchestrator.answers import AnswerEquivalence
from orchestrator.candidates import Candidate
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner, ignore_events
from orchestrator.settings import OrchestratorSettings
from orchestrator.solve import Context, Outcome
from orchestrator.strategies.base import Strategy
from services.call_context import CallContext
from services.contracts.solve import Budget, SolveResult, SolveSampling
from services.engines.scripted import Plausible, ScriptedOptions
from services.http.client import client_for

pytestmark = pytest.mark.anyio


class SecondOpinion(Strategy):
    """A strategy that drafts up to `most` times until the critic's confidence reaches `sure`; the best draft wins."""

    name: Literal["second_opinion"] = "second_opinion"
    most: Annotated[int, Field(ge=1, le=16)] = 3
    sure: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9

    async def run(self, ctx: Context) -> Outcome:
        """Draft and judge one candidate after the other."""
        best = await self._judged(ctx)
        for _ in range(self.most - 1):
            if best.accepted(self.sure):
                break
            other = await self._judged(ctx)
            if (other.p_correct or 0.0) > (best.p_correct or 0.0):
                best = other
            ctx.offer(best, best.p_correct, replace=True)
        return Outcome(best, "accepted" if best.accepted(self.sure) else "completed", best.p_correct)

    async def _judged(self, ctx: Context) -> Candidate:
        """Return a draft with its verdict; the tokens of both are reserved before the draft starts."""
        return await ctx.judge(await ctx.draft(judge="verdict"), "verdict")


@asynccontextmanager
async def a_runner(running: Stack) -> AsyncGenerator[Runner]:
    """Run the orchestrator's own runner on the role services of a stack."""
    _, actor_url, critic_url = running.urls
    metrics, answers = OrchestratorMetrics(), AnswerEquivalence()
    async with client_for(actor_url) as actor, client_for(critic_url) as critic, answers.running():
        yield Runner(OrchestratorSettings.load(), HTTPActor(actor, metrics), HTTPCritic(critic, metrics), answers, metrics)


async def solved(running: Stack, strategy: Strategy, **budget: Any) -> SolveResult:
    """Solve with a strategy that requests cannot name yet."""
    request = SolveRequest(problem="Add 12 and 30.", sampling=SolveSampling(seed=3), budget=Budget(**budget))
    async with a_runner(running) as runner:
        await runner.admit(request)
        request = request.model_copy(update={"strategy": strategy})
        return await runner.run(request, CallContext("request", "session", "call"), ignore_events)


def test_fields_are_the_wire_format():
    """Defaults are filled in; unknown fields and values out of bounds are refused."""
    assert SecondOpinion().resolved() == {"name": "second_opinion", "most": 3, "sure": 0.9}
    with pytest.raises(ValidationError):
        SecondOpinion.model_validate({"name": "second_opinion", "most": 99})


async def test_a_confident_critic_ends_the_solve():
    """The first draft is accepted, so there is no second one."""
    async with stack(ScriptedOptions(script=Plausible(error_rate=0.0))) as running:
        result = await solved(running, SecondOpinion(sure=0.0))
        assert result.stop_reason == "accepted"
        assert (result.usage.actor.calls, result.usage.critic.calls) == (1, 1)


async def test_drafts_are_repeated_up_to_the_maximum():
    """An actor that is always wrong is called `most` times; spending matches the engines' counts."""
    wrong, strict = Plausible(error_rate=1.0), Plausible(misjudge_rate=0.0)
    async with stack(ScriptedOptions(script=wrong), ScriptedOptions(script=strict)) as running:
        result = await solved(running, SecondOpinion(most=4))
        assert result.stop_reason == "completed"
        assert (result.usage.actor.calls, result.usage.critic.calls) == (4, 4)
        assert result.budget.spent.tokens == sum(running.engine_tokens())


async def test_limits_need_no_code_in_the_strategy():
    """With a limit of two actor calls the third draft is not started, and the incumbent is the answer."""
    wrong, strict = Plausible(error_rate=1.0), Plausible(misjudge_rate=0.0)
    async with stack(ScriptedOptions(script=wrong), ScriptedOptions(script=strict)) as running:
        result = await solved(running, SecondOpinion(most=4), actor={"max_calls": 2})
        assert result.stop_reason == "budget"
        assert result.usage.actor.calls == 2
        assert result.answer


async def test_critic_failures_need_no_code_in_the_strategy():
    """Nothing is judged or accepted; the first draft is the answer, and `degraded` reports the critic."""
    async with stack(critic=ScriptedOptions(failure_rate=1.0)) as running:
        result = await solved(running, SecondOpinion(most=2))
        assert result.answer
        assert result.confidence is None
        assert {entry.code for entry in result.degraded} == {"critic_unavailable"}


def test_requests_can_use_listed_strategies_only():
    """To make a strategy available, add it to `orchestrator/strategies/__init__.py`."""
    with pytest.raises(ValidationError, match="second_opinion"):
        SolveRequest.model_validate({"problem": "Add 1 and 2.", "strategy": "second_opinion"})
