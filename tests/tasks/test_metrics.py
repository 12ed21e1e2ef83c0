import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.scheme import BILOU
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertkit.tasks.metrics import (
    F1,
    Accuracy,
    MatthewsCorrelation,
    answer_metrics,
    classification_metrics,
    correlations,
    multi_label_metrics,
    span_metrics,
)


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


words = st.sampled_from(["a", "the", "fox", "Fox,", "red", "dog."])
answers = st.lists(words, max_size=4).map(" ".join)


@settings(max_examples=30)
@given(st.lists(st.tuples(answers, st.lists(answers.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=8))
def test_answers_are_scored_as_torchmetrics_counts_squad(questions):
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    found = answer_metrics([text for text, _ in questions], [right for _, right in questions])
    expected = squad(
        [{"prediction_text": text, "id": str(number)} for number, (text, _) in enumerate(questions)],
        [
            {"answers": {"text": right, "answer_start": [0] * len(right)}, "id": str(number)}
            for number, (_, right) in enumerate(questions)
        ],
    )
    assert 100 * found["exact_match"] == pytest.approx(float(expected["exact_match"]), abs=1e-4)
    # Of an answer of articles alone torchmetrics counts no word as wrong; SQuAD 2's own program, and ours, as right.
    if all(re.sub(r"\b(a|the)\b", "", text).strip() for text, right in questions for text in (text, *right)):
        assert 100 * found["f1"] == pytest.approx(float(expected["f1"]), abs=1e-4)


def test_no_answer_is_right_where_there_is_none_and_wrong_where_there_is_one():
    assert answer_metrics(["", "fox", ""], [[], [], ["fox"]]) == {"exact_match": 1 / 3, "f1": 1 / 3}


tags = st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), min_size=1, max_size=6)


@given(
    st.lists(
        st.lists(
            st.sampled_from([("O",), ("U-x",), ("U-y",), ("B-x", "L-x"), ("B-y", "I-y", "L-y")]), min_size=4, max_size=4
        ),
        min_size=2,
        max_size=2,
    )
)
def test_last_and_only_words_may_be_marked_by_L_and_U(pair):
    true, said = ([tag for span in of for tag in span] for of in pair)
    true, said = (of + ["O"] * (12 - len(of)) for of in (true, said))
    strict = seqeval_f1([true], [said], mode="strict", scheme=BILOU, zero_division=0)
    assert span_metrics([said], [true])["f1"] == pytest.approx(float(strict))


@settings(max_examples=30)
@given(st.lists(tags.flatmap(lambda true: st.tuples(st.just(true), st.permutations(true))), min_size=1, max_size=5))
def test_spans_are_scored_as_by_the_definition_of_the_shared_task(sentences):
    def spans(of):
        found, start = set(), None
        for place, tag in enumerate([*of, "O"]):
            ends = start is not None and (tag[:1] in "BO" or tag[2:] != start[1])
            if ends:
                found.add((start[0], place, start[1]))
                start = None
            if tag != "O" and start is None:
                start = (place, tag[2:])
        return found

    pairs = [(spans(said), spans(true)) for true, said in sentences]
    right, said, true = (sum(len(x) for x in column) for column in zip(*((a & b, a, b) for a, b in pairs), strict=True))
    metrics = span_metrics([list(said) for _, said in sentences], [true for true, _ in sentences])
    assert metrics["f1"] == pytest.approx(2 * right / (said + true) if said + true else 0.0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-9, 9, width=16), st.floats(-9, 9, width=16)), min_size=3, max_size=20))
def test_correlations_are_scipys_and_zero_for_a_constant(pairs):
    said, true = (list(column) for column in zip(*pairs, strict=True))
    found = correlations(said, true)
    if len({*said}) > 1 and len({*true}) > 1:
        assert found["pearson"] == pytest.approx(stats.pearsonr(said, true).statistic, abs=1e-9, nan_ok=True)
        assert found["spearman"] == pytest.approx(stats.spearmanr(said, true).statistic, abs=1e-9)
    else:
        assert found == {"pearson": 0.0, "spearman": 0.0}


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.lists(st.integers(0, 1), min_size=3, max_size=3)] * 2), min_size=1, max_size=12))
def test_several_labels_are_scored_as_by_scikit_learn(rows):
    said, true = (list(column) for column in zip(*rows, strict=True))
    assert multi_label_metrics(said, true) == pytest.approx(
        {
            "f1_micro": f1_score(true, said, average="micro", zero_division=0),
            "f1_macro": f1_score(true, said, average="macro", zero_division=0),
            "subset_accuracy": accuracy_score(true, said),
        }
    )
