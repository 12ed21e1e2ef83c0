"""Whether one model is better than another on the same examples, or luck would do: the paired bootstrap.

Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 16; Koehn 2004, https://aclanthology.org/W04-3250.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_AT_ONCE = 500


class Statistics(NamedTuple):
    """A metric as what its examples add to it."""

    name: str
    """Of the metric."""
    values: np.ndarray
    """(examples, terms) what each example adds to the sums that the metric is made of."""
    combine: Callable[[np.ndarray], np.ndarray]
    """Sums (..., terms) -> the metric (...)."""

    @property
    def metric(self) -> float:
        """The metric over all examples."""
        return float(self.combine(self.values.sum(axis=0)))


class Difference(NamedTuple):
    """How two models differ."""

    first: float
    second: float
    low: float
    """Lower end of the interval that holds 95 % of the resampled differences, second minus first."""
    high: float
    """Its upper end."""
    p_value: float
    """How probable a difference as far from 0 is if there is none in truth, two-sided."""


def paired_bootstrap(first: Statistics, second: Statistics, *, resamples: int = 10_000, seed: int = 0) -> Difference:
    """Draw the examples again and again, the same for both models, and see how their difference scatters.

    Args:
        first: of one model.
        second: of the other, on the same examples.
        resamples: how often.
        seed: key of the drawing.

    Raises:
        ValueError: unlike numbers of examples.
    """
    count = len(first.values)
    if len(second.values) != count:
        raise ValueError(f"{count} and {len(second.values)} examples; compare predictions for the same ones")
    generator = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, _AT_ONCE):
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=min(_AT_ONCE, resamples - start))
        differences.append(second.combine(drawn @ second.values) - first.combine(drawn @ first.values))
    difference = np.concatenate(differences)
    low, high = np.quantile(difference, [0.025, 0.975])
    # Ties count half on either side. One is added: the data themselves are a resample, and no p-value is 0.
    ties = (difference == 0).sum() / 2
    p_value = min(1.0, 2 * (min((difference < 0).sum(), (difference > 0).sum()) + ties + 1) / (resamples + 1))
    return Difference(first.metric, second.metric, float(low), float(high), float(p_value))


def mean_of(values: np.ndarray, name: str) -> Statistics:
    """Return the statistics of a metric that is a mean over examples.

    Args:
        values: (examples,).
        name: of the metric.
    """
    counted = np.stack([values.astype(np.float64), np.ones(len(values))], axis=1)
    return Statistics(name, counted, lambda sums: sums[..., 0] / sums[..., 1])


def mean_of_runs(runs: Sequence[Statistics]) -> Statistics:
    """Return the statistics of the mean of a metric over several runs on the same examples.

    Args:
        runs: of each run.
    """
    combine = runs[0].combine

    def mean(sums: np.ndarray) -> np.ndarray:
        return combine(sums.reshape(*sums.shape[:-1], len(runs), -1)).mean(axis=-1)

    return Statistics(runs[0].name, np.concatenate([run.values for run in runs], axis=1), mean)


def f1_of(right: np.ndarray, predicted: np.ndarray, true: np.ndarray, name: str) -> Statistics:
    """Return the statistics of an F1 over everything that examples hold (micro).

    Args:
        right: (examples,) what is predicted and true, counted.
        predicted: (examples,) what is predicted.
        true: (examples,) what is true.
        name: of the metric.
    """
    counts = np.stack([right, predicted, true], axis=1).astype(np.float64)
    return Statistics(name, counts, lambda sums: 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1))


def pearson_of(predicted: np.ndarray, true: np.ndarray) -> Statistics:
    """Return the statistics of Pearson's correlation.

    Args:
        predicted: (examples,).
        true: (examples,).
    """
    x, y = predicted.astype(np.float64) - predicted.mean(), true.astype(np.float64) - true.mean()
    terms = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)

    def combine(sums: np.ndarray) -> np.ndarray:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spread = np.sqrt(np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0))
        correlation = np.divide(n * xy - x * y, spread, out=np.zeros_like(spread), where=spread > 0)
        # Of examples that hardly differ, rounding is all that is left, and may leave more than 1.
        return np.clip(correlation, -1, 1)

    return Statistics("pearson", terms, combine)
