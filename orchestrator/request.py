"""The body of `POST /solve`, whose `strategy` is parsed into the strategy that runs."""

from pydantic import Field

from orchestrator.strategies import AnyStrategy
from services.contracts.messages import ProblemRequest
from services.contracts.solve import Budget, SolveSampling, Trace


class SolveRequest(ProblemRequest):
    """A problem to solve, and how to solve it; unknown fields are refused."""

    strategy: AnyStrategy | None = Field(default=None, description="A name, or an object with its parameters.")
    budget: Budget = Budget()
    sampling: SolveSampling = SolveSampling()
    stream: bool = False
    trace: Trace = "summary"
