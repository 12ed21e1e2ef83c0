"""A learning rate by trying: Smith 2017's range test (https://arxiv.org/abs/1506.01186), its choice and its picture.

The rate rises exponentially from step to step. As long as it is too low the loss stays where it is, then it falls, and from
some rate on it grows. What is chosen is the rate at which it falls most steeply, seen over the logarithm of the rate, once it
has left the level that it began at for good: before that it falls and rises only because batches differ.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
_TOO_HIGH = 4.0
"""The test is over when the running mean of the loss is as many times the lowest it has been."""
_MEMORY = 0.9
"""Weight of what was before in that mean."""
_WIDTH = 3.0
"""Standard deviation of the bell that the curve is smoothed with, in steps: 14 of them are a factor of 10 in the rate."""
_AT_FIRST = 14
"""Steps whose mean loss is the level that the test began at: a factor of 10 in the rate."""
_LEFT = 0.2
"""Share of the way from that level to the lowest loss behind which the level is left."""
_SURE = 3.0
"""Standard errors of the smoothed loss that it has to fall by, to be more than batches that differ."""


@dataclass(frozen=True)
class Curve:
    """What the test saw.

    Args:
        rates: (steps,) rising.
        losses: (steps,) the loss of each step, before its update.
    """

    rates: list[float]
    losses: list[float]

    def smoothed(self) -> np.ndarray:
        """Return the losses (steps,), each the mean of those around it."""
        places = np.arange(len(self.losses))
        weights = np.exp(-0.5 * ((places[:, None] - places) / _WIDTH) ** 2)  # (steps, steps)
        smoothed: np.ndarray = weights @ self.losses / weights.sum(axis=1)
        return smoothed

    def chosen(self) -> float:
        """Return the rate at which the smoothed loss falls most steeply, to two digits.

        Looked at are the steps from the last one at the level of the first steps to the lowest one.

        Raises:
            ValueError: it never falls.
        """
        smoothed = self.smoothed()
        lowest = int(smoothed.argmin())
        if lowest == 0:
            raise ValueError(
                f"training.learning_rate find: the loss of {len(self.losses)} steps at rates from {LOWEST:g} on never fell; "
                "give a number"
            )
        level = self._level()
        at_level = np.flatnonzero(smoothed[:lowest] >= level - _LEFT * (level - smoothed[lowest]))
        left = int(at_level[-1]) if len(at_level) else 0
        slopes = np.gradient(smoothed, np.log10(self.rates))
        return float(f"{self.rates[left + int(slopes[left : lowest + 1].argmin())]:.2g}")

    def doubt(self) -> str | None:
        """Return what speaks against the chosen rate, if the loss fell by no more than batches differ; else None."""
        smoothed = self.smoothed()
        fall = self._level() - smoothed.min()
        until = max(int(smoothed.argmin()), _AT_FIRST) + 1
        of_a_step = np.sqrt(np.mean(np.diff(self.losses[:until]) ** 2) / 2)  # what a trend adds to it is little
        error = of_a_step / np.sqrt(2 * np.sqrt(np.pi) * _WIDTH)  # of a mean weighted by the bell
        if fall >= _SURE * error:
            return None
        return (
            f"the smoothed loss fell by no more than {max(fall, 0.0):.2g} at any rate, and batches alone make it differ by "
            f"{_SURE * error:.2g}: the rate found means little; give training.learning_rate a number, or look again with a "
            "larger training.train_batch_size"
        )

    def _level(self) -> float:
        return float(np.mean(self.losses[:_AT_FIRST]))


def range_test(loss_at: Callable[[int, float], float]) -> Curve:
    """Try rates until the loss grows out of hand.

    Args:
        loss_at: makes a step, by its number, at a rate; returns the loss it had before.
    """
    rates: list[float] = []
    losses: list[float] = []
    running, weight, lowest = 0.0, 0.0, math.inf
    for step in range(STEPS):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        loss = loss_at(step, rate)
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        running, weight = _MEMORY * running + (1 - _MEMORY) * loss, _MEMORY * weight + 1 - _MEMORY
        lowest = min(lowest, running / weight)
        if running / weight > _TOO_HIGH * lowest:
            break
    if len(losses) < 2:
        raise ValueError("training.learning_rate find: the loss of the first steps is not finite; look at the data")
    return Curve(rates, losses)


def write_curve(curve: Curve, folder: Path) -> str:
    """Write `learning_rate.csv` and, where matplotlib is installed, `learning_rate.png`.

    Args:
        curve: what the test saw.
        folder: of the run.

    Returns:
        Where to look, for the log.
    """
    table, picture = folder / "learning_rate.csv", folder / "learning_rate.png"
    smoothed = curve.smoothed()
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["learning_rate", "loss", "smoothed_loss"])
        writer.writerows(zip(curve.rates, curve.losses, smoothed.tolist(), strict=True))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f"{table} (pip install 'bertkit[plot]' for a picture)"
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="0.75", label="loss")
    axes.plot(curve.rates, smoothed, label="smoothed")
    axes.axvline(curve.chosen(), color="C1", linestyle="--", label=f"chosen: {curve.chosen():g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.set_ylim(top=1.2 * max(curve.losses[: 1 + len(curve.losses) // 2]), bottom=0.9 * smoothed.min())
    axes.legend()
    figure.savefig(picture, dpi=120)
    return str(picture)
