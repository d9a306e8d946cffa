"""Statistics compared with closed forms."""

from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.statistics import balanced, difference, mean, pass_at
from pocket.calibration import calibration_error


def test_the_interval_is_that_of_a_binomial():
    """For a share of one third of 900 it reaches about 3.1 points to both sides."""
    estimate = mean([1.0] * 300 + [0.0] * 600)
    half = 1.96 * sqrt((1 / 3) * (2 / 3) / 900)
    assert estimate.mean == pytest.approx(1 / 3)
    assert (estimate.low, estimate.high) == (pytest.approx(1 / 3 - half, abs=0.004), pytest.approx(1 / 3 + half, abs=0.004))


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    """Problems on which both are right or both are wrong add no variance."""
    base = [float(k % 2) for k in range(400)]
    better = [1.0 if k % 20 == 0 else value for k, value in enumerate(base)]
    estimate = difference(better, base)
    assert estimate.mean == pytest.approx(0.05)
    assert 0 < estimate.low < estimate.mean < estimate.high < 0.08


def test_balanced_is_the_mean_of_both_sides():
    """Both sides weigh the same, whatever their sizes."""
    assert balanced([True] * 90 + [False] * 10, [True] * 2 + [False] * 2).mean == pytest.approx(0.7)


def test_calibration_error_is_zero_when_calibrated_and_the_gap_when_not():
    """At a probability of 0.8, eight of ten right are calibrated, and one of ten right is 0.7 off."""
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0, abs=1e-9)
    assert calibration_error([0.8] * 10, [True] + [False] * 9) == pytest.approx(0.7)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(samples: int, data: st.DataObject):
    """The formula equals the count over all subsets of k samples."""
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    subsets = list(combinations(range(samples), k))
    expected = sum(any(place < right for place in subset) for subset in subsets) / len(subsets)
    assert pass_at(k, samples, right) == pytest.approx(expected)
