"""Writing a strategy: how compute is spent, in one method.

A strategy is a frozen model. Its fields are its parameters and its wire format. Its method `run` buys drafts, refinements
and judgements from a *context* and returns an *outcome*. It handles no errors: a limit that is reached, a call that fails
and a client that hangs up all pass through it, and the best that it has offered so far, the *incumbent*, is then the answer.
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
from orchestrator.context import Context
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.outcomes import Outcome
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner, nobody
from orchestrator.settings import OrchestratorSettings
from orchestrator.strategies.base import Strategy
from services.client import client_for
from services.contracts.solve import Budget, SolveResult, SolveSampling
from services.engines.scripted import ScriptedOptions
from services.engines.scripts import Plausible
from services.identity import CallContext

pytestmark = pytest.mark.anyio


class SecondOpinion(Strategy):
    """Drafts until the critic is sure enough of one, at most `most` times; the one it is surest of is the answer."""

    name: Literal["second_opinion"] = "second_opinion"
    most: Annotated[int, Field(ge=1, le=16)] = 3
    sure: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9

    async def run(self, ctx: Context) -> Outcome:
        """Draft and judge, one after the other."""
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
        """A draft with its verdict, for which tokens are set aside before the draft is begun."""
        return await ctx.judge(await ctx.draft(judge="verdict"), "verdict")


@asynccontextmanager
async def a_runner(running: Stack) -> AsyncGenerator[Runner]:
    """What the orchestrator runs strategies with, over the same role services."""
    _, actor_url, critic_url = running.urls
    metrics, answers = OrchestratorMetrics(), AnswerEquivalence()
    async with client_for(actor_url) as actor, client_for(critic_url) as critic, answers.running():
        yield Runner(OrchestratorSettings.load(), HTTPActor(actor, metrics), HTTPCritic(critic, metrics), answers, metrics)


async def solved(running: Stack, strategy: Strategy, **budget: Any) -> SolveResult:
    """One solve with a strategy that no request can name yet."""
    request = SolveRequest(problem="Add 12 and 30.", sampling=SolveSampling(seed=3), budget=Budget(**budget))
    async with a_runner(running) as runner:
        await runner.admit(request)
        request = request.model_copy(update={"strategy": strategy})
        return await runner.run(request, CallContext("request", "session", "call"), nobody)


def test_its_fields_are_its_wire_format():
    """Defaults are filled in, and what is unknown or out of bounds is refused."""
    assert SecondOpinion().resolved() == {"name": "second_opinion", "most": 3, "sure": 0.9}
    with pytest.raises(ValidationError):
        SecondOpinion.model_validate({"name": "second_opinion", "most": 99})


async def test_it_stops_as_soon_as_the_critic_is_sure():
    """A critic that is easily convinced needs no second draft."""
    async with stack(ScriptedOptions(script=Plausible(error_rate=0.0))) as running:
        result = await solved(running, SecondOpinion(sure=0.0))
        assert result.stop_reason == "accepted"
        assert (result.usage.actor.calls, result.usage.critic.calls) == (1, 1)


async def test_it_asks_again_until_it_may_not():
    """An actor that is always wrong is asked as often as allowed; the account is the engines' own."""
    wrong, strict = Plausible(error_rate=1.0), Plausible(misjudge_rate=0.0)
    async with stack(ScriptedOptions(script=wrong), ScriptedOptions(script=strict)) as running:
        result = await solved(running, SecondOpinion(most=4))
        assert result.stop_reason == "completed"
        assert (result.usage.actor.calls, result.usage.critic.calls) == (4, 4)
        assert result.budget.spent.tokens == sum(running.engine_tokens())


async def test_limits_are_not_its_business():
    """Two calls of the actor are allowed: the third draft is not begun, and the incumbent is the answer."""
    wrong, strict = Plausible(error_rate=1.0), Plausible(misjudge_rate=0.0)
    async with stack(ScriptedOptions(script=wrong), ScriptedOptions(script=strict)) as running:
        result = await solved(running, SecondOpinion(most=4), actor={"max_calls": 2})
        assert result.stop_reason == "budget"
        assert result.usage.actor.calls == 2
        assert result.answer


async def test_nor_is_a_critic_that_fails():
    """Nothing is judged, so nothing is accepted; the first draft stands, and the response says what was missing."""
    async with stack(critic=ScriptedOptions(failure_rate=1.0)) as running:
        result = await solved(running, SecondOpinion(most=2))
        assert result.answer
        assert result.confidence is None
        assert {entry.code for entry in result.degraded} == {"critic_unavailable"}


def test_requests_can_name_it_once_it_is_listed():
    """Until then it is refused: name it in `orchestrator/strategies/__init__.py`."""
    with pytest.raises(ValidationError, match="second_opinion"):
        SolveRequest.model_validate({"problem": "Add 1 and 2.", "strategy": "second_opinion"})
