"""Multi-label classification: any number of labels for a text or a pair of texts, each of which holds or does not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from bertkit.data.errors import DataError, listed
from bertkit.data.health import Finding
from bertkit.tasks.labelled_data import LabelledDataArguments, label_of
from bertkit.tasks.sequence_classification import in_order
from bertkit.tasks.significance import Statistics, f1_of
from bertkit.tasks.sources import is_missing
from bertkit.tasks.task import TaskEvaluation
from bertkit.tasks.texts import TextArguments, TextTask, in_a_line, rounded, rows_of, texts_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class MultiLabelledText(NamedTuple):
    """A text, or a pair of texts, with its labels."""

    text: str
    text_pair: str | None
    labels: tuple[str, ...]
    place: str

    @property
    def group(self) -> str:
        """All examples are of one group: combinations of labels are too many to share out each."""
        return ""


@dataclass(kw_only=True)
class MultiLabelDataArguments(LabelledDataArguments):
    """Where the texts and their labels come from and which columns hold what."""

    label_column: str = "labels"
    """Column that holds the labels: a list, or in a table text with `label_separator` between them."""
    label_separator: str = ","
    """What stands between labels that are written in one field; an empty field has none."""

    def make(self, text: str, text_pair: str | None, value: Any, place: str) -> MultiLabelledText:  # type: ignore[override]
        """Make an example of a row."""
        if is_missing(value):
            raise DataError(f"{place}: no labels in column {self.label_column!r}; an empty list or field says none")
        if isinstance(value, str):
            value = [label for label in value.split(self.label_separator) if label.strip()]
        values = value if isinstance(value, list) else [value]
        labels = dict.fromkeys(label_of(one, place, self.label_column) for one in values)
        return MultiLabelledText(text, text_pair, tuple(labels), place)

    def unlabelled(self, text: str, text_pair: str | None, place: str) -> MultiLabelledText:  # type: ignore[override]
        """Make an example whose labels are not known."""
        return MultiLabelledText(text, text_pair, (), place)


@dataclass(kw_only=True)
class MultiLabelClassificationArguments(TextArguments):
    """Settings of the task `multi_label_classification`."""

    name: Literal["multi_label_classification"] = "multi_label_classification"
    """The task: for every text each label or not."""


class MultiLabelClassificationTask(TextTask[MultiLabelledText]):
    """How texts with several labels become batches."""

    arguments_class = MultiLabelClassificationArguments
    data_class = MultiLabelDataArguments
    problem_type = "multi_label_classification"
    metric_names = ("f1_micro", "f1_macro", "subset_accuracy", "loss")

    @classmethod
    def from_examples(
        cls,
        arguments: MultiLabelClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        examples: Sequence[MultiLabelledText],
    ) -> Self:
        """Make the task of finding the labels that these examples bear.

        Raises:
            DataError: there are fewer than two.
        """
        names = in_order({label for example in examples for label in example.labels})
        if len(names) < 2:
            raise DataError(f"the training data has {listed(names) or 'no label'} only; give texts with other labels")
        return cls(arguments, tokenizer, names)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A number for each label."""
        return (len(self.label_names),)

    def targets(self, examples: Sequence[MultiLabelledText]) -> np.ndarray:
        """Return 1 for each label that an example bears and 0 for the others, (examples, labels)."""
        targets = np.zeros((len(examples), len(self.label_names)), dtype=np.float32)
        for number, example in enumerate(examples):
            for label in example.labels:
                if label not in self.label_ids:
                    known = listed(self.label_names)
                    raise DataError(f"{example.place}: label {label!r} is not known; the training data has {known}")
                targets[number, self.label_ids[label]] = 1
        return targets

    def floor(self, targets: np.ndarray) -> float:
        """Return the mean entropy of the labels in nats, each taken for itself."""
        shares = targets.mean(axis=0).clip(1e-9, 1 - 1e-9)
        return float(-(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean())

    def metrics(self, scores: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
        """Compute the metrics, a label holding where it is more likely than not."""
        import torch.nn.functional as F

        from bertkit.tasks.metrics import multi_label_metrics

        return {
            **multi_label_metrics((scores > 0).long().tolist(), targets.long().tolist()),
            "loss": float(F.binary_cross_entropy_with_logits(scores, targets)),
        }

    def predictions(
        self, examples: Sequence[MultiLabelledText], evaluation: TaskEvaluation
    ) -> Iterator[dict[str, Any]]:
        """Yield text, labels, predictions and probabilities of each example."""
        for example, row in zip(examples, rows_of(evaluation), strict=True):
            probabilities = row.sigmoid().tolist()
            yield {
                **texts_of(example),
                "labels": list(example.labels),
                "predictions": [n for n, share in zip(self.label_names, probabilities, strict=True) if share > 0.5],
                "probabilities": rounded(self.label_names, probabilities),
            }

    known_fields = ("labels",)

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return the labels with commas between them, their probabilities likewise, and the text, between tabs."""
        labels = prediction["predictions"]
        shares = ",".join(f"{prediction['probabilities'][label]:.4f}" for label in labels)
        return f"{','.join(labels)}\t{shares}\t{in_a_line(prediction)}"

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the micro F1; see `Task.statistics`."""
        found = [({*one["predictions"]}, {*one["labels"]}) for one in predictions]
        right, predicted, true = zip(*((len(a & b), len(a), len(b)) for a, b in found), strict=True)
        return f1_of(np.array(right), np.array(predicted), np.array(true), "f1_micro")

    def guess(self, examples: Sequence[MultiLabelledText]) -> list[str]:
        """Return the labels that more than half of the texts bear, or the most frequent one where none is so frequent."""
        counts = Counter(label for example in examples for label in example.labels)
        frequent = [name for name in self.label_names if counts[name] > len(examples) / 2]
        return frequent or [max(self.label_names, key=lambda name: counts[name])]

    def guess_metrics(self, guess: Sequence[str], examples: Sequence[MultiLabelledText]) -> dict[str, float]:
        """Return the metrics of always answering `guess`."""
        from bertkit.tasks.metrics import multi_label_metrics

        row = [int(name in guess) for name in self.label_names]
        return multi_label_metrics([row] * len(examples), self.targets(examples).astype(int).tolist())

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[MultiLabelledText]]) -> list[Finding]:
        """Look at how often each label occurs."""
        counts = Counter(label for example in parts["train"] for label in example.labels)
        none = sum(not example.labels for example in parts["train"])
        shown = ", ".join(f"{label} {count:,}" for label, count in counts.most_common(10))
        findings = [Finding("ok", "labels", f"{len(counts)}: {shown}; {none:,} texts have none")]
        if rare := [label for label, count in counts.items() if count < 5]:
            what = f"{len(rare)} stand on fewer than 5 training texts, as {rare[0]!r}"
            findings.append(Finding("warning", "labels", what, "give more texts, or join labels"))
        return findings
