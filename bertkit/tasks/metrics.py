"""Metrics as `evaluate.Metric`s that need no download: made by calling the class."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

_CLASS = datasets.Value("int64")
_NUMBER = datasets.Value("float64")
_TEXT = datasets.Value("string")


class _Metric(evaluate.Metric):
    """A metric over predictions and references, of features that the class names."""

    description: str
    citation: str
    inputs: str = "predictions and references: class numbers, one an example."
    prediction: Any = _CLASS
    reference: Any = _CLASS

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)  # else every call writes a file to a cache that runs share

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.inputs,
            features=datasets.Features({"predictions": self.prediction, "references": self.reference}),
        )


# Classes


class Accuracy(_Metric):
    """Share of the examples whose class is predicted."""

    description = "Share of the examples whose class is predicted."
    citation = ""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(_Metric):
    """Harmonic mean of precision and recall.

    Of two classes it is that of class 1, the second in the order of the labels. Of more it is the mean over the classes
    that occur among references or predictions (macro), a class never predicted or never right counting as 0.
    """

    description = "Harmonic mean of precision and recall: of class 1 of two, the mean over classes of more (macro)."
    citation = "van Rijsbergen 1979, Information Retrieval, chapter 7"

    def _compute(self, predictions: Sequence[int], references: Sequence[int], num_labels: int = 2) -> dict[str, float]:
        average = "binary" if num_labels == 2 else "macro"
        return {"f1": float(f1_score(references, predictions, average=average, zero_division=0))}


class MatthewsCorrelation(_Metric):
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


# Several labels


class MultiLabelF1(_Metric):
    """F1 over all labels together (micro) and the mean of each label's (macro), and the share of examples wholly right."""

    description = "Micro and macro F1 of labels that hold or do not, and the share of examples with all of them right."
    citation = ""
    inputs = "predictions and references: for each example 1 for each label that holds, and 0."
    prediction = reference = datasets.List(_CLASS)

    def _compute(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        return {
            "f1_micro": float(f1_score(references, predictions, average="micro", zero_division=0)),
            "f1_macro": float(f1_score(references, predictions, average="macro", zero_division=0)),
            "subset_accuracy": float(accuracy_score(references, predictions)),
        }


def multi_label_metrics(predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
    """Compute all metrics of a multi-label classification.

    Args:
        predictions: (examples, labels) of 0 and 1.
        references: (examples, labels) of 0 and 1.

    >>> multi_label_metrics([[1, 0], [1, 1]], [[1, 0], [0, 1]])["subset_accuracy"]
    0.5
    """
    return dict(MultiLabelF1().compute(predictions=predictions, references=references))


# Numbers


class Correlations(_Metric):
    """Pearson's and Spearman's correlation, 0 where either side is constant."""

    description = "Correlation of predicted and true numbers (Pearson) and of their ranks (Spearman); 0 for a constant."
    citation = "Pearson 1895; Spearman 1904"
    inputs = "predictions and references: numbers, one an example."
    prediction = reference = _NUMBER

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        from scipy import stats

        if len({*predictions}) < 2 or len({*references}) < 2:
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": float(stats.pearsonr(predictions, references).statistic),
            "spearman": float(stats.spearmanr(predictions, references).statistic),
        }


def correlations(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """Compute `pearson` and `spearman`.

    Args:
        predictions: (examples,).
        references: (examples,).

    >>> correlations([1.0, 2.0, 3.0], [10.0, 20.0, 40.0])["spearman"]
    1.0
    """
    return dict(Correlations().compute(predictions=predictions, references=references))


# Tags of words


class SpanScores(_Metric):
    """Precision, recall and F1 of the spans that tags mark, a span being right where type and both ends are (seqeval)."""

    description = (
        "Precision, recall and F1 of spans marked by tags such as B-person and I-person; accuracy of the tags."
    )
    citation = "Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419; seqeval"
    inputs = "predictions and references: for each sentence the tags of its words."
    prediction = reference = datasets.List(_TEXT)

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        import warnings

        from seqeval import metrics

        spans = [[_as_seqeval_knows(tags) for tags in of] for of in (references, predictions)]
        with warnings.catch_warnings():  # that a type never predicted has no precision: it counts as 0
            warnings.simplefilter("ignore")
            return {
                "f1": float(metrics.f1_score(*spans)),
                "precision": float(metrics.precision_score(*spans)),
                "recall": float(metrics.recall_score(*spans)),
                "accuracy": float(metrics.accuracy_score(references, predictions)),
            }


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the spans that the tags of a sentence mark: type, first word and last.

    Args:
        tags: of its words, each O or B-, I-, E- or L- (the last of several), S- or U- (the only one) and a type.

    >>> spans_of(["B-x", "L-x", "U-y", "U-y"])
    [('x', 0, 1), ('y', 2, 2), ('y', 3, 3)]
    """
    from seqeval.metrics.sequence_labeling import get_entities

    found: list[tuple[str, int, int]] = get_entities(_as_seqeval_knows(tags))
    return found


def _as_seqeval_knows(tags: Sequence[str]) -> list[str]:
    """Spell the last and the only word of a span as IOBES has them, where BILOU has L and U."""
    return [{"L-": "E-", "U-": "S-"}.get(tag[:2], tag[:2]) + tag[2:] for tag in tags]


def span_metrics(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compute `f1`, `precision` and `recall` of spans and the tags' `accuracy`.

    Args:
        predictions: for each sentence the predicted tags of its words.
        references: for each sentence the true ones.

    >>> span_metrics([["B-x", "I-x", "O"]], [["B-x", "I-x", "B-y"]])["recall"]
    0.5
    """
    return dict(SpanScores().compute(predictions=predictions, references=references))


# Answers


class AnswerScores(_Metric):
    """Exact match and F1 of words of answers, the best over the right ones, as SQuAD counts.

    Case, punctuation and the articles a, an and the are left out first. Where there is no right answer, only none is right.
    """

    description = "Share of answers that are exactly right, and the F1 of their words, as SQuAD 1 and 2 count."
    citation = (
        "Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250; Rajpurkar et al. 2018 for unanswerable questions"
    )
    inputs = (
        "predictions: texts, empty for none; references: for each question the right answers, an empty list for none."
    )
    prediction = _TEXT
    reference = datasets.List(_TEXT)

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        exact, f1 = [], []
        for prediction, right in zip(predictions, references, strict=True):
            right = list(right) or [""]
            exact.append(any(_normalised(prediction) == _normalised(answer) for answer in right))
            f1.append(best_word_f1(prediction, right))
        return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}


def _normalised(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _word_f1(prediction: str, reference: str) -> float:
    found, true = (_normalised(text).split() for text in (prediction, reference))
    if not found or not true:
        return float(found == true)
    same = sum((Counter(found) & Counter(true)).values())
    return 2 * same / (len(found) + len(true))


def best_word_f1(prediction: str, references: Sequence[str]) -> float:
    """Return the F1 of an answer's words with those of the right answer that is most like it.

    Args:
        prediction: the answer, "" for none.
        references: the right ones; none where there is none.
    """
    return max(_word_f1(prediction, reference) for reference in references or [""])


def answer_metrics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compute `exact_match` and `f1`, from 0 to 1; both are 0 where there is no question.

    Args:
        predictions: (questions,) the answers given, "" for none.
        references: (questions,) the right answers of each, none where the text does not tell.

    >>> answer_metrics(["the red fox"], [["a fox", "dog"]])
    {'exact_match': 0.0, 'f1': 0.6666666666666666}
    """
    if not predictions:
        return {"exact_match": 0.0, "f1": 0.0}
    return dict(AnswerScores().compute(predictions=list(predictions), references=[list(of) for of in references]))
