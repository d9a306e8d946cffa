"""Statistics: bootstrap intervals over problems, paired differences, pass@k."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5_000
LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:5.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def mean(values: Sequence[float]) -> Estimate:
    """Estimate the mean of one value per problem, by the percentile bootstrap over problems (Efron 1979)."""
    sample = np.asarray(values, float)
    if not len(sample):
        return Estimate(math.nan, math.nan, math.nan)
    places = np.random.default_rng(_SEED).integers(len(sample), size=(RESAMPLES, len(sample)))
    means = sample[places].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sample.mean()), float(low), float(high))


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Estimate the mean of `values - others`, paired by problem."""
    return mean([a - b for a, b in zip(values, others, strict=True)])


def balanced(right: Sequence[bool], wrong: Sequence[bool]) -> Estimate:
    """Estimate the mean of two success rates, on right and on wrong solutions; each is resampled by itself."""
    a, b = (np.asarray(side, float) for side in (right, wrong))
    random = np.random.default_rng(_SEED)
    both = [side[random.integers(len(side), size=(RESAMPLES, len(side)))].mean(axis=1) for side in (a, b)]
    low, high = np.quantile((both[0] + both[1]) / 2, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float((a.mean() + b.mean()) / 2), float(low), float(high))


def pass_at(k: int, samples: int, right: int) -> float:
    """Return the probability that at least one of `k` of the samples is right (Chen et al. 2021, eq. 1)."""
    if samples - right < k:
        return 1.0
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)
