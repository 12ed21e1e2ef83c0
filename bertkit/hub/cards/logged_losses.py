"""The losses of a run as its log tells them: a table for the model card, and a picture where matplotlib is installed."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PICTURE = "losses.png"
_ROWS = 10


@dataclass(frozen=True)
class LoggedLosses:
    """Losses by step.

    Args:
        train: step -> mean loss since the entry before.
        evaluation: step -> loss on the evaluation part.
    """

    train: dict[int, float]
    evaluation: dict[int, float]

    @classmethod
    def read(cls, log: Path, *, up_to: int) -> "LoggedLosses":
        """Read the log of a run.

        Args:
            log: `log.jsonl`; it need not be there.
            up_to: the last step that counts.
        """
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        entries = [entry for entry in map(json.loads, lines) if entry["step"] <= up_to]
        return cls(
            *(
                {entry["step"]: entry[name] for entry in entries if name in entry}
                for name in ("train_loss", "eval_loss")
            )
        )

    def table(self) -> str:
        """Return some of the losses, evenly spread, as a table of Markdown; "" where nothing was logged."""
        steps = sorted({*_spread(sorted(self.train)), *_spread(sorted(self.evaluation))})
        rows = [
            f"| {step:,} | {_shown(self.train.get(step))} | {_shown(self.evaluation.get(step))} |" for step in steps
        ]
        return "\n".join(["| step | training loss | evaluation loss |", "|---|---|---|", *rows]) if rows else ""

    def draw(self, folder: Path) -> bool:
        """Draw the losses into a folder, as `losses.png`.

        Returns:
            Whether there is a picture: of one point there is none to draw, nor without matplotlib.
        """
        if len(self.train) < 2:
            return False
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return False
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot([*self.train], [*self.train.values()], label="training")
        if self.evaluation:
            axes.plot([*self.evaluation], [*self.evaluation.values()], marker="o", markersize=4, label="evaluation")
        axes.set(xlabel="step", ylabel="loss")
        axes.legend()
        figure.savefig(folder / PICTURE, dpi=100)
        return True


def _spread(steps: Sequence[int]) -> Iterable[int]:
    """Return at most `_ROWS` of the steps, the first and the last among them.

    >>> _spread(range(1, 101))
    [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]
    """
    if len(steps) <= _ROWS:
        return steps
    return [steps[round(number * (len(steps) - 1) / (_ROWS - 1))] for number in range(_ROWS)]


def _shown(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"
