"""Probing: how much of what people said a linear model reads off frozen vectors (Alain and Bengio 2016)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

CLASS_PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Values of C, the inverse of the penalty on the weights, that a logistic regression is tried with."""
NUMBER_PENALTIES = (1e-6, 1e-5, 1e-4, 0.001, 0.01)
"""Values of C that a ridge regression is tried with; scikit-learn's alpha is 1 / 2C, as of its logistic regression."""
_MAX_STEPS = 2000


class Probe(NamedTuple):
    """What a linear model makes of vectors."""

    penalty: float
    """The C that is best on the part it is chosen on, the smallest of equally good ones."""
    scores: dict[str, np.ndarray]
    """Part -> (examples, classes) log-odds up to a constant, or (examples, 1) the numbers predicted."""


def fit_probe(
    vectors: Mapping[str, np.ndarray],
    targets: np.ndarray,
    *,
    num_classes: int | None,
    quality: Callable[[np.ndarray], float],
    chosen_on: str = "eval",
    penalties: Sequence[float] | None = None,
) -> Probe:
    """Fit scikit-learn's logistic or ridge regression on vectors that are standardised by the mean and deviation of "train".

    Args:
        vectors: (examples, features) of each part, "train" among them; one of NaN counts as the mean of all.
        targets: (examples,) of "train": class numbers, or numbers to predict.
        num_classes: classes there are, of which training may lack some; None to predict numbers.
        quality: of the scores of the part that C is chosen on, the more the better.
        chosen_on: that part.
        penalties: values of C to try, rising; by default those above.

    Raises:
        ValueError: all of training is of one class.
    """
    from sklearn.preprocessing import StandardScaler

    if num_classes is not None and len(np.unique(targets)) < 2:
        raise ValueError("all examples to train a probe on have one label; give more of them")
    scaler = StandardScaler().fit(vectors["train"])  # leaves NaN out and as they are
    scaled = {part: np.nan_to_num(scaler.transform(array)) for part, array in vectors.items()}
    best: Probe | None = None
    best_quality = -np.inf
    for penalty in penalties or (NUMBER_PENALTIES if num_classes is None else CLASS_PENALTIES):
        fit = _fit_numbers if num_classes is None else _fit_classes
        coefficients, intercepts, columns = fit(scaled["train"], targets, penalty)
        found = {part: array @ coefficients.T + intercepts for part, array in scaled.items()}
        if num_classes is not None:
            found = {part: _widened(scores, columns, num_classes) for part, scores in found.items()}
        if best is None or quality(found[chosen_on]) > best_quality:
            best, best_quality = Probe(penalty, found), quality(found[chosen_on])
    assert best is not None, "no penalty is given"
    return best


def _fit_numbers(vectors: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=1 / (2 * penalty)).fit(vectors, targets)
    return np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_), np.zeros(1, dtype=np.int64)


def _fit_classes(vectors: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=penalty, max_iter=_MAX_STEPS).fit(vectors, targets)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # the library keeps the second one's distance from the first
        coefficients, intercepts = np.pad(coefficients, ((1, 0), (0, 0))), np.pad(intercepts, (1, 0))
    return coefficients, intercepts, fitted.classes_


def _widened(scores: np.ndarray, columns: np.ndarray, num_classes: int) -> np.ndarray:
    """Give a class that training lacks the lowest score there is."""
    widened = np.full((len(scores), num_classes), scores.min())
    widened[:, columns] = scores
    return widened
