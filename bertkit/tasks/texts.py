"""What tasks about whole texts, or pairs of texts, have in common: examples, batches, and a row of scores for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bertkit.data.packing import pad_to_multiple
from bertkit.tasks.packed_examples import (
    EXAMPLES_MULTIPLE,
    IGNORED,
    Template,
    TokenizedExamples,
    end_to_end,
    lay_out,
    model_inputs,
    pieces_of,
    truncated_lengths,
)
from bertkit.tasks.task import AnyExample, Task, TaskBatches, TaskEvaluation

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class TextArguments:
    """How texts are cut."""

    max_length: int = 128
    """Longest example in tokens, special ones included; what is longer is cut at its end."""
    truncation: Literal["longest_first", "only_first", "only_second"] = "longest_first"
    """Which text of a pair is cut: the longer one until both are as long, or always the first or the second."""

    def __post_init__(self) -> None:
        """Refuse what leaves no room for text.

        Raises:
            ValueError: an example too short for two texts and their special tokens.
        """
        if self.max_length < 8:
            raise ValueError(f"task.max_length is {self.max_length}; an example needs at least 8 tokens")


class TextTask(Task[AnyExample]):
    """Labelled texts as batches; what their labels are as numbers is for each task to say."""

    auto_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    unit = "texts"
    floor_name: ClassVar[str] = "entropy of the labels"
    loss_unit: ClassVar[str] = "nats"

    @property
    def config_settings(self) -> dict[str, Any]:
        """Fields of the model's config that the task sets."""
        return {
            "id2label": dict(enumerate(self.label_names)),
            "label2id": self.label_ids,
            "problem_type": self.problem_type,
        }

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of one example's labels: a number, unless the task says otherwise."""
        return ()

    def targets(self, examples: Sequence[Any]) -> np.ndarray:
        """Return the labels as the model takes them, (examples, ...).

        Raises:
            DataError: a label that is not known.
        """
        raise NotImplementedError

    def floor(self, targets: np.ndarray) -> float:
        """Return the loss of the best guess that ignores the text."""
        raise NotImplementedError

    def metrics(self, scores: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
        """Compute the metrics.

        Args:
            scores: (examples, labels) the model's logits.
            targets: (examples, ...) as `targets` gives them.
        """
        raise NotImplementedError

    def batches(self, examples: Sequence[Any], *, seed: int = 0, training: bool) -> "TextBatches":
        """Tokenize examples for the Trainer; see `Task.batches`."""
        return TextBatches(self, self.tokenize(examples), self.targets(examples), seed=seed, training=training)

    def unlabelled_batches(self, examples: Sequence[Any]) -> "TextBatches":
        """Tokenize examples whose labels are not known."""
        tokenized = self.tokenize(examples)
        targets = np.full((len(examples), *self.target_shape), IGNORED)
        return TextBatches(self, tokenized, targets, seed=0, training=False)

    def evaluation_of_scores(self, examples: Sequence[Any], scores: np.ndarray) -> "TextEvaluation":
        """Return the evaluation of a model that is no network.

        Args:
            examples: what it was asked about.
            scores: (examples, labels) its logits.
        """
        import torch

        is_labelled = all(getattr(example, "label", None) != "" for example in examples)  # of predictions none is
        targets = self.targets(examples) if is_labelled else np.full((len(examples), *self.target_shape), IGNORED)
        evaluation = TextEvaluation(self, targets, num_scores=scores.shape[1])
        evaluation.totals = {"logits": torch.from_numpy(scores).float(), "evaluated": torch.ones(len(examples))}
        return evaluation

    def tokenize(self, examples: Sequence[Any]) -> TokenizedExamples:
        """Turn texts into token ids, cut to `max_length`; nothing is padded.

        Args:
            examples: texts, all of them pairs or none.
        """
        is_pair = examples[0].text_pair is not None
        template = Template(self.reader, is_pair=is_pair)
        room = self.arguments.max_length - template.num_special_tokens
        firsts = pieces_of(self.reader, [example.text for example in examples])
        seconds = pieces_of(self.reader, [example.text_pair or "" for example in examples])
        filled = []
        num_truncated = 0
        for first, second in zip(firsts, seconds, strict=True):
            keep = truncated_lengths(len(first), len(second), room, self.arguments.truncation)
            num_truncated += keep != (len(first), len(second))
            filled.append(template.fill(first[: keep[0]], second[: keep[1]]))
        return end_to_end(filled, num_truncated=num_truncated, spellings=self.spellings)


class TextBatches(TaskBatches):
    """Texts packed into rows.

    Args:
        task: whose examples they are.
        tokenized: the examples.
        targets: (examples, ...) their labels.
        seed: key of their order.
        training: shuffled anew each epoch; else in order.
    """

    def __init__(
        self, task: TextTask[Any], tokenized: TokenizedExamples, targets: np.ndarray, *, seed: int, training: bool
    ) -> None:
        super().__init__(task, tokenized, num_examples=len(targets), seed=seed, training=training)
        self.task = task
        self.targets = targets
        self.floor_name, self.loss_unit = task.floor_name, task.loss_unit

    @cached_property
    def loss_floor(self) -> float:
        """Loss of the best guess that ignores the text."""
        return self.task.floor(self.targets)

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the examples at places `start` to `stop`; `labels` and `example_ids` have an entry for each."""
        layout = lay_out(self.tokenized, self.order.between(start, stop), max_width=self.tokens_per_example)
        return {
            **model_inputs(self.tokenized, layout, pad_token_id=self.pad_token_id),
            "labels": pad_to_multiple(self.targets[layout.example_ids], EXAMPLES_MULTIPLE, IGNORED),
            "example_ids": pad_to_multiple(layout.example_ids, EXAMPLES_MULTIPLE, -1),
        }

    def evaluation(self) -> TaskEvaluation:
        """Begin an evaluation."""
        return TextEvaluation(self.task, self.targets, num_scores=len(self.task.label_names))


class TextEvaluation:
    """The logits of every example, and the metrics over those that were evaluated.

    Args:
        task: whose metrics they are.
        targets: (examples, ...) the labels.
        num_scores: logits of an example.
    """

    def __init__(self, task: TextTask[Any], targets: np.ndarray, *, num_scores: int) -> None:
        import torch

        self.task = task
        self.targets = torch.from_numpy(targets)
        self.totals: dict[str, torch.Tensor] = {
            "logits": torch.zeros(len(targets), num_scores),
            "evaluated": torch.zeros(len(targets)),
        }

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Add the logits of a batch, each at its example's place."""
        example_ids = batch["example_ids"].cpu()
        real = example_ids >= 0
        self.totals["logits"][example_ids[real]] = outputs.logits.float().cpu()[real]
        self.totals["evaluated"][example_ids[real]] = 1

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        evaluated = self.totals["evaluated"] > 0
        return self.task.metrics(self.totals["logits"][evaluated], self.targets[evaluated])


def texts_of(example: Any) -> dict[str, str]:
    """Return an example's `text`, and `text_pair` if it has one, as a predictions file names them."""
    return {"text": example.text, **({} if example.text_pair is None else {"text_pair": example.text_pair})}


def in_a_line(prediction: Mapping[str, Any]) -> str:
    """Return the text of a prediction, or both, as columns of a line."""
    texts = [prediction[name] for name in ("text", "text_pair") if name in prediction]
    return "\t".join(" ".join(text.split()) for text in texts)


def rounded(names: Sequence[str], shares: Sequence[float]) -> dict[str, float]:
    """Return probabilities by label, as a predictions file holds them."""
    return {name: round(share, 6) for name, share in zip(names, shares, strict=True)}


def rows_of(evaluation: TaskEvaluation) -> Iterator[Any]:
    """Yield the logits of each example, as double precision tensors (labels,)."""
    yield from evaluation.totals["logits"].double()
