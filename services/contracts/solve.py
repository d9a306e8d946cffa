"""Parts of the request `POST /solve`, and its result."""

from typing import Annotated, Any, Literal

from pydantic import Field

from services.contracts.base import Probability, Reply, Request, Text
from services.contracts.calls import FinishReason
from services.contracts.critique import Label, Verdict
from services.contracts.sampling import MAX_COMPLETION_TOKENS, MAX_SEED, Stops
from services.contracts.usage import Usage

MAX_BUDGET_TOKENS = 10_000_000
MAX_BUDGET_CALLS = 10_000
MAX_BUDGET_SECONDS = 3_600.0
MAX_BUDGET_COST = 1_000_000.0

StopReason = Literal["accepted", "agreed", "completed", "rounds", "budget", "deadline", "answer_now"]
Trace = Literal["none", "summary", "full"]
Role = Literal["actor", "critic"]
ROLES: tuple[Role, ...] = ("actor", "critic")

TokenLimit = Annotated[int, Field(ge=1, le=MAX_BUDGET_TOKENS)]


class RoleBudget(Request):
    """Limits on one role's calls."""

    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    max_calls: Annotated[int, Field(ge=1, le=MAX_BUDGET_CALLS)] | None = None
    max_cost: Annotated[float, Field(gt=0, le=MAX_BUDGET_COST)] | None = None


class Budget(RoleBudget):
    """Limits on a whole solve. Tokens are prompt + completion tokens of both roles; seconds count from admission."""

    max_seconds: Annotated[float, Field(gt=0, le=MAX_BUDGET_SECONDS)] | None = None
    actor: RoleBudget = RoleBudget()
    critic: RoleBudget = RoleBudget()


class SolveSampling(Request):
    """The actor's sampling parameters; the seed of each call is derived from `seed` and its place in the strategy."""

    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    stop: Stops = ()


class Degraded(Reply):
    """A failure that did not fail the solve."""

    code: str
    detail: str


class RoleUsage(Usage):
    """The usage that one role's engine reported, and the number of calls."""

    calls: int = 0


class SolveUsage(Reply):
    """The usage of a solve as the engines reported it."""

    actor: RoleUsage = RoleUsage()
    critic: RoleUsage = RoleUsage()
    total_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


class RoleSpent(Reply):
    """Settled charges of one role."""

    tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost: float = 0.0


class BudgetSpent(RoleSpent):
    """Settled charges of the whole solve."""

    seconds: float = 0.0
    actor: RoleSpent = RoleSpent()
    critic: RoleSpent = RoleSpent()


class BudgetAccount(Reply):
    """The limits of a solve, and the amounts spent."""

    limits: Budget
    spent: BudgetSpent


class StepTrace(Reply):
    """A step of a trace; null = not judged."""

    index: int
    text: Text
    label: Label | None = None
    p_correct: Probability | None = None
    explanation: str | None = None


class CandidateTrace(Reply):
    """A candidate of a trace; null = not judged."""

    id: str
    parent: str | None
    round: int
    answer: str | None
    p_correct: Probability | None
    verdict: Verdict | None
    first_error: int | None
    selected: bool
    finish_reason: FinishReason
    completion_tokens: int = 0
    steps: tuple[StepTrace, ...]


class SolveResult(Reply):
    """The result of a solve."""

    id: str
    answer: str | None
    solution: str
    stop_reason: StopReason
    confidence: Probability | None
    strategy: dict[str, Any]
    usage: SolveUsage
    budget: BudgetAccount
    candidates: tuple[CandidateTrace, ...] | None = None
    degraded: tuple[Degraded, ...] = ()


class Spent(Reply):
    """Tokens charged so far, on every event."""

    actor: int = 0
    critic: int = 0
    total_tokens: int = 0


class VoteGroup(Reply):
    """Equivalent answers and their weight."""

    answer: str | None
    votes: int
    weight: float
