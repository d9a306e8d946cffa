"""Replay of votes: the results of other selections, sizes and stop rules on the same samples.

The orchestrator's own rules run over the recorded rows of a `best_of_n` that drew all of its samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    return _choice_is_right(row, _poll(row, n), select)


def stopped(row: SolveRow, n: int, select: Select, rule: StopRule, window: int) -> StoppedVote:
    """Return the outcome of a vote drawn in waves of `window` and stopped by a rule.

    Samples of the last wave count as drawn, even if the rule stops before them.
    """
    poll, drawn = Poll(), 0
    while drawn < n:
        wave = row.candidates[drawn : min(drawn + window, n)]
        drawn += len(wave)
        for place, sample in enumerate(wave, start=drawn - len(wave) + 1):
            _add(poll, sample)
            if decided(poll, select, PRIOR, n - place, rule=rule, window=window):
                return StoppedVote(_choice_is_right(row, poll, select), drawn)
    return StoppedVote(_choice_is_right(row, poll, select), drawn)


def price(rows: Sequence[SolveRow], n: int, select: Select) -> float:
    """Return the mean tokens of the first `n` samples: the actor's prompt once, and a share of all other tokens."""
    total = 0.0
    for row in (row for row in rows if row.candidates):
        actor, critic = row.usage.actor, row.usage.critic
        critique_tokens = 0 if select == "majority" else critic.total_tokens
        share = n / len(row.candidates)
        total += actor.prompt_tokens / actor.calls + share * (actor.completion_tokens + critique_tokens)
    return total / len(rows)


def _poll(row: SolveRow, n: int) -> Poll:
    poll = Poll()
    for sample in row.candidates[:n]:
        _add(poll, sample)
    return poll


def _add(poll: Poll, sample: CandidateRow) -> None:
    candidate = _candidate(sample)
    poll.add(candidate, _group(candidate.answer, [group.answer for group in poll.groups]))


def _choice_is_right(row: SolveRow, poll: Poll, select: Select) -> bool:
    choice = choose(poll, select, PRIOR)
    return choice is not None and next(c.right for c in row.candidates if c.id == choice.candidate.id)


def _group(answer: str | None, answers: Sequence[str | None]) -> int | None:
    if answer is None:
        return None
    return next((k for k, other in enumerate(answers) if other is not None and compare(answer, other) == "same"), None)


def _candidate(sample: CandidateRow) -> Candidate:
    critique = Critique(depth="labels", verdict=sample.verdict or "unsure", p_correct=sample.p_correct)
    return Candidate(
        id=sample.id,
        parent=None,
        round=0,
        text=sample.text,
        steps=(),
        answer=sample.answer,
        finish_reason="stop",
        critique=critique,
    )
