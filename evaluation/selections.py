"""What other selections would have made of the same samples: the orchestrator's own rules, replayed over recorded rows."""

from collections.abc import Sequence

from evaluation.runs import Row
from orchestrator.answers.text import compare
from orchestrator.candidates import Candidate
from orchestrator.selection import Poll, Select, choose
from services.contracts.critique import Critique

PRIOR = 0.5


def selected(row: Row, n: int, select: Select) -> bool:
    """Whether the answer selected among a row's first `n` samples is right."""
    samples = row["candidates"][:n]
    poll = Poll()
    for sample in samples:
        candidate = _candidate(sample)
        answers = [group.answer for group in poll.groups]
        poll.add(candidate, _group(candidate.answer, answers))
    choice = choose(poll, select, PRIOR)
    return choice is not None and next(s["right"] for s in samples if s["id"] == choice.candidate.id)


def _group(answer: str | None, answers: Sequence[str | None]) -> int | None:
    if answer is None:
        return None
    return next((k for k, other in enumerate(answers) if other is not None and compare(answer, other) == "same"), None)


def _candidate(sample: Row) -> Candidate:
    critique = Critique(depth="labels", verdict=sample["verdict"] or "unsure", p_correct=sample["p_correct"])
    return Candidate(
        id=sample["id"],
        parent=None,
        round=0,
        text=sample["text"],
        steps=(),
        answer=sample["answer"],
        finish_reason="stop",
        critique=critique,
    )
