"""Candidates: complete solutions inside a solve, and what is known about each."""

from dataclasses import dataclass, replace

from services.contracts.calls import FinishReason, WrittenStep
from services.contracts.critique import DEPTHS, Critique, Depth, StepLabel, Verdict
from services.contracts.solve import CandidateView, StepView, Trace


@dataclass(frozen=True, slots=True)
class Candidate:
    """One complete solution. `parent` is set when it was refined; `critique` is null until it was judged."""

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
        """Where it stands among all: the numbers of its branches and its own, then those of its refinements."""
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
        """Whether a critique at `depth` or deeper exists."""
        return self.critique is not None and DEPTHS.index(self.critique.depth) >= DEPTHS.index(depth)

    def accepted(self, accept_at: float) -> bool:
        """Accepted iff it was written to its end, the verdict is `correct` and p_correct reaches `accept_at`."""
        whole = self.finish_reason != "cancelled"
        return whole and self.verdict == "correct" and self.p_correct is not None and self.p_correct >= accept_at

    def judged(self, critique: Critique, tokens: int = 0) -> "Candidate":
        """This candidate with one more critique, see `merge`; `tokens` were written for it."""
        return replace(self, critique=merge(self.critique, critique), critique_tokens=tokens)


def merge(earlier: Critique | None, later: Critique) -> Critique:
    """What is known after a second critique of the same candidate.

    The deeper one decides, except that an unparsable critique takes nothing back, and that a probability stands until a
    verdict of the same direction replaces it or a verdict of the other direction makes it void.
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
    """Steps that a rewind may keep: those before the first error; all of a candidate that was cut short without one."""
    if candidate.first_error is None:
        return len(candidate.steps) if candidate.finish_reason == "cancelled" else 0
    return candidate.first_error - 1


def view(candidate: Candidate, *, selected: bool, trace: Trace) -> CandidateView:
    """The candidate as a response shows it; explanations only in a `full` trace."""
    critique = candidate.critique
    labels = {label.index: label for label in critique.labels} if critique else {}
    words = {said.index: said.text for said in critique.explanations} if critique and trace == "full" else {}
    return CandidateView(
        id=candidate.id,
        parent=candidate.parent,
        round=candidate.round,
        answer=candidate.answer,
        p_correct=candidate.p_correct,
        verdict=candidate.verdict,
        first_error=candidate.first_error,
        selected=selected,
        finish_reason=candidate.finish_reason,
        completion_tokens=candidate.completion_tokens,
        steps=tuple(_step(step, labels.get(step.index), words.get(step.index)) for step in candidate.steps),
    )


def _step(step: WrittenStep, label: StepLabel | None, explanation: str | None) -> StepView:
    return StepView(
        index=step.index,
        text=step.text,
        label=label.label if label else None,
        p_correct=label.p_correct if label else None,
        explanation=explanation,
    )
