"""Regression: a number for a text or a pair of texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.health import Finding
from bertkit.tasks.labelled_data import LabelledDataArguments, LabelledText
from bertkit.tasks.significance import Statistics, pearson_of
from bertkit.tasks.sources import is_missing
from bertkit.tasks.task import TaskEvaluation
from bertkit.tasks.texts import TextArguments, TextTask, in_a_line, rows_of, texts_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class ScoredText(LabelledText):
    """A text, or a pair of texts, and the number that people gave it, as `label`."""

    @property
    def group(self) -> str:
        """All examples are of one group."""
        return ""


@dataclass(kw_only=True)
class ScoredDataArguments(LabelledDataArguments):
    """Where the texts and their numbers come from and which columns hold what.

    A .txt file has a number, a space and a text on each line.
    """

    def make(self, text: str, text_pair: str | None, value: Any, place: str) -> ScoredText:
        """Make an example of a row; `label` is the number as it is written."""
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise DataError(f"{place}: no number in column {self.label_column!r}; give it one, or leave the row out")
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise DataError(f"{place}: {value!r} is no number; name the column of the numbers by data.label_column")
        return ScoredText(text, text_pair, str(value).strip(), place)

    def unlabelled(self, text: str, text_pair: str | None, place: str) -> ScoredText:
        """Make an example whose number is not known, ""."""
        return ScoredText(text, text_pair, "", place)


@dataclass(kw_only=True)
class RegressionArguments(TextArguments):
    """Settings of the task `regression`."""

    name: Literal["regression"] = "regression"
    """The task: a number for every text, or every pair of texts."""


class RegressionTask(TextTask[ScoredText]):
    """How texts with numbers become batches."""

    arguments_class = RegressionArguments
    data_class = ScoredDataArguments
    problem_type = "regression"
    metric_names = ("pearson", "spearman", "loss")
    floor_name = "variance of the numbers"
    loss_unit = ""

    def __init__(
        self,
        arguments: RegressionArguments,
        tokenizer: "PreTrainedTokenizerBase",
        label_names: Sequence[str] = ("score",),
    ) -> None:
        super().__init__(arguments, tokenizer, label_names)

    @classmethod
    def from_examples(
        cls, arguments: RegressionArguments, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[ScoredText]
    ) -> Self:
        """Make the task of telling these examples' numbers.

        Raises:
            DataError: they are all the same.
        """
        if len({float(example.label) for example in examples}) < 2:
            raise DataError(f"the training data has one number only, {examples[0].label}; there is nothing to learn")
        return cls(arguments, tokenizer)

    def targets(self, examples: Sequence[ScoredText]) -> np.ndarray:
        """Return the numbers, (examples,)."""
        return np.array([float(example.label) for example in examples], dtype=np.float32)

    def floor(self, targets: np.ndarray) -> float:
        """Return the variance: the squared error of always answering the mean."""
        return float(targets.var())

    def metrics(self, scores: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
        """Compute the correlations, and the mean squared error as loss."""
        from bertkit.tasks.metrics import correlations

        predictions = scores.squeeze(-1)
        return {
            **correlations(predictions.tolist(), targets.tolist()),
            "loss": float((predictions.double() - targets.double()).square().mean()),
        }

    def predictions(self, examples: Sequence[ScoredText], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield text, label and prediction of each example."""
        for example, row in zip(examples, rows_of(evaluation), strict=True):
            label = float(example.label) if example.label else None
            yield {**texts_of(example), "label": label, "prediction": round(float(row[0]), 6)}

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return number and text between tabs."""
        return f"{prediction['prediction']:.4f}\t{in_a_line(prediction)}"

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return Pearson's correlation; see `Task.statistics`."""
        return pearson_of(*(np.array([one[name] for one in predictions]) for name in ("prediction", "label")))

    def guess(self, examples: Sequence[ScoredText]) -> float:
        """Return the mean."""
        return mean(float(example.label) for example in examples)

    def guess_metrics(self, guess: float, examples: Sequence[ScoredText]) -> dict[str, float]:
        """Return the metrics of always answering `guess`; a constant has no correlation."""
        targets = self.targets(examples).astype(np.float64)
        return {"pearson": 0.0, "spearman": 0.0, "loss": float(((targets - guess) ** 2).mean())}

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[ScoredText]]) -> list[Finding]:
        """Look at the numbers' range."""
        findings = []
        train = np.array([float(example.label) for example in parts["train"]])
        for part, examples in parts.items():
            numbers = np.array([float(example.label) for example in examples])
            what = f"{part}: {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.3g}, deviation {numbers.std():.3g}"
            outside = numbers.min() < train.min() or numbers.max() > train.max()
            findings.append(
                Finding("warning", "numbers", what, "training has a narrower range")
                if outside
                else Finding("ok", "numbers", what)
            )
        return findings
