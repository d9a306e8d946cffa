"""Statistics of the critic, on candidates made by hand, since a running solve shows only some of the cases."""

from dataclasses import replace

import pytest
from polls import candidate

from orchestrator.critic_stats import refinements, tokens_not_drawn, tokens_not_written, verdicts_and_votes
from services.contracts.solve import VoteGroup


def group(answer: str | None, votes: int) -> VoteGroup:
    """Return a group of a vote."""
    return VoteGroup(answer=answer, votes=votes, weight=0.0)


def test_verdicts_are_compared_with_the_majority():
    """Equal numbers are one answer; unjudged candidates and answers that only mathematics could compare are left out."""
    answers = [("1/2", 0.9), ("0.5", 0.2), ("3", 0.8), ("sqrt(2)", 0.9), (None, 0.9), ("0.5", None)]
    candidates = [candidate(number, answer, p) for number, (answer, p) in enumerate(answers)]
    assert list(verdicts_and_votes(candidates, [group("3", 1), group("1/2", 2)])) == [
        ("correct", "majority"),
        ("incorrect", "majority"),
        ("correct", "minority"),
    ]


@pytest.mark.parametrize("groups", [[], [group("1", 1)], [group("1", 2), group("2", 2)], [group(None, 3)]])
def test_there_is_not_always_a_majority(groups: list[VoteGroup]):
    """There is none without votes, with one vote, in a tie, or if most candidates state no answer."""
    assert list(verdicts_and_votes([candidate(0, "1", 0.9)], groups)) == []


def test_refinements_count_by_the_threshold_of_their_strategy():
    """The threshold is `accept_at` of the strategy, or of the one inside it."""
    draft = candidate(0, "1", 0.3)
    second = replace(candidate(1, "2", 0.7), id="c0.1", parent="c0")
    third = replace(candidate(2, "2", None), id="c0.2", parent="c0.1")
    candidates = [draft, second, third]
    assert list(refinements(candidates, {"name": "refine"})) == [("rejected", "accepted"), ("accepted", "unjudged")]
    strict = {"name": "best_of_n", "inner": {"name": "refine", "accept_at": 0.8}}
    assert list(refinements(candidates, strict)) == [("rejected", "rejected"), ("rejected", "unjudged")]


def test_tokens_not_drawn_are_estimated_from_the_branches_that_voted():
    """A branch counts the tokens of all its candidates; a branch that did not vote is ignored."""
    branches = [
        replace(candidate(k, "1", None), id=name, completion_tokens=tokens) for k, (name, tokens) in enumerate(NAMED)
    ]
    assert tokens_not_drawn(branches, votes=2, n=8, sampled=70) == 8 * 25 - 70
    assert tokens_not_drawn(branches, votes=2, n=2, sampled=70) == 0
    assert tokens_not_drawn([], votes=0, n=8, sampled=0) == 0


NAMED = (("c0-0", 10), ("c0-0.1", 10), ("c1-0", 30), ("c2-0", 20))


def test_tokens_not_written_are_estimated_from_complete_candidates():
    """Without a complete candidate the estimate is 0."""
    whole = replace(candidate(0, "1", None), completion_tokens=50)
    cut = replace(candidate(1, None, None), completion_tokens=20, finish_reason="cancelled")
    assert tokens_not_written([whole, cut, replace(cut, completion_tokens=60)]) == 30
    assert tokens_not_written([cut]) == 0
