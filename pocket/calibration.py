"""Calibration: from the likelihood of the all-correct critique to the probability that a solution is right.

p = 1 / (1 + exp(-(slope * log(-L) + intercept))), where L is the natural log-likelihood summed over the
critique's tokens. The curve is fitted on the development split and stored beside the critic's weights.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "calibration.json"
BINS = 15
_LEAST = 1e-6
"""Smallest magnitude of a log-likelihood; smaller values are rounding errors."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The two parameters of the curve; `slope` is negative."""

    slope: float = -1.5
    intercept: float = 0.0

    def probability(self, log_likelihood: float) -> float:
        """Return p_correct, between 0 and 1."""
        z = self.slope * math.log(max(-log_likelihood, _LEAST)) + self.intercept
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, z))))

    @classmethod
    def load(cls, directory: Path) -> "Calibration":
        """Load the calibration from a critic's directory."""
        return cls(**json.loads((directory / FILE).read_text()))

    def save(self, directory: Path) -> None:
        """Write the calibration to a critic's directory."""
        rounded = {name: round(value, 5) for name, value in asdict(self).items()}
        (directory / FILE).write_text(f"{json.dumps(rounded, indent=2)}\n")

    @classmethod
    def fit(cls, log_likelihoods: Sequence[float], labels: Sequence[bool]) -> "Calibration":
        """Return the maximum-likelihood curve, by Newton's method on the logistic loss with slight shrinkage."""
        x = [math.log(max(-score, _LEAST)) for score in log_likelihoods]
        slope = intercept = 0.0
        for _ in range(50):
            p = [1 / (1 + math.exp(-max(-50.0, min(50.0, slope * value + intercept)))) for value in x]
            gap = [q - y for q, y in zip(p, labels, strict=True)]
            curve = [q * (1 - q) for q in p]
            g0 = sum(g * v for g, v in zip(gap, x, strict=True)) + 1e-3 * slope
            g1 = sum(gap)
            h00 = sum(c * v * v for c, v in zip(curve, x, strict=True)) + 1e-3
            h01 = sum(c * v for c, v in zip(curve, x, strict=True))
            h11 = sum(curve) + 1e-6
            determinant = h00 * h11 - h01 * h01
            step = min(1.0, 5.0 / (1e-9 + abs((h11 * g0 - h01 * g1) / determinant)))
            slope -= step * (h11 * g0 - h01 * g1) / determinant
            intercept -= step * (h00 * g1 - h01 * g0) / determinant
        return cls(slope, intercept)


def bin_of(probability: float) -> int:
    """Return which of the `BINS` equally wide bins a probability is in."""
    return min(int(probability * BINS), BINS - 1)


def calibration_error(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Return the expected calibration error over `BINS` equally wide bins (Naeini et al. 2015)."""
    gaps = [0.0] * BINS
    for p, ok in zip(probabilities, right, strict=True):
        gaps[bin_of(p)] += p - ok
    return sum(map(abs, gaps)) / max(1, len(probabilities))
