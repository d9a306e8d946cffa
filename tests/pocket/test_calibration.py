"""From likelihood to probability."""

from pathlib import Path
from random import Random

import pytest

from pocket.calibration import Calibration


def test_a_known_curve_is_found_again() -> None:
    """Labels drawn from a curve give that curve back."""
    random, truth = Random(0), Calibration(-1.2, 0.7)
    scores = [-(10 ** random.uniform(-3, 2)) for _ in range(20_000)]
    labels = [random.random() < truth.probability(score) for score in scores]
    fitted = Calibration.fit(scores, labels)
    assert (fitted.slope, fitted.intercept) == pytest.approx((truth.slope, truth.intercept), abs=0.1)


def test_separable_labels_do_not_break_the_fit() -> None:
    """The curve becomes steep and stays finite."""
    fitted = Calibration.fit([-0.01] * 50 + [-10.0] * 50, [True] * 50 + [False] * 50)
    assert fitted.probability(-0.01) > 0.99
    assert fitted.probability(-10.0) < 0.01


def test_more_likely_is_more_trusted() -> None:
    """And both ends are probabilities."""
    found = [Calibration().probability(score) for score in (-1e9, -10.0, -1.0, -0.1, 0.0)]
    assert found == sorted(found)
    assert 0 <= found[0] < found[-1] <= 1


def test_the_file_holds_it(tmp_path: Path) -> None:
    """Saved and loaded, to five digits."""
    Calibration(-1.25, 0.5).save(tmp_path)
    assert Calibration.load(tmp_path) == Calibration(-1.25, 0.5)
