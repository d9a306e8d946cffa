"""Replay of votes: the results of other selections, sizes and stop rules on the same samples.

The orchestrator's own rules run over the recorded rows of a `best_of_n` that drew all of its samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.rows import CandidateRow, SolveRow
from orchestrator.answers.text import compare
from orchestrator.candidates import Candidate
from orchestrator.selection import Poll, Select, choose
from orchestrator.stopping import StopRule, decided
from services.contracts.critique import Critique

PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class StoppedVote:
    """The outcome of a vote with a stop rule: whether the answer is right, and the number of samples drawn."""

    right: bool
    samples: int


def selected(row: SolveRow, n: int, select: Select) -> bool:
    """Return whether the answer selected among a row's first `n` samples is right."""
    poll = Poll()
    for sample in row.candidates[:n]:
        _add(poll, sample)
    return _choice_is_right(row, poll, select)


def voted(rows: Sequence[SolveRow], n: int, select: Select) -> list[bool]:
    """Return whether the answer selected among the first `n` samples of each row is right."""
    return [selected(row, n, select) for row in rows]


def stopped(row: SolveRow, n: int, select: Select, rule: StopRule, window: int) -> StoppedVote:
    """Return the outcome of a vote drawn in waves of `window` and stopped by a rule.

    Samples of the last wave count as drawn, even if the rule stops before them.
    """
    poll, counted = Poll(), 0
    for counted, sample in enumerate(row.candidates[:n], start=1):
        _add(poll, sample)
        if decided(poll, select, PRIOR, n - counted, rule=rule, window=window):
            break
    waves = -(-counted // window)
    return StoppedVote(_choice_is_right(row, poll, select), min(waves * window, n, len(row.candidates)))


def price(rows: Sequence[SolveRow], n: int, select: Select) -> float:
    """Return the mean tokens of the first `n` samples: the actor's prompt once, and a share of all other tokens."""
    total = 0.0
    for row in (row for row in rows if row.candidates):
        actor, critic = row.usage.actor, row.usage.critic
        critique_tokens = 0 if select == "majority" else critic.total_tokens
        share = n / len(row.candidates)
        total += actor.prompt_tokens / actor.calls + share * (actor.completion_tokens + critique_tokens)
    return total / len(rows)


def _add(poll: Poll, sample: CandidateRow) -> None:
    critique = Critique(depth="labels", verdict=sample.verdict or "unsure", p_correct=sample.p_correct)
    unused: dict[str, Any] = {"parent": None, "round": 0, "steps": (), "finish_reason": "stop"}
    candidate = Candidate(id=sample.id, text=sample.text, answer=sample.answer, critique=critique, **unused)
    poll.add(candidate, _group(sample.answer, [group.answer for group in poll.groups]))


def _choice_is_right(row: SolveRow, poll: Poll, select: Select) -> bool:
    choice = choose(poll, select, PRIOR)
    return choice is not None and next(c.right for c in row.candidates if c.id == choice.candidate.id)


def _group(answer: str | None, answers: Sequence[str | None]) -> int | None:
    if answer is None:
        return None
    return next((k for k, other in enumerate(answers) if other is not None and compare(answer, other) == "same"), None)
