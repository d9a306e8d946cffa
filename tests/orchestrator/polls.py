"""Polls for tests, of candidates that have only an answer and a p_correct."""

from collections.abc import Sequence

from orchestrator.candidates import Candidate
from orchestrator.selection import Poll
from services.contracts.critique import Critique

PRIOR = 0.5

Sample = tuple[str | None, float | None]
"""A candidate's answer and p_correct."""


def candidate(number: int, answer: str | None, p: float | None) -> Candidate:
    """Return a judged candidate, or an unjudged one without a probability."""
    critique = None if p is None else Critique(depth="labels", verdict="correct" if p >= PRIOR else "incorrect", p_correct=p)
    return Candidate(f"c{number}", None, 0, "", (), answer, "stop", critique)


def polled(given: Sequence[Sample]) -> Poll:
    """Return the poll of samples in their order."""
    poll = Poll()
    for number, (answer, p) in enumerate(given):
        known = [group.answer for group in poll.groups]
        poll.add(candidate(number, answer, p), known.index(answer) if answer is not None and answer in known else None)
    return poll
