"""The orchestrator's metrics; runner and clients tell them what happened, nothing below records any."""

from prometheus_client import Counter, Gauge, Histogram

from services.contracts.solve import SolveResult
from services.contracts.usage import Usage
from services.metrics import SECONDS, ServiceMetrics


class OrchestratorMetrics(ServiceMetrics):
    """Solves, calls, tokens, budgets."""

    def __init__(self) -> None:
        super().__init__()
        registry = self.registry
        self.solves = Counter(
            "counterpoint_solves_total", "Solves by how they ended.", ("strategy", "stop_reason"), registry=registry
        )
        self.solve_seconds = Histogram(
            "counterpoint_solve_seconds", "Time of a solve.", ("strategy",), buckets=SECONDS, registry=registry
        )
        self.first_event_seconds = Histogram(
            "counterpoint_first_event_seconds", "Time to a solve's first event.", buckets=SECONDS, registry=registry
        )
        self.tokens = Counter("counterpoint_tokens_total", "Tokens by role and kind.", ("role", "kind"), registry=registry)
        self.calls = Counter(
            "counterpoint_calls_total", "Calls of models by how they ended.", ("role", "verb", "outcome"), registry=registry
        )
        self.utilisation = Histogram(
            "counterpoint_budget_utilisation_ratio",
            "Largest share of a limit that a solve spent.",
            buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0),
            registry=registry,
        )
        self.in_flight = Gauge("counterpoint_in_flight", "Solves running now.", registry=registry)
        self.usage_unknown = Counter(
            "counterpoint_usage_unknown_total", "Calls charged whole since their usage never arrived.", registry=registry
        )
        self.degraded = Counter(
            "counterpoint_degraded_total", "What went wrong without failing a solve.", ("code",), registry=registry
        )

    def call(self, role: str, verb: str, outcome: str, usage: Usage | None) -> None:
        """A call has ended."""
        self.calls.labels(role, verb, outcome).inc()
        if usage is not None:
            self.tokens.labels(role, "prompt").inc(usage.prompt_tokens)
            self.tokens.labels(role, "cached").inc(usage.cached_tokens)
            self.tokens.labels(role, "completion").inc(usage.completion_tokens)

    def solved(self, strategy: str, result: SolveResult, utilisation: float, unknown: int) -> None:
        """A solve has an answer."""
        self.solves.labels(strategy, result.stop_reason).inc()
        self.solve_seconds.labels(strategy).observe(result.usage.seconds)
        self.utilisation.observe(utilisation)
        self.usage_unknown.inc(unknown)
        for entry in result.degraded:
            self.degraded.labels(entry.code).inc()
