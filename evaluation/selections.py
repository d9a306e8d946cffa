"""What other selections, sizes and stopping rules would have made of the same samples.

The orchestrator's own rules, replayed over the recorded rows of a `best_of_n` that drew all of its samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.runs import Row
from orchestrator.answers.text import compare
from orchestrator.candidates import Candidate
from orchestrator.selection import Poll, Select, choose
from orchestrator.stopping import StopRule, decided
from services.contracts.critique import Critique

PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Drawn:
    """The end of a replay: whether the answer is right, and how many samples it took."""

    right: bool
    samples: int


def selected(row: Row, n: int, select: Select) -> bool:
    """Whether the answer selected among a row's first `n` samples is right."""
    return _chosen(row, _poll(row, n), select)


def stopped(row: Row, n: int, select: Select, rule: StopRule, window: int) -> Drawn:
    """The same, drawn in waves of `window` and stopped by a rule: samples that were begun count, those cancelled too."""
    poll, drawn = Poll(), 0
    while drawn < n:
        wave = row["candidates"][drawn : min(drawn + window, n)]
        drawn += len(wave)
        for place, sample in enumerate(wave, start=drawn - len(wave) + 1):
            _add(poll, sample)
            if decided(poll, select, PRIOR, n - place, rule=rule, window=window):
                return Drawn(_chosen(row, poll, select), drawn)
    return Drawn(_chosen(row, poll, select), drawn)


def price(rows: Sequence[Row], n: int, select: Select) -> float:
    """Mean tokens of the first `n` samples: the actor's prompt once, and their share of everything else."""
    total = 0.0
    for row in (row for row in rows if row["candidates"]):
        actor, critic = row["usage"]["actor"], row["usage"]["critic"]
        judging = 0 if select == "majority" else critic["prompt_tokens"] + critic["completion_tokens"]
        share = n / len(row["candidates"])
        total += actor["prompt_tokens"] / actor["calls"] + share * (actor["completion_tokens"] + judging)
    return total / len(rows)


def _poll(row: Row, n: int) -> Poll:
    poll = Poll()
    for sample in row["candidates"][:n]:
        _add(poll, sample)
    return poll


def _add(poll: Poll, sample: Row) -> None:
    candidate = _candidate(sample)
    poll.add(candidate, _group(candidate.answer, [group.answer for group in poll.groups]))


def _chosen(row: Row, poll: Poll, select: Select) -> bool:
    choice = choose(poll, select, PRIOR)
    return choice is not None and next(s["right"] for s in row["candidates"] if s["id"] == choice.candidate.id)


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
