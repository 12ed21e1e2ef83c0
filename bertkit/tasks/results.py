"""What came of fine-tuning: metrics by part of the data, over seeds, beside the guess that ignores the text."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any


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
    """Lay results out as a table: a line a metric, for each part of the data the model beside the guess that ignores the text.

    Args:
        results: `mean` and `standard_deviation` as `summarise` gives them, and by part `guess`, the metrics of that guess.

    >>> one = {"mean": {"eval": {"accuracy": 0.8, "loss": 0.5}}, "standard_deviation": {"eval": {"accuracy": 0.01}}}
    >>> print(format_results({**one, "guess": {"eval": {"accuracy": 0.5}}}))
                                     eval       guess
    accuracy              0.8000 ± 0.0100      0.5000
    loss                           0.5000
    """
    parts = list(results["mean"])
    lines = ["".join([f"{'':<20}", *(f"{part:>17}{'guess':>12}" for part in parts)])]
    for name in results["mean"][parts[0]]:
        line = f"{name.replace('_', ' '):<20}"
        for part in parts:
            deviation = results["standard_deviation"][part].get(name)
            value = f"{results['mean'][part][name]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
            baseline = results["guess"][part].get(name)
            line += f"{value:>17}" + (f"{'':>12}" if baseline is None else f"{baseline:>12.4f}")
        lines.append(line.rstrip())
    return "\n".join(lines)
