"""Early stopping: when more candidates would not, or are unlikely to, change the choice. Pure functions.

There are three rules. `tests/orchestrator/test_stopping.py` measures by simulation how often each stops wrongly;
`docs/strategies.md` has the results.

- `certain`: the remaining candidates cannot change the choice.
- `beta`: the posterior probability that the leader stays ahead reaches `AGREED_AT` (Adaptive-Consistency, arXiv
  2305.11860). Each vote counts one, or its p_correct under `weighted`; under `critic`, that posterior is p_correct of the
  best candidate.
- `window`: the last `window` candidates agree (ESC, arXiv 2401.10480). Under `weighted` and `critic`, only those count
  that the critic finds likelier right than wrong, and they must be at least half of the window.

A choice that is certain ends every rule.
"""

import math
from collections.abc import Sequence
from typing import Literal

from orchestrator.candidates import Candidate
from orchestrator.selection import Group, Poll, Select, weight

StopRule = Literal["certain", "beta", "window"]

AGREED_AT = 0.95
"""Posterior probability at which a choice counts as settled (arXiv 2305.11860)."""

TRUSTED_FROM = 0.5
"""p_correct from which the critic finds a candidate likelier right than wrong."""

PIECES = 512
"""Pieces of the numerical integral; its error is below 1e-5 for any number of votes that a strategy may draw."""


def decided(poll: Poll, select: Select, prior: float, remaining: int, *, rule: StopRule = "beta", window: int = 4) -> bool:
    """Return whether to stop, `remaining` candidates before the end. False with none left, or without any answer."""
    groups = [group for group in poll.groups if group.answer is not None]
    if remaining <= 0 or not groups:
        return False
    if certain(groups, select, prior, remaining):
        return True
    if rule == "window":
        return unanimous(poll, select, prior, window)
    return rule == "beta" and posterior(groups, select, prior) >= AGREED_AT


def certain(groups: Sequence[Group], select: Select, prior: float, remaining: int) -> bool:
    """Return whether no outcome of `remaining` more candidates can change the choice."""
    if select == "critic":
        return _best(groups, prior) >= 1.0
    first, second = _lead(groups, select, prior)
    return first > second + remaining


def posterior(groups: Sequence[Group], select: Select, prior: float) -> float:
    """Return the probability that the leader is rightly ahead of the next one, given the votes so far."""
    if select == "critic":
        return _best(groups, prior)
    return ahead(*_lead(groups, select, prior))


def unanimous(poll: Poll, select: Select, prior: float, window: int) -> bool:
    """Return whether the last `window` candidates agree on one answer, that of the leading group."""
    last = poll.candidates[-window:]
    trusted = last if select == "majority" else [each for each in last if weight(each, prior) >= TRUSTED_FROM]
    if len(last) < window or 2 * len(trusted) < window:
        return False
    groups = {_group_of(poll, candidate) for candidate in trusted}
    leader = max(range(len(poll.groups)), key=lambda k: poll.groups[k].weight(select, prior))
    return groups == {leader} and poll.groups[leader].answer is not None


def ahead(first: float, second: float) -> float:
    """Return P(p > 1/2) under Beta(first + 1, second + 1): the leader against the next one (arXiv 2305.11860, eq. 4).

    For whole counts the regularised incomplete beta function is a binomial tail: P(Bin(first + second + 1, 1/2) <= first).
    Weights are integrated numerically (midpoint rule).
    """
    if float(first).is_integer() and float(second).is_integer():
        tosses = int(first + second) + 1
        return sum(math.comb(tosses, heads) for heads in range(int(first) + 1)) / 2**tosses
    points = [(k + 0.5) / PIECES for k in range(PIECES)]
    mode = first / (first + second)
    peak = first * math.log(mode or 1.0) + second * math.log(1 - mode or 1.0)
    density = [math.exp(first * math.log(p) + second * math.log(1 - p) - peak) for p in points]
    return sum(density[PIECES // 2 :]) / sum(density)


def _lead(groups: Sequence[Group], select: Select, prior: float) -> tuple[float, float]:
    weights = sorted((group.weight(select, prior) for group in groups), reverse=True)
    return weights[0], weights[1] if len(weights) > 1 else 0.0


def _best(groups: Sequence[Group], prior: float) -> float:
    return max(weight(member, prior) for group in groups for member in group.members)


def _group_of(poll: Poll, candidate: Candidate) -> int:
    return next(k for k, group in enumerate(poll.groups) if candidate in group.members)
