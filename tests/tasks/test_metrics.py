import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertkit.tasks.metrics import F1, Accuracy, MatthewsCorrelation, classification_metrics


def classes(num_labels):
    pair = st.tuples(st.integers(0, num_labels - 1), st.integers(0, num_labels - 1))
    return st.tuples(st.just(num_labels), st.lists(pair, min_size=1, max_size=30))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4).flatmap(classes))
def test_metrics_equal_scikit_learn(case):
    num_labels, pairs = case
    predictions, references = (list(column) for column in zip(*pairs, strict=True))
    average = {"average": "binary"} if num_labels == 2 else {"average": "macro"}
    assert classification_metrics(predictions, references, num_labels=num_labels) == pytest.approx(
        {
            "accuracy": accuracy_score(references, predictions),
            "f1": f1_score(references, predictions, zero_division=0, **average),
            "matthews_correlation": matthews_corrcoef(references, predictions),
        }
    )


def test_metrics_equal_their_definitions():
    predictions, references = [1, 1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1, 0]
    true_positive, false_positive, false_negative, true_negative = 3, 1, 1, 2
    examples = {"predictions": predictions, "references": references}
    assert Accuracy().compute(**examples)["accuracy"] == pytest.approx((true_positive + true_negative) / 7)
    assert F1().compute(**examples)["f1"] == pytest.approx(
        2 * true_positive / (2 * true_positive + false_positive + false_negative)
    )
    assert MatthewsCorrelation().compute(**examples)["matthews_correlation"] == pytest.approx(
        (true_positive * true_negative - false_positive * false_negative) / math.sqrt(4 * 4 * 3 * 3)
    )
