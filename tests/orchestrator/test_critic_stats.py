"""What candidates tell, by hand. Pure functions of which a running solve shows only some cases."""

from dataclasses import replace

import pytest
from polls import candidate

from orchestrator.critic_stats import refinements, tokens_not_drawn, tokens_not_written, verdicts_and_votes
from services.contracts.solve import VoteGroup


def group(answer: str | None, votes: int) -> VoteGroup:
    """A group of a vote."""
    return VoteGroup(answer=answer, votes=votes, weight=0.0)


def test_verdicts_are_held_against_the_answer_with_most_votes():
    """Equal numbers are one answer; what only mathematics could compare, and what nobody judged, is left out."""
    answers = [("1/2", 0.9), ("0.5", 0.2), ("3", 0.8), ("sqrt(2)", 0.9), (None, 0.9), ("0.5", None)]
    candidates = [candidate(number, answer, p) for number, (answer, p) in enumerate(answers)]
    assert list(verdicts_and_votes(candidates, [group("3", 1), group("1/2", 2)])) == [
        ("correct", "majority"),
        ("incorrect", "majority"),
        ("correct", "minority"),
    ]


@pytest.mark.parametrize("groups", [[], [group("1", 1)], [group("1", 2), group("2", 2)], [group(None, 3)]])
def test_there_is_not_always_a_majority(groups: list[VoteGroup]):
    """Nobody voted, one did, two answers are level, or most have none."""
    assert list(verdicts_and_votes([candidate(0, "1", 0.9)], groups)) == []


def test_a_refinement_counts_by_what_its_strategy_accepts():
    """`accept_at` of the strategy, or of the one inside it."""
    draft = candidate(0, "1", 0.3)
    second = replace(candidate(1, "2", 0.7), id="c0.1", parent="c0")
    third = replace(candidate(2, "2", None), id="c0.2", parent="c0.1")
    found = [draft, second, third]
    assert list(refinements(found, {"name": "refine"})) == [("rejected", "accepted"), ("accepted", "unjudged")]
    strict = {"name": "best_of_n", "inner": {"name": "refine", "accept_at": 0.8}}
    assert list(refinements(found, strict)) == [("rejected", "rejected"), ("rejected", "unjudged")]


def test_what_was_not_drawn_is_what_voters_took():
    """A branch's tokens are those of all its candidates; a branch that never voted is no measure."""
    branches = [
        replace(candidate(k, "1", None), id=name, completion_tokens=tokens) for k, (name, tokens) in enumerate(NAMED)
    ]
    assert tokens_not_drawn(branches, votes=2, n=8, sampled=70) == 8 * 25 - 70
    assert tokens_not_drawn(branches, votes=2, n=2, sampled=70) == 0
    assert tokens_not_drawn([], votes=0, n=8, sampled=0) == 0


NAMED = (("c0-0", 10), ("c0-0.1", 10), ("c1-0", 30), ("c2-0", 20))


def test_what_was_not_written_is_measured_by_whole_candidates():
    """Without one there is no measure."""
    whole = replace(candidate(0, "1", None), completion_tokens=50)
    cut = replace(candidate(1, None, None), completion_tokens=20, finish_reason="cancelled")
    assert tokens_not_written([whole, cut, replace(cut, completion_tokens=60)]) == 30
    assert tokens_not_written([cut]) == 0
