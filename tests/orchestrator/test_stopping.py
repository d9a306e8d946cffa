"""Early stopping: properties of the rules, and a simulation of how often each is wrong, with known probabilities."""

from dataclasses import dataclass
from fractions import Fraction
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polls import PRIOR, Sample, polled

from orchestrator.selection import Poll, Select, choose
from orchestrator.stopping import AGREED_AT, StopRule, ahead, decided

SELECTS: list[Select] = ["critic", "majority", "weighted"]
RULES: list[StopRule] = ["certain", "beta", "window"]

probabilities = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
samples = st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), probabilities), min_size=1, max_size=9)


def chosen(given: list[Sample], select: Select) -> str | None:
    """Return the answer chosen among samples."""
    choice = choose(polled(given), select, PRIOR)
    assert choice is not None
    return choice.candidate.answer


@given(samples, st.sampled_from(SELECTS), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_certain_choice_never_changes(given: list[Sample], select: Select, remaining: int, random: Random):
    """Further samples do not change a choice that is certain."""
    if decided(polled(given), select, PRIOR, remaining, rule="certain"):
        more = [(random.choice(["1", "2", "9", None]), random.choice([random.random(), 1.0])) for _ in range(remaining)]
        assert chosen([*given, *more], select) == chosen(given, select)


@given(samples, st.sampled_from(SELECTS), st.integers(1, 9))
def test_a_certain_choice_stops_every_rule(given: list[Sample], select: Select, remaining: int):
    """The other rules stop no later."""
    poll = polled(given)
    if decided(poll, select, PRIOR, remaining, rule="certain"):
        assert all(decided(poll, select, PRIOR, remaining, rule=rule) for rule in RULES)


@given(samples, st.sampled_from(SELECTS), st.sampled_from(RULES))
def test_nothing_is_decided_after_the_last_sample_or_before_the_first(given: list[Sample], select: Select, rule: StopRule):
    """With no samples left there is nothing to stop, and an empty poll decides nothing."""
    assert not decided(polled(given), select, PRIOR, 0, rule=rule)
    assert not decided(Poll(), select, PRIOR, 3, rule=rule)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (4, 0), (7, 2), (30, 29)])
def test_the_posterior_is_the_beta_integral(first: int, second: int):
    """It is P(p > 1/2) under Beta(first + 1, second + 1), here compared with exact integration."""
    a, b = first + 1, second + 1
    density = [(comb(b - 1, k) * (-1) ** k, a + k) for k in range(b)]
    whole = sum(Fraction(c, power) for c, power in density)
    upper = sum(Fraction(c, power) * (1 - Fraction(1, 2**power)) for c, power in density)
    assert ahead(first, second) == pytest.approx(float(upper / whole))
    assert ahead(first + 1e-9, second) == pytest.approx(ahead(first, second), abs=1e-4)


@given(st.floats(0, 64), st.floats(0, 64))
def test_the_posterior_of_weights_lies_between_those_of_whole_votes(first: float, second: float):
    """The posterior grows with the leader's weight and falls with the other's."""
    high, low = max(first, second), min(first, second)
    assert ahead(int(high), int(low) + 1) - 1e-4 <= ahead(high, low) <= ahead(int(high) + 1, int(low)) + 1e-4


def test_a_clear_lead_ends_a_vote():
    """Three of three votes do not reach the threshold and four do; by weight, only four that the critic trusts."""
    assert ahead(3, 0) < AGREED_AT < ahead(4, 0)
    for select in ("majority", "weighted"):
        assert not decided(polled([("1", 1.0)] * 3), select, PRIOR, 10)
        assert decided(polled([("1", 1.0)] * 4), select, PRIOR, 10)
    assert not decided(polled([("1", 0.1)] * 4), "weighted", PRIOR, 10)


def test_a_window_must_agree():
    """Under `weighted`, candidates that the critic rejects are ignored, and at least half of the window must remain."""
    split: list[Sample] = [("1", 0.9), ("2", 0.1), ("1", 0.8), ("3", 0.2)]
    assert not decided(polled(split), "majority", PRIOR, 10, rule="window", window=4)
    assert decided(polled(split), "weighted", PRIOR, 10, rule="window", window=4)
    assert not decided(polled([("1", 0.9), *[("1", 0.1)] * 3]), "weighted", PRIOR, 10, rule="window", window=4)
    assert decided(polled([("1", 0.1)] * 4), "majority", PRIOR, 10, rule="window", window=4)


@dataclass(frozen=True)
class World:
    """A kind of problem: a sample is right with probability `right`, else it has one of `others` wrong answers.

    The critic's p_correct is drawn from Beta(`sharp`, 1) for a right sample and from Beta(1, `sharp`) for a wrong one.
    """

    right: float
    others: int = 3
    sharp: float = 4.0

    def draw(self, source: Random, n: int) -> list[Sample]:
        """Draw the samples of one problem."""
        drawn: list[Sample] = []
        for _ in range(n):
            answer = 0 if source.random() < self.right else source.randint(1, self.others)
            p = source.betavariate(1, self.sharp)
            drawn.append((str(answer), 1 - p if answer == 0 else p))
        return drawn


WORLDS = [World(right) for right in (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)]
N, PROBLEMS = 16, 300


def simulated(world: World, select: Select, rule: StopRule) -> tuple[float, float, float]:
    """Return, over many problems, the share of changed answers, the accuracy lost, and the share of samples saved."""
    source = Random(f"{world} {select} {rule}")
    changed = lost = saved = 0
    for _ in range(PROBLEMS):
        drawn = world.draw(source, N)
        used = next(n for n in range(1, N + 1) if n == N or decided(polled(drawn[:n]), select, PRIOR, N - n, rule=rule))
        early, late = chosen(drawn[:used], select), chosen(drawn, select)
        changed += early != late
        lost += (late == "0") - (early == "0")
        saved += N - used
    return changed / PROBLEMS, lost / PROBLEMS, saved / (N * PROBLEMS)


MOST: dict[tuple[Select, StopRule], tuple[float, float, float]] = {
    ("majority", "certain"): (0.0, 0.0, 0.20),
    ("majority", "beta"): (0.01, 0.01, 0.30),
    ("majority", "window"): (0.02, 0.01, 0.35),
    ("weighted", "certain"): (0.0, 0.0, 0.20),
    ("weighted", "beta"): (0.01, 0.01, 0.35),
    ("weighted", "window"): (0.02, 0.01, 0.55),
    ("critic", "certain"): (0.0, 0.0, 0.0),
    ("critic", "beta"): (0.01, 0.01, 0.40),
}
"""Bounds on the means over all worlds: most answers changed, most accuracy lost, fewest samples saved."""


@pytest.mark.parametrize(("select", "rule"), MOST, ids=str)
def test_a_rule_errs_no_more_often_than_documented(select: Select, rule: StopRule):
    """The figures of `docs/strategies.md` are means over problems from hard to easy, with up to 16 samples."""
    outcomes = [simulated(world, select, rule) for world in WORLDS]
    changed, lost, saved = (sum(figures) / len(outcomes) for figures in zip(*outcomes, strict=True))
    most_changed, most_lost, least_saved = MOST[select, rule]
    assert changed <= most_changed, outcomes
    assert lost <= most_lost, outcomes
    assert saved >= least_saved, outcomes
