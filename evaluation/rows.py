"""Rows of a run's files: one frozen model for each kind of measurement, one JSON line for each problem.

The names of the fields are those of the files, so that a folder of an earlier run can still be read.
"""

from typing import Self

from pydantic import BaseModel

from services.contracts.critique import Critique, Verdict
from services.contracts.errors import ProblemDetails
from services.contracts.solve import CandidateTrace, Degraded, SolveUsage, StopReason
from services.jsonl import ResumableRow


class ProblemRow(ResumableRow, frozen=True):
    """Base of the rows: the problem's id and level."""

    id: str
    level: int


class CandidateRow(BaseModel, frozen=True):
    """A candidate of a solve: whether its answer is right, and its steps as the lines of `text`."""

    id: str
    parent: str | None
    answer: str | None
    p_correct: float | None
    verdict: Verdict | None
    first_error: int | None
    selected: bool
    right: bool
    text: str

    @classmethod
    def of(cls, trace: CandidateTrace, *, right: bool) -> Self:
        """Return the row of a candidate in a full trace."""
        text = "\n".join(step.text for step in trace.steps)
        return cls.model_validate({**trace.model_dump(), "right": right, "text": text})


class SolveRow(ProblemRow, frozen=True):
    """A solve: whether its answer is right, what it cost, and its candidates in order.

    A solve that failed has `failed` set, no candidates and no tokens, and counts as wrong.
    """

    right: bool
    tokens: int
    completion_tokens: int = 0
    answer: str | None = None
    solution: str = ""
    stop_reason: StopReason | None = None
    confidence: float | None = None
    usage: SolveUsage = SolveUsage()
    degraded: tuple[Degraded, ...] = ()
    candidates: tuple[CandidateRow, ...]
    failed: ProblemDetails | None = None

    @property
    def done(self) -> bool:
        """True unless the solve failed."""
        return self.failed is None


class SolutionRow(BaseModel, frozen=True):
    """A solution that the actor wrote."""

    right: bool
    answer: str | None
    text: str


class CritiqueRow(BaseModel, frozen=True):
    """A critique beside the oracle's judgement; indices of first errors count from 1, None where there is no error."""

    verdict: Verdict
    p_correct: float | None
    first_error: int | None
    true_first_error: int | None

    @classmethod
    def of(cls, critique: Critique, true_first_error: int | None, **fields: object) -> Self:
        """Return the row of a critique, with the fields that it does not have."""
        return cls.model_validate({**critique.model_dump(), "true_first_error": true_first_error, **fields})

    @property
    def locates_error(self) -> bool:
        """True if the first error is the oracle's."""
        return self.first_error == self.true_first_error


class RoundCritiqueRow(CritiqueRow, frozen=True):
    """The critique of a solution in a critic loop; `located` is True where an oracle knows the first error."""

    located: bool
    unparsable: bool


class CriticLoopRow(ProblemRow, frozen=True):
    """A draft and its refinements round by round, a critique of each, and the tokens of both roles."""

    solutions: tuple[SolutionRow, ...]
    critiques: tuple[RoundCritiqueRow, ...]
    tokens: int


class SampleCritiqueRow(CritiqueRow, frozen=True):
    """The critique of a recorded sample that is `right` or wrong, and its tokens."""

    right: bool
    tokens: int


class SampleCritiquesRow(ProblemRow, frozen=True):
    """The critiques of a problem's first right and first wrong sample."""

    critiques: tuple[SampleCritiqueRow, ...]


class RefinementRow(ProblemRow, frozen=True):
    """A solution after refinement without the critic, and the tokens of the refinement."""

    right: bool
    tokens: int
    solution: str
