"""Runs a strategy under its budget and makes the answer.

The incumbent lives here, outside the strategy. Three endings: a limit is an answer, with the incumbent; a failed call is a
typed error where no candidate exists; a hang-up is cancellation and is never swallowed.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import anyio

from orchestrator import strategies
from orchestrator.access import AdmissionQueue, TenantQuotas
from orchestrator.budget import Ledger, LimitReached, Price
from orchestrator.candidates import view
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.context import Context
from orchestrator.journal import JournaledActor, JournaledCritic
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.outcomes import Outcome
from orchestrator.ports import CallFailed, Equivalence
from orchestrator.request import SolveRequest
from orchestrator.run import USUAL, Run, Stamped, nobody
from orchestrator.settings import OrchestratorSettings
from orchestrator.solve import AnswerNow, Emit, Solve
from orchestrator.strategies.base import Strategy
from services import tracing
from services.contracts.errors import FieldError, Limit
from services.contracts.events import SolveEvent, SolveFailed, SolveFinished, SolveStarted
from services.contracts.sampling import MAX_SEED, Sampling
from services.contracts.solve import Budget, BudgetAccount, Role, SolveResult, SolveUsage, Spent
from services.errors import (
    ActorFailed,
    BudgetTooSmall,
    CounterpointError,
    DeadlineExceeded,
    InvalidRequest,
    NotReady,
    Overloaded,
)
from services.identity import CallContext, new_id
from services.problems import as_error

SHORTEST_SECONDS = 0.001
"""What a deadline that has passed leaves."""
SETTLE_SHARE, SETTLE_SECONDS = 0.1, 0.3
"""Kept back from the deadline, so that cancelled calls can settle before it: a share of it, and at most this long."""
LOOK_BACK_SECONDS = 1.0
"""A solve that goes on after its deadline has this long to read what its journal holds."""


@dataclass(slots=True)
class Runner:
    """Everything a solve needs, for all solves of a process."""

    settings: OrchestratorSettings
    actor: HTTPActor
    critic: HTTPCritic
    equivalence: Equivalence
    metrics: OrchestratorMetrics
    quotas: TenantQuotas = field(default_factory=TenantQuotas)
    admission: AdmissionQueue = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.admission = AdmissionQueue(settings.max_in_flight, settings.max_waiting, settings.max_waiting_seconds)

    async def admit(self, request: SolveRequest) -> None:
        """Raise what stands against beginning: `Overloaded`, `NotReady`, a cost limit without prices."""
        self.admission.check()
        if self._costs(request.budget) and not any(price.prompt or price.completion for price in self._prices().values()):
            message = "max_cost needs prices: set COUNTERPOINT_ACTOR_PRICE_COMPLETION and its like"
            raise InvalidRequest(
                message, errors=[FieldError(loc=("body", "budget", "max_cost"), msg=message, type="no_prices")]
            )
        if self.actor.card is None:
            await self.actor.check()
        if self.critic.card is None:
            try:
                await self.critic.check()
            except CounterpointError:
                return  # the solve finds out and says so

    async def run(self, request: SolveRequest, call: CallContext, emit: Emit, how: Run = USUAL) -> SolveResult:
        """Solve. Every event goes through `emit`, the last one excepted. Raises the errors of the public interface."""
        strategy = request.strategy or strategies.parse(self.settings.default_strategy)
        attributes = {tracing.OPERATION: "invoke_workflow", tracing.WORKFLOW: strategy.resolved()["name"]}
        with tracing.span("solve", call.traceparent, attributes) as traced:
            result = await self._limited(request, strategy, replace(call, traceparent=traced.traceparent), emit, how)
            traced.note({tracing.SOLVE_ID: result.id, tracing.STOP_REASON: result.stop_reason})
            return result

    async def _limited(
        self, request: SolveRequest, strategy: Strategy, call: CallContext, emit: Emit, how: Run
    ) -> SolveResult:
        """Solve once there is room, within what the caller's quota leaves."""
        started = anyio.current_time() if how.started is None else how.started
        limits = self._limits(request.budget, call)
        seconds = limits.max_seconds or self.settings.default_max_seconds
        async with self.admission.slot(), self.quotas.reserve(call.tenant, limits, seconds) as quota:
            solve = self._solve(request, call, quota.limits, started, emit, how)
            try:
                return await self._run(request, strategy, solve, started, how)
            finally:
                quota.spent = 0 if how.journal is not None and how.journal.lost else solve.ledger.tokens.total_tokens

    async def _run(self, request: SolveRequest, strategy: Strategy, solve: Solve, started: float, how: Run) -> SolveResult:
        limits, ctx = solve.ledger.limits, Context(solve)
        try:
            with self.metrics.following(solve, strategy.resolved()) as following:
                await solve.emit(SolveStarted(strategy=strategy.resolved(), limits=limits))
                following.first_event()
                outcome = await self._outcome(strategy, ctx, limits, self._until(limits, started, how))
                solve.release_reserved()
                await ctx.cancel_unfinished()
                result = self._result(request, strategy, solve, outcome, anyio.current_time() - started)
        finally:
            solve.release_reserved()
        following.solved(result)
        await solve.flush()
        return result

    def _until(self, limits: Budget, started: float, how: Run) -> float:
        """When the strategy is stopped, on the event loop's clock."""
        seconds = limits.max_seconds or self.settings.default_max_seconds
        deadline = started + seconds - min(SETTLE_SECONDS, seconds * SETTLE_SHARE)
        return deadline if how.journal is None else max(deadline, anyio.current_time() + LOOK_BACK_SECONDS)

    async def _outcome(self, strategy: Strategy, ctx: Context, limits: Budget, deadline: float) -> Outcome:
        stopped: Exception | None = None
        answer_now = ctx.solve.answer_now
        with anyio.CancelScope(deadline=deadline) as scope, answer_now.scope:
            try:
                return await strategy.run(ctx)
            except (LimitReached, CallFailed) as error:
                stopped = error
        best = ctx.incumbent
        if best is None:
            raise self._failure(stopped, limits.max_seconds or self.settings.default_max_seconds)
        if isinstance(stopped, CallFailed):
            ctx.solve.note("actor_failed", stopped.cause.detail)
        reason = "deadline" if scope.cancelled_caught else "answer_now" if answer_now.scope.cancelled_caught else "budget"
        candidate = ctx.solve.candidates.get(best.candidate.id, best.candidate)
        confidence = best.confidence if best.confidence is not None else candidate.p_correct
        return Outcome(candidate, reason, confidence)

    @staticmethod
    def _failure(stopped: Exception | None, seconds: float) -> CounterpointError:
        if isinstance(stopped, LimitReached):
            needed = stopped.needed
            limit = Limit(name=stopped.limit, value=stopped.value, needed=needed)
            return BudgetTooSmall(f"{stopped.limit} = {stopped.value} does not cover a first draft", limit=limit)
        if isinstance(stopped, CallFailed):
            cause = stopped.cause
            if isinstance(cause, (NotReady, Overloaded, InvalidRequest)):
                return cause
            return ActorFailed(f"the actor answered every try with an error: {cause.detail}")
        return DeadlineExceeded(f"no answer existed after {seconds} s", limit=Limit(name="max_seconds", value=seconds))

    def _solve(
        self, request: SolveRequest, call: CallContext, limits: Budget, started: float, emit: Emit, how: Run
    ) -> Solve:
        given, settings, journal = request.sampling, self.settings, how.journal
        seed = secrets.randbelow(MAX_SEED) if given.seed is None else given.seed
        solve = Solve(
            id=how.id or new_id("solve"),
            turns=request.turns,
            sampling=Sampling(
                temperature=settings.default_temperature if given.temperature is None else given.temperature,
                top_p=1.0 if given.top_p is None else given.top_p,
                max_tokens=given.max_tokens or settings.default_completion_tokens,
                stop=given.stop,
            ),
            seed=seed,
            ledger=Ledger(limits, self._prices()),
            actor=self.actor if journal is None else JournaledActor(self.actor, journal),
            critic=self.critic if journal is None else JournaledCritic(self.critic, journal),
            plain=how.plain,
            answer_now=how.answer_now or AnswerNow(),
            equivalence=self.equivalence,
            send=emit,
            critique_tokens=settings.critique_tokens,
            request_id=call.request_id,
            traceparent=call.traceparent,
            deadline=started + (limits.max_seconds or settings.default_max_seconds),
        )
        if emit is not nobody:
            solve.send = Stamped(solve, emit).send
        return solve

    def _result(
        self, request: SolveRequest, strategy: Strategy, solve: Solve, outcome: Outcome, seconds: float
    ) -> SolveResult:
        chosen = outcome.candidate
        ordered = sorted(solve.candidates.values(), key=lambda candidate: candidate.place)
        shown = [view(c, selected=c.id == chosen.id, trace=request.trace) for c in ordered]
        spent = solve.ledger.spent(seconds)
        actor, critic = solve.usage["actor"], solve.usage["critic"]
        return SolveResult(
            id=solve.id,
            answer=chosen.answer,
            solution=chosen.text,
            stop_reason=outcome.stop_reason,
            confidence=outcome.confidence,
            strategy=strategy.resolved(),
            usage=SolveUsage(
                actor=actor,
                critic=critic,
                total_tokens=actor.total_tokens + critic.total_tokens,
                completion_tokens=actor.completion_tokens + critic.completion_tokens,
                cost=spent.cost,
                seconds=seconds,
            ),
            budget=BudgetAccount(limits=solve.ledger.limits, spent=spent),
            candidates=None if request.trace == "none" else tuple(shown),
            degraded=tuple(solve.degraded),
        )

    def _limits(self, asked: Budget, call: CallContext) -> Budget:
        """The request's budget; where it sets no limit of a kind, the settings' default. The caller's deadline holds too."""
        settings, remaining = self.settings, call.remaining()
        seconds = asked.max_seconds or settings.default_max_seconds
        return asked.model_copy(
            update={
                "max_tokens": asked.max_tokens or settings.default_max_tokens,
                "max_calls": asked.max_calls or settings.default_max_calls,
                "max_seconds": seconds if remaining is None else max(SHORTEST_SECONDS, min(seconds, remaining)),
            }
        )

    def _prices(self) -> Mapping[Role, Price]:
        settings = self.settings
        return {
            "actor": Price(settings.actor_price_prompt, settings.actor_price_completion),
            "critic": Price(settings.critic_price_prompt, settings.critic_price_completion),
        }

    @staticmethod
    def _costs(budget: Budget) -> bool:
        return any(part.max_cost is not None for part in (budget, budget.actor, budget.critic))


async def stream(runner: Runner, request: SolveRequest, call: CallContext, emit: Emit, how: Run = USUAL) -> None:
    """Solve as a stream: every event, then `solve.finished` or `solve.failed`. An error before the first event is raised."""
    last: SolveEvent | None = None

    async def told(event: SolveEvent) -> None:
        nonlocal last
        last = event
        await emit(event)

    await runner.admit(request)
    try:
        result = await runner.run(request, call, told, how)
    except Exception as error:
        if last is None:
            raise
        problem = as_error(error).problem().model_dump(exclude={"type", "errors"})
        await emit(SolveFailed(solve_id=last.solve_id, seq=last.seq + 1, spent=last.spent, **problem))
    else:
        assert last is not None  # noqa: S101 - a solve that ran has told of its start
        spent = result.budget.spent
        totals = Spent(actor=spent.actor.tokens, critic=spent.critic.tokens, total_tokens=spent.tokens)
        await emit(SolveFinished(solve_id=last.solve_id, seq=last.seq + 1, spent=totals, **dict(result)))
