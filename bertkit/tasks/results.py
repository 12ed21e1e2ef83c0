"""What came of fine-tuning: metrics by part of the data, over seeds, beside the guess that ignores the text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, TypeAlias

from bertkit.tasks.labelled_data import LabelledText

Metrics: TypeAlias = Mapping[str, float]


def majority_metrics(label: str, examples: Sequence[LabelledText], label_names: Sequence[str]) -> dict[str, float]:
    """Return the metrics of always answering `label`.

    Args:
        label: the answer.
        examples: what is asked.
        label_names: (labels,).
    """
    from bertkit.tasks.metrics import classification_metrics

    numbers = {name: number for number, name in enumerate(label_names)}
    references = [numbers[example.label] for example in examples]
    return classification_metrics([numbers[label]] * len(references), references, num_labels=len(label_names))


def majority_label(examples: Sequence[LabelledText]) -> str:
    """Return the most frequent label, the first in the alphabet of equally frequent ones."""
    counts = Counter(example.label for example in examples)
    return min(counts, key=lambda label: (-counts[label], label))


def summarise(runs: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the mean of each metric over runs, and the standard deviation of a run (n − 1; None for one run).

    Args:
        runs: each with its metrics by part.
        parts: which parts.

    >>> summarise([{"eval": {"accuracy": 0.5}}, {"eval": {"accuracy": 0.7}}], ["eval"])["mean"]
    {'eval': {'accuracy': 0.6}}
    """
    values = {part: {name: [run[part][name] for run in runs] for name in runs[0][part]} for part in parts}
    return {
        "mean": {part: {name: mean(of) for name, of in metrics.items()} for part, metrics in values.items()},
        "standard_deviation": {
            part: {name: stdev(of) if len(of) > 1 else None for name, of in metrics.items()}
            for part, metrics in values.items()
        },
    }


def format_results(results: Mapping[str, Any]) -> str:
    """Lay results out as a table: a line a metric, and for each part of the data the model beside the majority class.

    Args:
        results: `mean` and `standard_deviation` as `summarise` gives them, and `majority` metrics by part.

    >>> one = {"mean": {"eval": {"accuracy": 0.8, "loss": 0.5}}, "standard_deviation": {"eval": {"accuracy": 0.01}}}
    >>> print(format_results({**one, "majority": {"eval": {"accuracy": 0.5}}}))
                                     eval    majority
    accuracy              0.8000 ± 0.0100      0.5000
    loss                           0.5000
    """
    parts = list(results["mean"])
    lines = ["".join([f"{'':<20}", *(f"{part:>17}{'majority':>12}" for part in parts)])]
    for name in results["mean"][parts[0]]:
        line = f"{name.replace('_', ' '):<20}"
        for part in parts:
            deviation = results["standard_deviation"][part].get(name)
            value = f"{results['mean'][part][name]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
            baseline = results["majority"][part].get(name)
            line += f"{value:>17}" + (f"{'':>12}" if baseline is None else f"{baseline:>12.4f}")
        lines.append(line.rstrip())
    return "\n".join(lines)
