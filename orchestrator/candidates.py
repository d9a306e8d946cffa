"""Candidates: the solutions inside a solve, each with everything that is known about it."""

from dataclasses import dataclass, replace

from services.contracts.calls import FinishReason, WrittenStep
from services.contracts.critique import DEPTHS, Critique, Depth, Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """One solution. `parent` is set if it refines another one; `critique` is null until it is judged."""

    id: str
    parent: str | None
    round: int
    text: str
    steps: tuple[WrittenStep, ...]
    answer: str | None
    finish_reason: FinishReason
    critique: Critique | None = None
    completion_tokens: int = 0
    critique_tokens: int = 0

    @property
    def place(self) -> tuple[tuple[int, ...], ...]:
        """The position among all candidates: the numbers of its branches and its own, then those of its refinements."""
        drawn, *refined = self.id.removeprefix("c").split(".")
        return tuple(map(int, drawn.split("-"))), tuple(map(int, refined))

    @property
    def p_correct(self) -> float | None:
        """The critic's probability that the candidate is right; null = not judged, or unparsable."""
        return self.critique.p_correct if self.critique else None

    @property
    def verdict(self) -> Verdict | None:
        """The critic's verdict; null = not judged."""
        return self.critique.verdict if self.critique else None

    @property
    def first_error(self) -> int | None:
        """Index of the first wrong step (1-based); null = none known."""
        return self.critique.first_error if self.critique else None

    def judged_at(self, depth: Depth) -> bool:
        """Return whether a critique at `depth` or deeper exists."""
        return self.critique is not None and DEPTHS.index(self.critique.depth) >= DEPTHS.index(depth)

    def accepted(self, accept_at: float) -> bool:
        """Return whether it was written to its end, its verdict is `correct` and its p_correct reaches `accept_at`."""
        whole = self.finish_reason != "cancelled"
        return whole and self.verdict == "correct" and self.p_correct is not None and self.p_correct >= accept_at

    def judged(self, critique: Critique, tokens: int = 0) -> "Candidate":
        """Return this candidate with one more critique, for which `tokens` were written; see `merge`."""
        return replace(self, critique=merge(self.critique, critique), critique_tokens=tokens)


def merge(earlier: Critique | None, later: Critique) -> Critique:
    """Merge a second critique of the same candidate into the first.

    The later one decides, with two exceptions. An unparsable critique changes nothing but the depth. A probability stays
    until a critique with the same verdict replaces it, or a critique with another verdict makes it void.
    """
    if earlier is None:
        return later
    if later.unparsable:
        return earlier.model_copy(update={"depth": later.depth})
    p_correct = later.p_correct
    if p_correct is None and later.verdict == earlier.verdict:
        p_correct = earlier.p_correct
    return later.model_copy(
        update={
            "labels": later.labels or earlier.labels,
            "explanations": later.explanations or earlier.explanations,
            "p_correct": p_correct,
        }
    )


def steps_before_error(candidate: Candidate) -> int:
    """Return the steps that a rewind may keep: those before the first error; all of a candidate that was cut without one."""
    if candidate.first_error is None:
        return len(candidate.steps) if candidate.finish_reason == "cancelled" else 0
    return candidate.first_error - 1
