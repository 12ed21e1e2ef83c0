"""What a task is to the rest of bertkit: how labelled examples become batches, and what a model says of them a result."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from bertkit.data.health import Finding
from bertkit.tasks.packed_examples import ExampleOrder, TokenizedExamples, num_tokens
from bertkit.tasks.significance import Statistics
from bertkit.tasks.sources import TaskDataArguments
from bertkit.tasks.spelt_words import SpeltWords
from bertkit.tokenization import spells_words

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

AnyExample = TypeVar("AnyExample")


class TaskEvaluation(Protocol):
    """What a model says of the examples of a part, added up batch by batch."""

    totals: dict[str, "torch.Tensor"]
    """Tensors in the host's memory that are summed over the processes."""

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, float]:
        """Return the metrics by name; the labels must be known."""


class TaskBatches:
    """What the Trainer draws from; see `bertkit.training.batches.Batches`.

    Args:
        task: whose examples they are.
        tokenized: the examples.
        num_examples: examples of an epoch.
        seed: key of their order.
        training: shuffled anew each epoch; else in order.
    """

    carried_rows = 0
    floor_name = "entropy of the labels"
    loss_unit = "nats"
    bits_per_nat: ClassVar[Mapping[str, tuple[str, float]]] = {}

    def __init__(
        self, task: "Task[Any]", tokenized: TokenizedExamples, *, num_examples: int, seed: int, training: bool
    ) -> None:
        self.tokenized = tokenized
        self.num_examples = num_examples
        self.label_counts = task.label_counts
        self.loss_terms = task.loss_terms
        self.metric_names = task.metric_names
        self.tokens_per_example = task.arguments.max_length
        self.pad_token_id: int = task.reader.pad_token_id
        self.order = ExampleOrder(num_examples, seed=seed, shuffle=training)

    def __len__(self) -> int:
        """Examples in an epoch."""
        return self.num_examples

    @property
    def loss_floor(self) -> float:
        """Loss of the best guess that ignores the text; infinite where there is none to compare with."""
        raise NotImplementedError

    def shuffled(self, seed: int) -> Self:
        """Return the same examples for training, in a new order each epoch.

        Args:
            seed: key of the orders.
        """
        batches = copy(self)
        batches.order = ExampleOrder(self.num_examples, seed=seed, shuffle=True)
        return batches

    def num_tokens(self, batch: Mapping[str, "torch.Tensor"]) -> int:
        """Return the real tokens of a batch, special ones included."""
        return num_tokens(batch)

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the examples at places `start` to `stop` into rows.

        Args:
            start: first example, counted over all epochs.
            stop: end of the examples.
            progress: not used; nothing here is scheduled.

        Returns:
            What the model's forward takes, and `example_ids`, which of the data each label belongs to (−1 where padded).
        """
        raise NotImplementedError

    def evaluation(self) -> TaskEvaluation:
        """Begin an evaluation."""
        raise NotImplementedError


class Task(Generic[AnyExample]):
    """How labelled examples become batches, and a model's answers metrics and predictions.

    Args:
        arguments: the settings.
        tokenizer: a fast tokenizer, or one that spells words.
        label_names: the labels, by number; none where the answers are no labels.
        label_frequencies: label -> how often it occurs in training; known only there.
    """

    arguments_class: ClassVar[type]
    """Dataclass of its settings, the `task` section of a recipe."""
    data_class: ClassVar[type[TaskDataArguments]]
    """Dataclass of what it reads, the `data` section of a recipe."""
    auto_class: ClassVar[str]
    """The Auto class whose models it trains."""
    problem_type: ClassVar[str | None] = None
    """What of several things such a head can do, as transformers' configs say it."""
    pipeline_tag: ClassVar[str]
    """What the Hub calls models trained so."""
    unit: ClassVar[str]
    """What an example is, in the plural, for messages."""
    if_too_long: ClassVar[str] = "are cut"
    """What becomes of examples longer than task.max_length, for messages."""
    label_counts: ClassVar[Mapping[str, str]] = {"num_items_in_batch": "labels"}
    """Argument of the model's forward -> batch entry whose labels it counts."""
    loss_terms: ClassVar[tuple[str, ...]] = ("loss",)
    known_fields: ClassVar[tuple[str, ...]] = ("label",)
    """Fields of a prediction that hold what people said, and are left out where they said nothing."""

    def __init__(
        self,
        arguments: Any,
        tokenizer: "PreTrainedTokenizerBase",
        label_names: Sequence[str] = (),
        label_frequencies: Mapping[str, int] | None = None,
    ) -> None:
        self.arguments = arguments
        self.tokenizer = tokenizer
        self.reader: Any = SpeltWords(tokenizer) if spells_words(tokenizer) else tokenizer
        """What is asked for token ids: the tokenizer, unless that gives characters instead."""
        self.label_names = tuple(label_names)
        self.label_ids = {name: number for number, name in enumerate(label_names)}
        self.label_frequencies = label_frequencies

    @classmethod
    def from_examples(
        cls, arguments: Any, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[AnyExample]
    ) -> Self:
        """Make the task that the training examples are of.

        Raises:
            DataError: they cannot be learned from.
        """
        return cls(arguments, tokenizer)

    @classmethod
    def from_config(cls, arguments: Any, tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> Self:
        """Make the task that a checkpoint was fine-tuned for."""
        names: dict[Any, str] = config.id2label or {}
        return cls(arguments, tokenizer, [names[number] for number in range(len(names))])

    @property
    def spellings(self) -> np.ndarray | None:
        """(ids, characters) what stands for the token ids that the reader gave so far; None where they stand for themselves."""
        return self.reader.spellings if isinstance(self.reader, SpeltWords) else None

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation gives; the first one names the best checkpoint."""
        raise NotImplementedError

    @property
    def config_settings(self) -> dict[str, Any]:
        """Fields of the model's configuration that the task sets."""
        raise NotImplementedError

    def batches(self, examples: Sequence[AnyExample], *, seed: int = 0, training: bool) -> TaskBatches:
        """Tokenize examples for the Trainer.

        Args:
            examples: the examples.
            seed: key of their order.
            training: shuffled anew each epoch; else in order.

        Raises:
            DataError: a label that the task does not know.
        """
        raise NotImplementedError

    def unlabelled_batches(self, examples: Sequence[AnyExample]) -> TaskBatches:
        """Tokenize examples whose labels are not known, in order."""
        raise NotImplementedError

    def predictions(self, examples: Sequence[AnyExample], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield for each example what stands in a predictions file: its text, its label and what the model says."""
        raise NotImplementedError

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return what a prediction says as the task's own kind of file has it, a line or several.

        Args:
            prediction: one of `predictions`.
        """
        raise NotImplementedError

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the metric that two models are compared by, from the records of a predictions file with labels."""
        raise NotImplementedError

    def guess(self, examples: Sequence[AnyExample]) -> Any:
        """Return the answer that is best on these examples, of those that ignore the text; None where there is none."""
        raise NotImplementedError

    def guess_metrics(self, guess: Any, examples: Sequence[AnyExample]) -> dict[str, float]:
        """Return the metrics of giving that answer always."""
        raise NotImplementedError

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[AnyExample]]) -> list[Finding]:
        """Return what the examples of each part, "train" among them, tell of whether they serve."""
        raise NotImplementedError
