"""Selection: properties of pure functions."""

from fractions import Fraction
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.candidates import Candidate
from orchestrator.selection import AGREED_AT, Poll, Select, choose, decided, majority_posterior
from services.contracts.critique import Critique

PRIOR = 0.5
SELECTS: list[Select] = ["critic", "majority", "weighted"]

samples = st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.none() | st.floats(0, 1)), min_size=1, max_size=9)


def candidate(number: int, answer: str | None, p: float | None) -> Candidate:
    """A judged candidate; unjudged without a probability."""
    critique = None if p is None else Critique(depth="labels", verdict="correct" if p >= PRIOR else "incorrect", p_correct=p)
    return Candidate(f"c{number}", None, 0, "", (), answer, "stop", critique)


def polled(given: list[tuple[str | None, float | None]]) -> Poll:
    """The poll of samples in their order."""
    poll = Poll()
    for number, (answer, p) in enumerate(given):
        known = [group.answer for group in poll.groups]
        poll.add(candidate(number, answer, p), known.index(answer) if answer is not None and answer in known else None)
    return poll


@given(samples, st.sampled_from(SELECTS))
def test_an_answer_is_chosen_where_there_is_one(given: list[tuple[str | None, float | None]], select: Select):
    """A candidate without an answer wins only where none has one, and confidence is a share."""
    choice = choose(polled(given), select, PRIOR)
    assert choice is not None
    assert (choice.candidate.answer is None) == all(answer is None for answer, _ in given)
    assert choice.confidence is None or 0 <= choice.confidence <= 1


@given(samples)
def test_the_majority_has_the_most_votes(given: list[tuple[str | None, float | None]]):
    """No other answer has more; of equals the earliest wins."""
    votes = [answer for answer, _ in given if answer is not None]
    choice = choose(polled(given), "majority", PRIOR)
    assert choice is not None
    if votes:
        most = max(votes.count(answer) for answer in votes)
        assert choice.candidate.answer == next(answer for answer in votes if votes.count(answer) == most)


@given(samples)
def test_the_critics_choice_has_the_highest_probability(given: list[tuple[str | None, float | None]]):
    """Among those with an answer; the unjudged weigh as the prior."""
    choice = choose(polled(given), "critic", PRIOR)
    assert choice is not None
    weights = [PRIOR if p is None else p for answer, p in given if answer is not None]
    p = choice.candidate.p_correct
    assert not weights or (PRIOR if p is None else p) == max(weights)


@given(samples, st.sampled_from(SELECTS), st.integers(0, 3), st.randoms(use_true_random=False))
def test_what_is_decided_stays_decided(
    given: list[tuple[str | None, float | None]], select: Select, remaining: int, random: Random
):
    """Except for the majority's posterior, which may err, no further samples change a decided choice."""
    poll = polled(given)
    if not decided(poll, select, PRIOR, remaining) or select == "majority":
        return
    before = choose(poll, select, PRIOR)
    more = [(random.choice(["1", "2", "9"]), random.random()) for _ in range(remaining)]
    after = choose(polled([*given, *more]), select, PRIOR)
    assert before is not None
    assert after is not None
    assert before.candidate.answer == after.candidate.answer


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (4, 0), (7, 2), (30, 29)])
def test_the_posterior_is_the_beta_integral(first: int, second: int):
    """P(p > 1/2) under Beta(first + 1, second + 1), integrated exactly."""
    a, b = first + 1, second + 1
    density = [(comb(b - 1, k) * (-1) ** k, a + k) for k in range(b)]
    whole = sum(Fraction(c, power) for c, power in density)
    upper = sum(Fraction(c, power) * (1 - Fraction(1, 2**power)) for c, power in density)
    assert majority_posterior(first, second) == pytest.approx(float(upper / whole))


def test_a_clear_lead_ends_a_majority():
    """Four of four are not yet enough for the bar, five are."""
    assert majority_posterior(3, 0) < AGREED_AT < majority_posterior(4, 0)
    assert not decided(polled([("1", None)] * 3), "majority", PRIOR, 10)
    assert decided(polled([("1", None)] * 4), "majority", PRIOR, 10)
