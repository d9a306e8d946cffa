"""Statistics of a solve's critic, refinements and early stops, from its candidates. Pure functions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from orchestrator.answers import compare
from orchestrator.candidates import Candidate
from services.contracts.critique import Verdict
from services.contracts.solve import VoteGroup

Vote = Literal["majority", "minority"]
Acceptance = Literal["accepted", "rejected", "unjudged"]

UNJUDGED: Acceptance = "unjudged"
ACCEPTANCES: tuple[Acceptance, ...] = ("accepted", "rejected", UNJUDGED)
MIN_MAJORITY = 2
"""The fewest votes of a majority."""
ACCEPT_AT = 0.5
"""The p_correct from which a strategy without `accept_at` accepts."""
_VOTES: dict[str, Vote] = {"same": "majority", "different": "minority"}


def verdicts_and_votes(candidates: Iterable[Candidate], groups: Sequence[VoteGroup]) -> Iterator[tuple[Verdict, Vote]]:
    """Yield the verdict on each judged candidate and whether its answer is the majority's; nothing without a majority.

    The majority counts votes, not weight, since the weight comes from the critic. Answers that only mathematics could
    compare are left out.
    """
    majority = _majority(groups)
    if majority is None:
        return
    known: dict[str, Vote | None] = {}
    for candidate in candidates:
        answer, verdict = candidate.answer, candidate.verdict
        if answer is None or verdict is None:
            continue
        if answer not in known:
            known[answer] = _VOTES.get(compare(answer, majority))
        vote = known[answer]
        if vote is not None:
            yield verdict, vote


def refinements(candidates: Sequence[Candidate], strategy: Mapping[str, Any]) -> Iterator[tuple[Acceptance, Acceptance]]:
    """Yield the critic's acceptance of each refinement's original, and of the refinement."""
    by_id = {candidate.id: candidate for candidate in candidates}
    accept_at = _accept_at(strategy)
    for candidate in candidates:
        original = by_id.get(candidate.parent or "")
        if original is not None:
            yield _acceptance(original, accept_at), _acceptance(candidate, accept_at)


def tokens_not_drawn(candidates: Iterable[Candidate], votes: int, n: int, sampled: int) -> float:
    """Return the completion tokens saved by an early stop: of `n` branches like those that voted, less `sampled`."""
    branches: dict[int, int] = {}
    for candidate in candidates:
        branch = candidate.place[0][0]
        branches[branch] = branches.get(branch, 0) + candidate.completion_tokens
    voters = [branches[branch] for branch in sorted(branches)[:votes]]
    return max(0.0, n * sum(voters) / len(voters) - sampled) if voters else 0.0


def tokens_not_written(candidates: Sequence[Candidate]) -> float:
    """Return the completion tokens saved by aborting: what cut candidates lack of their solve's mean complete one."""
    cut = [candidate.completion_tokens for candidate in candidates if candidate.finish_reason == "cancelled"]
    whole = [candidate.completion_tokens for candidate in candidates if candidate.finish_reason != "cancelled"]
    return math.fsum(max(0.0, sum(whole) / len(whole) - tokens) for tokens in cut) if whole else 0.0


def _majority(groups: Sequence[VoteGroup]) -> str | None:
    """Return the answer with more votes than any other, if it has at least `MIN_MAJORITY`."""
    ranked = sorted(groups, key=lambda group: group.votes, reverse=True)
    if not ranked or ranked[0].votes < MIN_MAJORITY or (len(ranked) > 1 and ranked[1].votes == ranked[0].votes):
        return None
    return ranked[0].answer


def _acceptance(candidate: Candidate, accept_at: float) -> Acceptance:
    if candidate.verdict is None:
        return UNJUDGED
    return "accepted" if candidate.accepted(accept_at) else "rejected"


def _accept_at(strategy: Mapping[str, Any]) -> float:
    """Return the p_correct from which the strategy, or the one inside it, accepts."""
    while "accept_at" not in strategy and "inner" in strategy:
        strategy = strategy["inner"]
    return strategy.get("accept_at", ACCEPT_AT)
