"""Sequence classification: one label for a text or a pair of texts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.health import Finding
from bertkit.tasks.class_weights import ClassWeights, class_weights, refuse_unknown_weights
from bertkit.tasks.health import check_labels, check_texts
from bertkit.tasks.labelled_data import LabelledDataArguments, LabelledText, most_frequent
from bertkit.tasks.significance import Statistics, mean_of
from bertkit.tasks.task import TaskEvaluation
from bertkit.tasks.texts import TextArguments, TextTask, in_a_line, rounded, rows_of, texts_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class SequenceClassificationArguments(TextArguments):
    """Settings of the task `sequence_classification`."""

    name: Literal["sequence_classification"] = "sequence_classification"
    """The task: a class for every text, or every pair of texts."""
    class_weights: ClassWeights = None
    """What an error costs by class, in training: `balanced` (as much as the class is rare), or a number for each label."""


class SequenceClassificationTask(TextTask[LabelledText]):
    """How labelled texts become batches.

    Raises:
        DataError: fewer than two classes, or weights for other ones.
    """

    arguments_class = SequenceClassificationArguments
    data_class = LabelledDataArguments
    problem_type = "single_label_classification"
    metric_names = ("accuracy", "f1", "matthews_correlation", "loss")

    def __init__(
        self,
        arguments: SequenceClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        label_names: Sequence[str],
        label_frequencies: Mapping[str, int] | None = None,
    ) -> None:
        if len(label_names) < 2:
            raise DataError(f"the training data has one label only, {', '.join(label_names)}; a class needs another")
        refuse_unknown_weights(arguments.class_weights, label_names)
        super().__init__(arguments, tokenizer, label_names, label_frequencies)

    @classmethod
    def from_examples(
        cls,
        arguments: SequenceClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        examples: Sequence[LabelledText],
    ) -> Self:
        """Make the task of telling the labels of these examples apart."""
        return cls(arguments, tokenizer, label_names(examples), Counter(example.label for example in examples))

    @property
    def config_settings(self) -> dict[str, Any]:
        """Fields of the model's config that the task sets."""
        settings = super().config_settings
        if self.label_frequencies is not None and self.arguments.class_weights is not None:
            settings["class_weights"] = class_weights(
                self.arguments.class_weights, self.label_names, self.label_frequencies
            )
        return settings

    def targets(self, examples: Sequence[LabelledText]) -> np.ndarray:
        """Return the classes, (examples,)."""
        for example in examples:
            if example.label not in self.label_ids:
                raise DataError(
                    f"{example.place}: label {example.label!r} is not known; the training data has "
                    f"{', '.join(self.label_names)}"
                )
        return np.array([self.label_ids[example.label] for example in examples])

    def floor(self, targets: np.ndarray) -> float:
        """Return the entropy of the labels in nats: the loss of a model that knows how frequent each class is, and no more."""
        shares = np.array(list(Counter(targets.tolist()).values())) / len(targets)
        return float(-(shares * np.log(shares)).sum())

    def metrics(self, scores: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
        """Compute the metrics and the loss, all classes weighing alike."""
        import torch.nn.functional as F

        from bertkit.tasks.metrics import classification_metrics

        return {
            **classification_metrics(scores.argmax(-1).tolist(), targets.tolist(), num_labels=scores.shape[-1]),
            "loss": float(F.cross_entropy(scores, targets)),
        }

    def predictions(self, examples: Sequence[LabelledText], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield text, label, prediction and probabilities of each example."""
        for example, row in zip(examples, rows_of(evaluation), strict=True):
            yield {
                **texts_of(example),
                "label": example.label,
                "prediction": self.label_names[int(row.argmax())],
                "probabilities": rounded(self.label_names, row.softmax(-1).tolist()),
            }

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return label, probability and text between tabs."""
        label = prediction["prediction"]
        return f"{label}\t{prediction['probabilities'][label]:.4f}\t{in_a_line(prediction)}"

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the accuracy; see `Task.statistics`."""
        right = np.array([one["label"] == one["prediction"] for one in predictions])
        return mean_of(right, "accuracy")

    def guess(self, examples: Sequence[LabelledText]) -> str:
        """Return the most frequent label, the first in the alphabet of equally frequent ones."""
        return most_frequent([example.label for example in examples])

    def guess_metrics(self, guess: str, examples: Sequence[LabelledText]) -> dict[str, float]:
        """Return the metrics of always answering `guess`."""
        from bertkit.tasks.metrics import classification_metrics

        references = self.targets(examples).tolist()
        predictions = [self.label_ids[guess]] * len(references)
        return classification_metrics(predictions, references, num_labels=len(self.label_names))

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[LabelledText]]) -> list[Finding]:
        """Look at the labels and the texts."""
        return [*check_labels(parts), *check_texts(parts)]


def label_names(examples: Sequence[LabelledText]) -> list[str]:
    """Return the labels of examples in their order: by number where all are numbers, else by the alphabet.

    >>> label_names([LabelledText("", None, label, "") for label in ("10", "9", "10")])
    ['9', '10']
    """
    return in_order({example.label for example in examples})


def in_order(names: set[str]) -> list[str]:
    """Sort labels by number where all are numbers, else by the alphabet."""
    return sorted(names, key=int) if all(name.lstrip("-").isdecimal() for name in names) else sorted(names)
