"""Metrics of classification, as `evaluate.Metric`s that need no download: made by calling the class.

References and predictions are class numbers, (examples,).
"""

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


class _ClassificationMetric(evaluate.Metric):
    """A metric over predicted and true class numbers."""

    description: str
    citation: str

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)  # else every call writes a file to a cache that runs share

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description="predictions and references: class numbers, one an example.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )


class Accuracy(_ClassificationMetric):
    """Share of the examples whose class is predicted."""

    description = "Share of the examples whose class is predicted."
    citation = ""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(_ClassificationMetric):
    """Harmonic mean of precision and recall.

    Of two classes it is that of class 1, the second in the order of the labels. Of more it is the mean over the classes
    that occur among references or predictions (macro), a class never predicted or never right counting as 0.
    """

    description = "Harmonic mean of precision and recall: of class 1 of two, the mean over classes of more (macro)."
    citation = "van Rijsbergen 1979, Information Retrieval, chapter 7"

    def _compute(self, predictions: Sequence[int], references: Sequence[int], num_labels: int = 2) -> dict[str, float]:
        average = "binary" if num_labels == 2 else "macro"
        return {"f1": float(f1_score(references, predictions, average=average, zero_division=0))}


class MatthewsCorrelation(_ClassificationMetric):
    """Correlation of predictions and references from −1 to 1; 0 for a guess, also where either is constant."""

    description = "Correlation of predicted and true classes, from -1 to 1; 0 for a guess."
    citation = "Matthews 1975, https://doi.org/10.1016/0005-2795(75)90109-9; Gorodkin 2004 for more than two classes"

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


def classification_metrics(
    predictions: Sequence[int], references: Sequence[int], *, num_labels: int
) -> dict[str, float]:
    """Compute all metrics of a classification.

    Args:
        predictions: (examples,) predicted class numbers.
        references: (examples,) true class numbers.
        num_labels: classes there are.

    Returns:
        `accuracy`, `f1` and `matthews_correlation`.

    >>> classification_metrics([0, 1, 1, 1], [0, 0, 1, 1], num_labels=2)["f1"]
    0.8
    """
    examples = {"predictions": predictions, "references": references}
    return {
        **Accuracy().compute(**examples),
        **F1().compute(**examples, num_labels=num_labels),
        **MatthewsCorrelation().compute(**examples),
    }
