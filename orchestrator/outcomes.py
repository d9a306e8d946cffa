"""How a strategy, or a part of one, ends."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.budget import LimitReached
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from services.contracts.solve import StopReason

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy decides, and why it ended. `confidence` is null where nothing judged the answer."""

    candidate: Candidate
    stop_reason: StopReason
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt(Generic[ResultT]):
    """How a part of a strategy ended: with a result, or stopped by a limit or a failed call."""

    result: ResultT | None
    stopped: LimitReached | CallFailed | None = None
