"""The runner: it runs a strategy under a budget and makes the response.

The incumbent lives here, outside the strategy. There are three endings. A limit ends a solve with the best candidate so far.
A failed call is a typed error if no candidate exists. A client's disconnect is cancellation, which is never swallowed.
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import anyio

from orchestrator import strategies
from orchestrator.access import AdmissionQueue, TenantQuotas
from orchestrator.budget import Ledger, LimitReached, Price
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.journal import Journal, JournaledActor, JournaledCritic
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.ports import CallFailed, Equivalence
from orchestrator.request import SolveRequest
from orchestrator.settings import OrchestratorSettings
from orchestrator.solve import AnswerNow, Context, Emit, Outcome, Solve
from orchestrator.solve.result import result_of
from orchestrator.strategies.base import Strategy
from services import errors
from services.call_context import CallContext, new_id
from services.contracts.errors import FieldError, Limit
from services.contracts.events import AnySolveEvent, SolveFailed, SolveFinished, SolveStarted
from services.contracts.sampling import MAX_SEED, Sampling
from services.contracts.solve import Budget, Role, SolveResult, Spent
from services.errors import CounterpointError
from services.http.error_responses import as_error
from services.observability import tracing

MIN_SECONDS = 0.001
"""The time limit of a request whose deadline has already passed."""
SETTLE_SHARE, SETTLE_SECONDS = 0.1, 0.3
"""Time reserved before the deadline for settling cancelled calls: a share of the time limit, and at most these seconds."""
REPLAY_SECONDS = 1.0
"""Time in which a solve that is resumed after its deadline may replay its journal."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a solve that do not come from the request.

    `plain` drafts are the actor's plain answers, without the prompt for steps. `id` names the solve. `started` is
    the time of its first start, on the event loop's clock, in seconds; its deadline counts from there. `answer_now` ends it
    early. Calls that are recorded in `journal` are replayed.
    """

    plain: bool = False
    id: str | None = None
    started: float | None = None
    answer_now: AnswerNow | None = None
    journal: Journal | None = None


DEFAULT_OPTIONS = RunOptions()


async def ignore_events(_event: AnySolveEvent) -> None:
    """Discard the events of a solve; they are then not even stamped."""


@dataclass(slots=True)
class EventStamper:
    """Stamps events with the solve's id, their number, and the tokens spent so far."""

    solve: Solve
    emit: Emit
    seq: int = 0

    async def send(self, event: AnySolveEvent) -> None:
        """Stamp an event and send it."""
        self.seq += 1
        stamp = {"solve_id": self.solve.id, "seq": self.seq, "spent": self.solve.ledger.tokens}
        await self.emit(event.model_copy(update=stamp))


@dataclass(slots=True)
class Runner:
    """Runs all solves of a process."""

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
        """Raise the error that prevents a start: `Overloaded`, `NotReady`, `InvalidRequest` for a cost without prices."""
        self.admission.check()
        limited = any(part.max_cost is not None for part in (request.budget, request.budget.actor, request.budget.critic))
        if limited and not any(price.prompt or price.completion for price in self._prices().values()):
            message = "max_cost needs prices: set COUNTERPOINT_ACTOR_PRICE_COMPLETION and the other prices"
            field_error = FieldError(loc=("body", "budget", "max_cost"), msg=message, type="no_prices")
            raise errors.InvalidRequest(message, errors=[field_error])
        if self.actor.card is None:
            await self.actor.check()
        if self.critic.card is None:
            with suppress(CounterpointError):  # without a critic the solve is degraded
                await self.critic.check()

    async def run(
        self, request: SolveRequest, call: CallContext, emit: Emit, options: RunOptions = DEFAULT_OPTIONS
    ) -> SolveResult:
        """Solve. Every event goes through `emit`, except the last one. Raises the errors of the public interface."""
        strategy = request.strategy or strategies.parse(self.settings.default_strategy)
        attributes = {tracing.OPERATION: "invoke_workflow", tracing.WORKFLOW: strategy.resolved()["name"]}
        with tracing.span("solve", call.traceparent, attributes) as traced:
            result = await self._admitted(request, strategy, replace(call, traceparent=traced.traceparent), emit, options)
            traced.set({tracing.SOLVE_ID: result.id, tracing.STOP_REASON: result.stop_reason})
            return result

    async def _admitted(
        self, request: SolveRequest, strategy: Strategy, call: CallContext, emit: Emit, options: RunOptions
    ) -> SolveResult:
        """Solve as soon as a place is free, within what is left of the tenant's quota."""
        started = anyio.current_time() if options.started is None else options.started
        limits = self._limits(request.budget, call)
        async with self.admission.slot(), self.quotas.reserve(call.tenant, limits, self.seconds(limits)) as quota:
            deadline = started + self.seconds(quota.limits)
            solve = self._solve(request, replace(call, deadline=deadline), quota.limits, emit, options)
            try:
                return await self._run(request, strategy, solve, started, options)
            finally:
                abandoned = options.journal is not None and options.journal.abandoned
                quota.spent = 0 if abandoned else solve.ledger.tokens.total_tokens

    async def _run(
        self, request: SolveRequest, strategy: Strategy, solve: Solve, started: float, options: RunOptions
    ) -> SolveResult:
        limits, ctx, resolved = solve.ledger.limits, Context(solve), strategy.resolved()
        seconds = self.seconds(limits)
        stop_at = started + seconds - min(SETTLE_SECONDS, seconds * SETTLE_SHARE)
        if options.journal is not None:
            stop_at = max(stop_at, anyio.current_time() + REPLAY_SECONDS)
        try:
            with self.metrics.measuring(solve, resolved) as measured:
                await solve.emit(SolveStarted(strategy=resolved, limits=limits))
                measured.first_event()
                outcome = await self._outcome(strategy, ctx, seconds, stop_at)
                solve.candidates.release()
                await ctx.cancel_unfinished()
                result = result_of(solve, outcome, resolved, request.trace, anyio.current_time() - started)
        finally:
            solve.candidates.release()
        measured.solved(result)
        await solve.flush()
        return result

    async def _outcome(self, strategy: Strategy, ctx: Context, seconds: float, stop_at: float) -> Outcome:
        """Run the strategy until `stop_at`; return its outcome, or the incumbent if a limit or a failed call stops it."""
        stopped: Exception | None = None
        answer_now = ctx.solve.answer_now
        with anyio.CancelScope(deadline=stop_at) as scope, answer_now.scope:
            try:
                return await strategy.run(ctx)
            except (LimitReached, CallFailed) as error:
                stopped = error
        best = ctx.incumbent
        if best is None:
            raise _failure(stopped, seconds)
        if isinstance(stopped, CallFailed):
            ctx.solve.degrade("actor_failed", stopped.cause.detail)
        reason = "deadline" if scope.cancelled_caught else "answer_now" if answer_now.scope.cancelled_caught else "budget"
        candidate = ctx.solve.candidates.get(best.candidate.id) or best.candidate
        confidence = best.confidence if best.confidence is not None else candidate.p_correct
        return Outcome(candidate, reason, confidence)

    def _solve(self, request: SolveRequest, caller: CallContext, limits: Budget, emit: Emit, options: RunOptions) -> Solve:
        sampling, settings, journal = request.sampling, self.settings, options.journal
        solve = Solve(
            id=options.id or new_id("solve"),
            caller=caller,
            messages=request.as_messages,
            sampling=Sampling(
                temperature=settings.default_temperature if sampling.temperature is None else sampling.temperature,
                top_p=1.0 if sampling.top_p is None else sampling.top_p,
                max_tokens=sampling.max_tokens or settings.default_completion_tokens,
                stop=sampling.stop,
            ),
            seed=secrets.randbelow(MAX_SEED) if sampling.seed is None else sampling.seed,
            ledger=Ledger(limits, self._prices()),
            actor=self.actor if journal is None else JournaledActor(self.actor, journal),
            critic=self.critic if journal is None else JournaledCritic(self.critic, journal),
            plain=options.plain,
            answer_now=options.answer_now or AnswerNow(),
            equivalence=self.equivalence,
            send=emit,
            critique_tokens=settings.critique_tokens,
        )
        if emit is not ignore_events:
            solve.send = EventStamper(solve, emit).send
        return solve

    def seconds(self, budget: Budget) -> float:
        """Return the time limit of a budget, in seconds."""
        return budget.max_seconds or self.settings.default_max_seconds

    def _limits(self, budget: Budget, call: CallContext) -> Budget:
        """Return a budget with the defaults of the settings filled in, within the caller's deadline."""
        settings, remaining = self.settings, call.remaining()
        seconds = self.seconds(budget)
        return budget.model_copy(
            update={
                "max_tokens": budget.max_tokens or settings.default_max_tokens,
                "max_calls": budget.max_calls or settings.default_max_calls,
                "max_seconds": seconds if remaining is None else max(MIN_SECONDS, min(seconds, remaining)),
            }
        )

    def _prices(self) -> Mapping[Role, Price]:
        settings = self.settings
        return {
            "actor": Price(settings.actor_price_prompt, settings.actor_price_completion),
            "critic": Price(settings.critic_price_prompt, settings.critic_price_completion),
        }


def _failure(stopped: Exception | None, seconds: float) -> CounterpointError:
    """Return the error of a solve without any candidate, which `stopped` or else its deadline ended."""
    if isinstance(stopped, LimitReached):
        limit = Limit(name=stopped.limit, value=stopped.value, needed=stopped.needed)
        return errors.BudgetTooSmall(f"{stopped.limit} = {stopped.value} does not cover a first draft", limit=limit)
    if isinstance(stopped, CallFailed):
        cause = stopped.cause
        if isinstance(cause, (errors.NotReady, errors.Overloaded, errors.InvalidRequest)):
            return cause
        return errors.ActorFailed(f"the actor answered every attempt with an error: {cause.detail}")
    return errors.DeadlineExceeded(f"no answer existed after {seconds} s", limit=Limit(name="max_seconds", value=seconds))


async def stream(
    runner: Runner, request: SolveRequest, call: CallContext, emit: Emit, options: RunOptions = DEFAULT_OPTIONS
) -> None:
    """Solve as a stream: every event, then `solve.finished` or `solve.failed`. An error before the first event is raised."""
    last: AnySolveEvent | None = None

    async def emit_and_keep(event: AnySolveEvent) -> None:
        nonlocal last
        last = event
        await emit(event)

    await runner.admit(request)
    try:
        result = await runner.run(request, call, emit_and_keep, options)
    except Exception as error:
        if last is None:
            raise
        problem = as_error(error).problem().model_dump(exclude={"type", "errors"})
        await emit(SolveFailed(solve_id=last.solve_id, seq=last.seq + 1, spent=last.spent, **problem))
    else:
        assert last is not None  # noqa: S101 - a solve that ran has emitted its start
        spent = result.budget.spent
        totals = Spent(actor=spent.actor.tokens, critic=spent.critic.tokens, total_tokens=spent.tokens)
        await emit(SolveFinished(solve_id=last.solve_id, seq=last.seq + 1, spent=totals, **dict(result)))
