"""Statistics against what is known in closed form."""

from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.statistics import balanced, calibration_error, difference, mean, pass_at


def test_the_interval_is_that_of_a_binomial():
    """For a share of one in three of 900, about 3.1 points to both sides."""
    found = mean([1.0] * 300 + [0.0] * 600)
    half = 1.96 * sqrt((1 / 3) * (2 / 3) / 900)
    assert found.mean == pytest.approx(1 / 3)
    assert (found.low, found.high) == (pytest.approx(1 / 3 - half, abs=0.004), pytest.approx(1 / 3 + half, abs=0.004))


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    """Where both are right on the same problems, only the others count."""
    base = [float(k % 2) for k in range(400)]
    better = [1.0 if k % 20 == 0 else value for k, value in enumerate(base)]
    found = difference(better, base)
    assert found.mean == pytest.approx(0.05)
    assert 0 < found.low < found.mean < found.high < 0.08


def test_balanced_is_the_mean_of_both_sides():
    """However many there are of each."""
    assert balanced([True] * 90 + [False] * 10, [True] * 2 + [False] * 2).mean == pytest.approx(0.7)


def test_calibration_error_is_zero_when_calibrated_and_the_gap_when_not():
    """Eight of ten right at 0.8; one of ten right at 0.8."""
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0, abs=1e-9)
    assert calibration_error([0.8] * 10, [True] + [False] * 9) == pytest.approx(0.7)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(samples: int, data: st.DataObject):
    """By counting them."""
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    subsets = list(combinations(range(samples), k))
    expected = sum(any(place < right for place in subset) for subset in subsets) / len(subsets)
    assert pass_at(k, samples, right) == pytest.approx(expected)
