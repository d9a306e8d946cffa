"""The orchestrator's metrics. The runner and the clients record them; nothing below does.

Every label has a closed set of values: never a key, a user, a job or a problem. Errors are exported as 0 from the start, so
that a rate sees the first one. `docs/operations.md` explains each metric to operators.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import anyio

from orchestrator.candidates import Candidate
from orchestrator.critic_stats import (
    ACCEPTANCES,
    UNJUDGED,
    Vote,
    refinements,
    tokens_not_drawn,
    tokens_not_written,
    verdicts_and_votes,
)
from orchestrator.solve import Solve
from orchestrator.strategies import NAMES
from services import errors
from services.contracts.calls import FinishReason
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
        self.solves = self._counter(
            "solves", "Solves by how they ended: a stop reason, or an error's code.", strategy=NAMES, stop_reason=ends
        )
        self.solve_seconds = self._histogram("solve_seconds", "Time of a solve that has an answer.", SECONDS, strategy=NAMES)
        self.first_event_seconds = self._histogram(
            "first_event_seconds", "Time from a solve's admission to its first event.", SECONDS
        )
        self.overhead_seconds = self._histogram(
            "overhead_seconds", "Time of a solve in which no call of a model was open.", OVERHEAD_SECONDS
        )
        self.in_flight = self._gauge("in_flight", "Solves running now.")
        self.most_in_flight = self._gauge("in_flight_limit", "Solves that may run at once.")
        self.tokens = self._counter(
            "tokens", "Tokens by role and kind.", role=ROLES, kind=("prompt", "cached", "completion")
        )
        self.saved = self._counter(
            "tokens_saved",
            "Completion tokens not sampled, estimated: an early agreement (agreed), a wrong step (aborted).",
            how=("agreed", "aborted"),
        )
        self.calls = self._counter("calls", "Calls of models by how they ended.", role=(), verb=(), outcome=())
        self.call_seconds = self._histogram(
            "call_seconds", "Time of a call that was answered, tries to send it included.", SECONDS, role=(), verb=()
        )
        for role, verb in VERBS:
            self.call_seconds.labels(role, verb)
            for outcome in ("ok", "failed", "cancelled"):
                self.calls.labels(role, verb, outcome)
        self.retries = self._counter(
            "retries", "Times a call was sent again before its first byte: nobody there, or busy.", role=ROLES
        )
        self.usage_unknown = self._counter("usage_unknown", "Calls charged whole since their usage never arrived.")
        self.utilisation = self._histogram(
            "budget_utilisation_ratio",
            "Largest share of a limit that a solve spent.",
            (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0),
        )
        self.warnings = self._counter("budget_warnings", "Solves that spent most of a limit.", limit=())
        self.degraded = self._counter("degraded", "Solves in which this went wrong without failing them.", code=DEGRADED)
        self.candidates = self._counter(
            "candidates", "Candidates by how their writing ended.", finish_reason=get_args(FinishReason)
        )
        self.verdicts = self._counter(
            "verdicts",
            "Candidates of solves with an answer, by the last verdict on them.",
            verdict=("correct", "incorrect", "unsure", UNJUDGED),
        )
        self.agreement = self._counter(
            "critic_agreement",
            "Judged candidates of solves whose vote has a majority, by whether they are of it.",
            verdict=("correct", "incorrect", "unsure"),
            vote=get_args(Vote),
        )
        self.refinements = self._counter(
            "refinements",
            "Refinements by what the critic said of the original and of them.",
            original=ACCEPTANCES,
            refined=ACCEPTANCES,
        )
        self.jobs = self._gauge(
            "jobs", "Jobs that wait for a worker, and that workers look after.", status=("queued", "running")
        )

    def set_jobs(self, queued: float, running: float) -> None:
        """Set the number of jobs; NaN where it is not known."""
        self.jobs.labels("queued").set(queued)
        self.jobs.labels("running").set(running)

    def meter(self, role: Role, verb: str, solve: str) -> "CallMeter":
        """Return the meter for a call of a solve."""
        return CallMeter(self, role, verb, self._running.get(solve))

    @contextmanager
    def measuring(self, solve: Solve, strategy: Mapping[str, Any]) -> Generator["SolveMetrics"]:
        """Measure a solve while it runs, through its events; an error that leaves the context is how it ended."""
        measured = self._running[solve.id] = SolveMetrics(self, solve, strategy, anyio.current_time())
        solve.send = measured.recording(solve.send)
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
    groups: tuple[VoteGroup, ...] = ()
    waited: float = 0.0
    _open: int = 0
    _since: float = 0.0

    def recording(self, send: Callable[[AnySolveEvent], Awaitable[None]]) -> Callable[[AnySolveEvent], Awaitable[None]]:
        """Return `send` so that it records every event first."""

        async def record_and_send(event: AnySolveEvent) -> None:
            self._record(event)
            await send(event)

        return record_and_send

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
        """Record the answer of the solve."""
        metrics, solve = self.metrics, self.solve
        name = self.strategy["name"]
        metrics.solves.labels(name, result.stop_reason).inc()
        metrics.solve_seconds.labels(name).observe(result.usage.seconds)
        metrics.overhead_seconds.observe(max(0.0, anyio.current_time() - self.started - self.waited))
        metrics.utilisation.observe(max(solve.ledger.shares().values(), default=0.0))
        metrics.usage_unknown.inc(solve.unknown_usages)
        for code in {entry.code for entry in result.degraded}:
            metrics.degraded.labels(code).inc()
        self._candidates(list(solve.candidates), agreed=name == "best_of_n" and result.stop_reason == "agreed")

    def _candidates(self, candidates: list[Candidate], *, agreed: bool) -> None:
        metrics = self.metrics
        for candidate in candidates:
            metrics.verdicts.labels(candidate.verdict or UNJUDGED).inc()
        for original, second in refinements(candidates, self.strategy):
            metrics.refinements.labels(original, second).inc()
        for verdict, vote in verdicts_and_votes(candidates, self.groups):
            metrics.agreement.labels(verdict, vote).inc()
        metrics.saved.labels("aborted").inc(tokens_not_written(candidates))
        if agreed:
            votes, sampled = sum(group.votes for group in self.groups), self.solve.usage["actor"].completion_tokens
            metrics.saved.labels("agreed").inc(tokens_not_drawn(candidates, votes, self.strategy["n"], sampled))

    def _record(self, event: AnySolveEvent) -> None:
        match event:
            case CandidateFinished():
                self.metrics.candidates.labels(event.finish_reason).inc()
            case VotesChanged():
                self.groups = event.groups
            case BudgetWarning():
                self.metrics.warnings.labels(event.limit).inc()
            case _:
                pass


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
            if self.solve is None:
                yield
            else:
                with self.solve.waiting():
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
