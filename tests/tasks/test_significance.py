import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from bertkit.tasks import TASKS
from bertkit.tasks.metrics import answer_metrics, correlations, multi_label_metrics, span_metrics
from bertkit.tasks.significance import f1_of, mean_of, mean_of_runs, paired_bootstrap, pearson_of


def records(task, generator, count=40):
    tags = ["O", "B-x", "I-x", "B-y"]
    draw = generator.choice
    return {
        "sequence_classification": lambda: {"label": draw(["a", "b"]), "prediction": draw(["a", "b"])},
        "multiple_choice": lambda: {"label": int(draw(3)), "prediction": int(draw(3))},
        "regression": lambda: {"label": float(draw(9)), "prediction": float(generator.normal())},
        "multi_label_classification": lambda: {
            "labels": [n for n in "abc" if draw(2)], "predictions": [n for n in "abc" if draw(2)]
        },
        "token_classification": lambda: {"tags": draw(tags, 5).tolist(), "predictions": draw(tags, 5).tolist()},
        "question_answering": lambda: {
            "answers": draw(["a fox", "red fox", "dog"], 2).tolist(), "prediction": str(draw(["fox", "dog"]))
        },
    }[task], count  # fmt: skip


def test_several_runs_have_the_mean_of_their_metrics_whatever_the_scale_of_each():
    generator = np.random.default_rng(0)
    true = generator.normal(size=60)
    one, other = true + generator.normal(size=60), generator.normal(size=60)
    runs, scaled = (mean_of_runs([pearson_of(one, true), pearson_of(of, true)]) for of in (other, 100 * other))
    mean = np.mean([stats.pearsonr(of, true)[0] for of in (one, other)])
    assert runs.metric == pytest.approx(mean) and scaled.metric == pytest.approx(mean)
    difference = paired_bootstrap(runs, scaled, resamples=200)
    assert abs(difference.low) + abs(difference.high) < 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_statistics_add_up_to_the_tasks_own_metric(task):
    make, count = records(task, np.random.default_rng(0))
    predictions = [make() for _ in range(count)]
    metric = TASKS[task].statistics(predictions)
    label, said = ([one.get(n, one.get(f"{n}s")) for one in predictions] for n in ("label", "prediction"))
    expected = {
        "accuracy": lambda: np.mean([a == b for a, b in zip(label, said, strict=True)]),
        "pearson": lambda: correlations(said, label)["pearson"],
        "f1_micro": lambda: multi_label_metrics(
            *([[int(n in one) for n in "abc"] for one in of] for of in (said, label))
        )["f1_micro"],
        "f1": lambda: (
            span_metrics(said, [one["tags"] for one in predictions])["f1"]
            if task == "token_classification"
            else answer_metrics(said, [one["answers"] for one in predictions])["f1"]
        ),
    }[metric.name]()
    assert metric.metric == pytest.approx(expected)


def test_the_interval_and_p_value_are_those_of_the_normal_approximation_for_a_mean():
    generator = np.random.default_rng(1)
    first, second = generator.random(400) < 0.7, generator.random(400) < 0.78
    found = paired_bootstrap(mean_of(first, "accuracy"), mean_of(second, "accuracy"))
    differences = second.astype(float) - first
    error = differences.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (differences.mean() - 1.96 * error, differences.mean() + 1.96 * error), abs=0.006
    )
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(differences.mean()) / error), abs=0.02)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(5, 60))
def test_a_model_differs_from_itself_by_nothing_and_from_a_better_one_by_much(seed, count):
    generator = np.random.default_rng(seed)
    right, predicted = generator.integers(0, 3, count), generator.integers(3, 5, count)
    same = f1_of(right, predicted, predicted, "f1")
    assert paired_bootstrap(same, same, resamples=200) == (same.metric, same.metric, 0, 0, 1)
    better = f1_of(predicted, predicted, predicted, "f1")
    assert paired_bootstrap(same, better, resamples=400).p_value < 0.05
    with pytest.raises(ValueError, match="compare predictions for the same ones"):
        paired_bootstrap(same, f1_of(right[1:], right[1:], right[1:], "f1"))


@given(values=st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=30))
@example(values=[(1, 0), (0, 0), (0, 0), (0, 0.5), (0, -5.960464477539063e-08)])
def test_the_correlation_of_a_resample_is_that_of_its_examples(values):
    x, y = (np.array(of) for of in zip(*values, strict=True))
    drawn = np.random.default_rng(0).multinomial(len(x), np.full(len(x), 1 / len(x)))
    statistics = pearson_of(x, y)
    chosen = np.repeat(np.arange(len(x)), drawn)
    found = float(statistics.combine(drawn @ statistics.values))
    if x[chosen].std() > 1e-3 and y[chosen].std() > 1e-3:
        assert found == pytest.approx(np.corrcoef(x[chosen], y[chosen])[0, 1], abs=1e-6)
    assert -1 <= found <= 1
