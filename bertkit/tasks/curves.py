"""How a metric grows with the number of labels, for several methods side by side: a table, a .csv file and a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple


class Point(NamedTuple):
    """What a method reached with a number of labels."""

    method: str
    labels: int
    """Training examples."""
    seed: int
    value: float
    """The metric."""


def spread(points: Sequence[Point], method: str, labels: int) -> tuple[float, float | None] | None:
    """Return mean and standard deviation (n − 1; None for one run) over the seeds; None where there is no run.

    Args:
        points: all that there are.
        method: of these.
        labels: with so many.

    >>> spread([Point("bow", 50, 0, 0.5), Point("bow", 50, 1, 0.75)], "bow", 50)[0]
    0.625
    """
    values = [point.value for point in points if (point.method, point.labels) == (method, labels)]
    if not values:
        return None
    return mean(values), stdev(values) if len(values) > 1 else None


def format_curve(points: Sequence[Point], metric: str) -> str:
    """Lay points out as a table: a line a number of labels, a column a method.

    Args:
        points: the points.
        metric: what their values are.

    >>> print(format_curve([Point("bow", 50, 0, 0.5), Point("bow", 50, 1, 0.7), Point("pretrained", 50, 0, 0.8)], "accuracy"))
    accuracy, by labels                 bow        pretrained
    50                      0.6000 ± 0.1414            0.8000
    """
    methods = list(dict.fromkeys(point.method for point in points))
    lines = [f"{f'{metric}, by labels':<21}" + "".join(f"{method.replace('_', ' '):>18}" for method in methods)]
    for labels in sorted({point.labels for point in points}):
        cells = []
        for method in methods:
            found = spread(points, method, labels)
            cell = "n/a" if found is None else f"{found[0]:.4f}" + ("" if found[1] is None else f" ± {found[1]:.4f}")
            cells.append(f"{cell:>18}")
        lines.append(f"{labels:<21,}" + "".join(cells))
    return "\n".join(lines)


def write_curve(points: Sequence[Point], metric: str, folder: Path) -> str:
    """Write `learning_curve.csv` and, where matplotlib is installed, `learning_curve.png`.

    Args:
        points: the points.
        metric: what their values are.
        folder: where.

    Returns:
        Where to look, for the log.
    """
    table, picture = folder / "learning_curve.csv", folder / "learning_curve.png"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*Point._fields[:-1], metric])
        writer.writerows(points)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f"{table} (pip install 'bertkit[plot]' for a picture)"
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    sizes = sorted({point.labels for point in points})
    for method in dict.fromkeys(point.method for point in points):
        found = [(size, spread(points, method, size)) for size in sizes]
        there = [(size, *value) for size, value in found if value is not None]
        labels, means, deviations = zip(*there, strict=True)
        errors = [deviation or 0.0 for deviation in deviations]
        axes.errorbar(labels, means, yerr=errors, marker="o", capsize=3, label=method.replace("_", " "))
    axes.set(xscale="log", xlabel="labelled examples", ylabel=metric.replace("_", " "))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(picture, dpi=120)
    return str(picture)
