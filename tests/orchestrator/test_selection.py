"""Selection: properties of the pure functions, and of a poll under any order of arrival."""

from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polls import PRIOR, Sample, candidate, polled

from orchestrator.budget import Ledger
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.runner import ignore_events
from orchestrator.selection import Choice, Poll, Select, choose
from orchestrator.solve import Context, Solve
from orchestrator.strategies.best_of_n import BestOfN, _Drawing  # pyright: ignore[reportPrivateUsage] - the order of arrival is internal
from services.call_context import CallContext
from services.contracts.sampling import Sampling
from services.contracts.solve import Budget
from services.http.client import client_for

SELECTS: list[Select] = ["critic", "majority", "weighted"]

probabilities = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
samples = st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), probabilities), min_size=1, max_size=9)


def chosen(given: list[Sample], select: Select) -> Choice:
    """Return the choice among samples."""
    choice = choose(polled(given), select, PRIOR)
    assert choice is not None
    return choice


def number_of(choice: Choice) -> int:
    """Return the place of the chosen sample."""
    return int(choice.candidate.id[1:])


def weights_of(given: list[Sample]) -> dict[str, float]:
    """Return the sum of p_correct of each answer, in order of appearance; an unjudged sample has the prior."""
    weights: dict[str, float] = {}
    for answer, p in given:
        if answer is not None:
            weights[answer] = weights.get(answer, 0.0) + (PRIOR if p is None else p)
    return weights


@given(samples, st.sampled_from(SELECTS))
def test_an_answer_is_chosen_where_there_is_one(given: list[Sample], select: Select):
    """A candidate without an answer wins only if none has one, and confidence is a share."""
    choice = chosen(given, select)
    assert (choice.candidate.answer is None) == all(answer is None for answer, _ in given)
    assert choice.confidence is None or 0 <= choice.confidence <= 1


def test_an_empty_poll_has_no_choice():
    """There is no choice under any way to select."""
    for select in SELECTS:
        assert choose(Poll(), select, PRIOR) is None


@given(samples)
def test_the_majority_has_the_most_votes(given: list[Sample]):
    """The first answer with the most votes wins, and confidence is its share of the votes."""
    votes = [answer for answer, _ in given if answer is not None]
    choice = chosen(given, "majority")
    if votes:
        most = max(votes.count(answer) for answer in votes)
        assert choice.candidate.answer == next(answer for answer in votes if votes.count(answer) == most)
        assert choice.confidence == most / len(votes)


@given(samples)
def test_the_weighted_choice_has_the_most_weight(given: list[Sample]):
    """The first answer with the largest sum of p_correct wins, and confidence is its share of the weight."""
    weights, choice = weights_of(given), chosen(given, "weighted")
    if weights:
        assert choice.candidate.answer == max(weights, key=lambda answer: weights[answer])
        total = sum(weights.values())
        share = weights[choice.candidate.answer or ""] / total if total else None
        assert choice.confidence == share or isclose(choice.confidence or 0, share or 0)


@given(samples, st.sampled_from(["majority", "weighted"]))
def test_a_vote_chooses_the_most_trusted_candidate_of_its_answer(given: list[Sample], select: Select):
    """The earliest candidate wins a tie."""
    choice = chosen(given, select)
    answer = choice.candidate.answer
    if answer is not None:
        own = [(PRIOR if p is None else p, -number) for number, (text, p) in enumerate(given) if text == answer]
        assert number_of(choice) == -max(own)[1]


@given(samples)
def test_the_critics_choice_has_the_highest_probability(given: list[Sample]):
    """The earliest candidate wins a tie; confidence is its p_correct, which is null if it was not judged."""
    choice = chosen(given, "critic")
    answered = any(answer is not None for answer, _ in given)
    places = [n for n, (answer, _) in enumerate(given) if answer is not None or not answered]
    assert number_of(choice) == max(places, key=lambda n: (PRIOR if (p := given[n][1]) is None else p, -n))
    assert choice.confidence == given[number_of(choice)][1]


NOWHERE = client_for("http://127.0.0.1:9")
ACTOR, CRITIC = HTTPActor(NOWHERE, OrchestratorMetrics()), HTTPCritic(NOWHERE, OrchestratorMetrics())
"""Clients that are never called."""


class SameText:
    """A test that treats answers as equivalent if they are written the same."""

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Return the index of the representative with the same text."""
        return representatives.index(answer) if answer in representatives else None


async def wave_of(plan: BestOfN, given: list[Sample], order: list[int], failed: set[int]) -> _Drawing:
    """Return the wave after its candidates have arrived in `order`; those in `failed` produced no candidate."""
    solve = Solve(
        "solve_1",
        CallContext("request", "solve_1", "call"),
        (),
        Sampling(),
        1,
        Ledger(Budget()),
        ACTOR,
        CRITIC,
        SameText(),
        ignore_events,
    )
    wave = _Drawing(plan, Context(solve))
    async with wave.group:
        for number in order:
            await wave.enter(number, None if number in failed else candidate(number, *given[number]))
    return wave


@pytest.mark.anyio
@given(samples, st.sampled_from(SELECTS), st.booleans(), st.data())
async def test_the_outcome_does_not_depend_on_the_order_of_arrival(
    given: list[Sample],
    select: Select,
    early: bool,  # noqa: FBT001 - drawn
    data: st.DataObject,
):
    """Candidates are polled in place order, so any order of arrival leads to the same choice, by the same polls."""
    plan = BestOfN(n=len(given), select=select, stop_early=early)
    places = list(range(len(given)))
    failed = data.draw(st.sets(st.sampled_from(places), max_size=len(places) - 1))
    there = await wave_of(plan, given, places, failed)
    here = await wave_of(plan, given, data.draw(st.permutations(places)), failed)
    assert here.poll == there.poll
    assert (here.agreed, here.polled) == (there.agreed, there.polled)
    assert await here.outcome() == await there.outcome()
