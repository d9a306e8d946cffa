"""Calibration: from likelihood to probability."""

from pathlib import Path
from random import Random

import pytest

from pocket.calibration import Calibration


def test_fit_recovers_a_known_curve() -> None:
    """Labels sampled from a curve give that curve."""
    random, truth = Random(0), Calibration(-1.2, 0.7)
    scores = [-(10 ** random.uniform(-3, 2)) for _ in range(20_000)]
    labels = [random.random() < truth.probability(score) for score in scores]
    fitted = Calibration.fit(scores, labels)
    assert (fitted.slope, fitted.intercept) == pytest.approx((truth.slope, truth.intercept), abs=0.1)


def test_separable_labels_do_not_break_the_fit() -> None:
    """The fitted curve is steep and finite."""
    fitted = Calibration.fit([-0.01] * 50 + [-10.0] * 50, [True] * 50 + [False] * 50)
    assert fitted.probability(-0.01) > 0.99
    assert fitted.probability(-10.0) < 0.01


def test_probability_increases_with_likelihood() -> None:
    """All values are between 0 and 1."""
    probabilities = [Calibration().probability(score) for score in (-1e9, -10.0, -1.0, -0.1, 0.0)]
    assert probabilities == sorted(probabilities)
    assert 0 <= probabilities[0] < probabilities[-1] <= 1


def test_saved_calibration_can_be_loaded(tmp_path: Path) -> None:
    """The parameters are stored with five digits."""
    Calibration(-1.25, 0.5).save(tmp_path)
    assert Calibration.load(tmp_path) == Calibration(-1.25, 0.5)
