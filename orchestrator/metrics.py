"""The orchestrator's metrics. The runner and the clients record them; nothing below does.

Every label has a closed set of values: never a key, a user, a job or a problem. Errors are exported as 0 from the start, so
that a rate sees the first one. `docs/operations.md` explains each metric to operators.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, get_args

import anyio

from orchestrator import critic_stats
from orchestrator.critic_stats import ACCEPTANCES, UNJUDGED, Vote
from orchestrator.solve import Emit, Solve
from orchestrator.strategies import NAMES
from services import errors
from services.contracts.calls import FinishReason
from services.contracts.critique import Verdict
from services.contracts.events import AnySolveEvent, BudgetWarning, CandidateFinished, VotesChanged
from services.contracts.solve import ROLES, Role, SolveResult, StopReason, VoteGroup
from services.contracts.usage import Usage
from services.http.error_responses import as_error
from services.observability.metrics import SECONDS, ServiceMetrics

OVERHEAD_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
"""Buckets of the orchestrator's own share of a solve's time, from a single draft to a wide vote over formulas."""
FAILURES = (
    errors.Cancelled,
    errors.ActorFailed,
    errors.BudgetTooSmall,
    errors.DeadlineExceeded,
    errors.EngineFailed,
    errors.InternalError,
    errors.InvalidRequest,
    errors.NotReady,
    errors.Overloaded,
)
"""The errors that end a solve without an answer; `Cancelled` means that its client or its worker left it."""
DEGRADED = ("actor_failed", "critic_unavailable", "critique_unparsable", "rewind_unavailable", "usage_unknown")
VERBS: tuple[tuple[Role, str], ...] = (("actor", "draft"), ("actor", "refine"), ("critic", "critique"))


class OrchestratorMetrics(ServiceMetrics):
    """Metrics of solves, candidates, calls, tokens, budgets and jobs."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[str, SolveMetrics] = {}
        ends = (*get_args(StopReason), *(kind.code for kind in FAILURES))
        self.solves = self._counter("solves", "Solves by stop reason or error code.", strategy=NAMES, stop_reason=ends)
        self.solve_seconds = self._histogram("solve_seconds", "Time of a solve that has an answer.", SECONDS, strategy=NAMES)
        self.first_event_seconds = self._histogram(
            "first_event_seconds", "Time from a solve's admission to its first event.", SECONDS
        )
        self.overhead_seconds = self._histogram(
            "overhead_seconds", "Time in a solve during which no model call was open.", OVERHEAD_SECONDS
        )
        self.in_flight = self._gauge("in_flight", "Running solves.")
        self.most_in_flight = self._gauge("in_flight_limit", "Most solves that may run at once.")
        kinds = ("prompt", "cached", "completion")
        self.tokens = self._counter("tokens", "Tokens used by calls, by role and kind.", role=ROLES, kind=kinds)
        self.saved = self._counter(
            "tokens_saved",
            "Estimate of completion tokens not sampled after an early agreement or a wrong step.",
            how=("agreed", "aborted"),
        )
        self.calls = self._counter("calls", "Model calls by outcome.", role=(), verb=(), outcome=())
        self.call_seconds = self._histogram(
            "call_seconds", "Time of a successful model call, including retries.", SECONDS, role=(), verb=()
        )
        for role, verb in VERBS:
            self.call_seconds.labels(role, verb)
            for outcome in ("ok", "failed", "cancelled"):
                self.calls.labels(role, verb, outcome)
        self.retries = self._counter("retries", "Calls sent again because the service was unreachable or busy.", role=ROLES)
        self.usage_unknown = self._counter("usage_unknown", "Calls charged in full because their usage never arrived.")
        self.utilisation = self._histogram(
            "budget_utilisation_ratio",
            "Largest share of any limit that a solve spent.",
            (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0),
        )
        self.warnings = self._counter("budget_warnings", "Solves that spent 80% of a limit.", limit=())
        self.degraded = self._counter("degraded", "Solves in which a problem occurred without failing them.", code=DEGRADED)
        reasons, verdicts = get_args(FinishReason), get_args(Verdict)
        self.candidates = self._counter("candidates", "Candidates by how their text ended.", finish_reason=reasons)
        self.verdicts = self._counter("verdicts", "Candidates of answered solves by verdict.", verdict=(*verdicts, UNJUDGED))
        self.agreement = self._counter(
            "critic_agreement",
            "Judged candidates of solves whose vote has a majority, by whether their answer is the majority's.",
            verdict=verdicts,
            vote=get_args(Vote),
        )
        self.refinements = self._counter(
            "refinements",
            "Refinements by the critic's judgement before and after.",
            original=ACCEPTANCES,
            refined=ACCEPTANCES,
        )
        self.jobs = self._gauge("jobs", "Jobs that are queued, or claimed by a worker.", status=("queued", "running"))

    def set_jobs(self, queued: float, running: float) -> None:
        """Set the number of jobs; NaN where it is not known."""
        self.jobs.labels("queued").set(queued)
        self.jobs.labels("running").set(running)

    def meter(self, role: Role, verb: str, solve: str) -> "CallMeter":
        """Return the meter for a call of a solve."""
        return CallMeter(self, role, verb, self._running.get(solve))

    @contextmanager
    def measuring(self, solve: Solve, strategy: Mapping[str, Any]) -> Generator["SolveMetrics"]:
        """Measure a solve while it runs, through its events; an error that leaves the context is recorded as its end."""
        measured = self._running[solve.id] = SolveMetrics(self, solve, strategy, anyio.current_time(), solve.send)
        solve.send = measured.send
        self.in_flight.inc()
        try:
            yield measured
        except Exception as error:
            self.solves.labels(strategy["name"], as_error(error).code).inc()
            raise
        except BaseException:
            self.solves.labels(strategy["name"], errors.Cancelled.code).inc()
            raise
        finally:
            del self._running[solve.id]
            self.in_flight.dec()


@dataclass(slots=True)
class SolveMetrics:
    """The metrics of one solve."""

    metrics: OrchestratorMetrics
    solve: Solve
    strategy: Mapping[str, Any]
    started: float
    forward: Emit
    groups: tuple[VoteGroup, ...] = ()
    waited: float = 0.0
    _open: int = 0
    _since: float = 0.0

    async def send(self, event: AnySolveEvent) -> None:
        """Record an event and send it on."""
        match event:
            case CandidateFinished():
                self.metrics.candidates.labels(event.finish_reason).inc()
            case VotesChanged():
                self.groups = event.groups
            case BudgetWarning():
                self.metrics.warnings.labels(event.limit).inc()
            case _:
                pass
        await self.forward(event)

    def first_event(self) -> None:
        """Record that the first event was sent."""
        self.metrics.first_event_seconds.observe(anyio.current_time() - self.started)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Measure the time in which a call of a model is open; the time of several open calls counts once."""
        if not self._open:
            self._since = anyio.current_time()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self.waited += anyio.current_time() - self._since

    def solved(self, result: SolveResult) -> None:
        """Record the answer of the solve, and the statistics of its candidates."""
        metrics, solve = self.metrics, self.solve
        name = self.strategy["name"]
        metrics.solves.labels(name, result.stop_reason).inc()
        metrics.solve_seconds.labels(name).observe(result.usage.seconds)
        metrics.overhead_seconds.observe(max(0.0, anyio.current_time() - self.started - self.waited))
        metrics.utilisation.observe(max(solve.ledger.shares().values(), default=0.0))
        metrics.usage_unknown.inc(solve.unknown_usages)
        for code in {entry.code for entry in result.degraded}:
            metrics.degraded.labels(code).inc()
        candidates = list(solve.candidates)
        for candidate in candidates:
            metrics.verdicts.labels(candidate.verdict or UNJUDGED).inc()
        for original, refined in critic_stats.refinements(candidates, self.strategy):
            metrics.refinements.labels(original, refined).inc()
        for verdict, vote in critic_stats.verdicts_and_votes(candidates, self.groups):
            metrics.agreement.labels(verdict, vote).inc()
        metrics.saved.labels("aborted").inc(critic_stats.tokens_not_written(candidates))
        if name == "best_of_n" and result.stop_reason == "agreed":
            votes, sampled = sum(group.votes for group in self.groups), solve.usage["actor"].completion_tokens
            saved = critic_stats.tokens_not_drawn(candidates, votes, self.strategy["n"], sampled)
            metrics.saved.labels("agreed").inc(saved)


@dataclass(slots=True)
class CallMeter:
    """The metrics of one call of a model."""

    metrics: OrchestratorMetrics
    role: Role
    verb: str
    solve: SolveMetrics | None
    seconds: float = field(default=0.0, init=False)

    @contextmanager
    def open(self) -> Generator[None]:
        """Measure the time of the call."""
        started = anyio.current_time()
        try:
            with nullcontext() if self.solve is None else self.solve.waiting():
                yield
        finally:
            self.seconds = anyio.current_time() - started

    def sent_again(self) -> None:
        """Record that the call was sent again."""
        self.metrics.retries.labels(self.role).inc()

    def ended(self, outcome: str, usage: Usage | None) -> None:
        """Record the end of the call."""
        metrics, role = self.metrics, self.role
        metrics.calls.labels(role, self.verb, outcome).inc()
        if outcome == "ok":
            metrics.call_seconds.labels(role, self.verb).observe(self.seconds)
        if usage is not None:
            metrics.tokens.labels(role, "prompt").inc(usage.prompt_tokens)
            metrics.tokens.labels(role, "cached").inc(usage.cached_tokens)
            metrics.tokens.labels(role, "completion").inc(usage.completion_tokens)
