"""Probing: how much of a label a linear classifier reads off frozen vectors (Alain and Bengio 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Values of C, the inverse of the penalty on the weights, that are tried."""
_MAX_STEPS = 2000


class Probe(NamedTuple):
    """What a classifier makes of the vectors of one layer."""

    penalty: float
    """The C that is best on the part it is chosen on, the smallest of equally good ones."""
    accuracy: dict[str, float]
    """Share of the examples of each part that are right."""


def fit_probe(
    vectors: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]],
    *,
    chosen_on: str = "eval",
    penalties: Sequence[float] = PENALTIES,
) -> Probe:
    """Fit scikit-learn's logistic regression on vectors that are standardised by the mean and deviation of "train".

    Args:
        vectors: (examples, features) of each part, "train" among them.
        labels: (examples,) of each part.
        chosen_on: the part that C is chosen on.
        penalties: values of C to try, rising.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(vectors["train"])
    scaled = {part: scaler.transform(array) for part, array in vectors.items()}
    best: Probe | None = None
    for penalty in penalties:
        classifier = LogisticRegression(C=penalty, max_iter=_MAX_STEPS).fit(scaled["train"], labels["train"])
        accuracy = {part: float(classifier.score(array, labels[part])) for part, array in scaled.items()}
        if best is None or accuracy[chosen_on] > best.accuracy[chosen_on]:
            best = Probe(penalty, accuracy)
    assert best is not None, "no penalty is given"
    return best
