"""Multiple choice: which of several continuations, answers or endings goes with a text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.health import Finding
from bertkit.data.packing import pad_to_multiple
from bertkit.data.records import Record
from bertkit.tasks.labelled_data import LabelledText, label_of, most_frequent
from bertkit.tasks.packed_examples import EXAMPLES_MULTIPLE, IGNORED, TokenizedExamples, lay_out, model_inputs
from bertkit.tasks.significance import Statistics, mean_of
from bertkit.tasks.sources import TaskDataArguments, list_of, read_examples, text_of
from bertkit.tasks.task import TaskBatches, TaskEvaluation
from bertkit.tasks.texts import TextArguments, TextEvaluation, TextTask, rows_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


class ChoiceQuestion(NamedTuple):
    """A text, and what may go with it."""

    text: str
    choices: tuple[str, ...]
    label: str
    """The number of the right one, counted from 0."""
    place: str
    """Where it was read, for messages."""

    @property
    def group(self) -> str:
        """All questions are of one group."""
        return ""


@dataclass(kw_only=True)
class ChoiceDataArguments(TaskDataArguments):
    """Where the questions come from and which columns hold what."""

    text_column: str = "text"
    """Column that holds the text."""
    choices_columns: list[str] | str = "choices"
    """Column that holds the choices as a list, or the columns that hold one each, as [ending0,ending1]."""
    label_column: str = "label"
    """Column that holds the right choice: its number from 0, its letter from A, or its text."""

    def read(self, source: str | Sequence[str], *, default_split: str = "train") -> list[ChoiceQuestion]:
        """Read questions; see `TaskDataArguments.read`."""
        choices = [self.choices_columns] if isinstance(self.choices_columns, str) else self.choices_columns
        return read_examples(
            source,
            self,
            columns=[self.text_column, *choices, self.label_column],
            example_of=self._example,
            settings={
                self.label_column: "label_column",
                **dict.fromkeys(choices, "choices_columns"),
                self.text_column: "text_column",
            },
            default_split=default_split,
        )

    def read_inputs(self, source: str) -> list[ChoiceQuestion]:
        """Read questions whose right choices are not known."""
        choices = [self.choices_columns] if isinstance(self.choices_columns, str) else self.choices_columns
        return read_examples(
            source,
            self,
            columns=[self.text_column, *choices],
            example_of=lambda record: ChoiceQuestion(
                text_of(record, self.text_column), tuple(self._choices(record)), "", record.place
            ),
            settings={**dict.fromkeys(choices, "choices_columns"), self.text_column: "text_column"},
            default_split="test",
        )

    def input_of(self, value: Any, place: str) -> ChoiceQuestion:
        """Make an example of a mapping with `text` and `choices`."""
        if not isinstance(value, Mapping) or not {"text", "choices"} <= {*value} or len(value["choices"]) < 2:
            raise DataError(f"{place} is {value!r}; give a mapping with `text` and a list of two or more `choices`")
        return ChoiceQuestion(str(value["text"]), tuple(map(str, value["choices"])), "", place)

    def _choices(self, record: Record) -> list[str]:
        if isinstance(self.choices_columns, str):
            choices = [str(one).strip() for one in list_of(record, self.choices_columns, what="choices")]
        else:
            choices = [text_of(record, column) for column in self.choices_columns]
        if len(choices) < 2:
            raise DataError(f"{record.place}: {len(choices)} choice only; give two or more")
        return choices

    def _example(self, record: Record) -> ChoiceQuestion:
        choices = self._choices(record)
        label = label_of(record.fields[self.label_column], record.place, self.label_column)
        letters = [chr(ord("A") + number) for number in range(len(choices))]
        for names in ([str(number) for number in range(len(choices))], letters, choices):
            if label in names:
                return ChoiceQuestion(
                    text_of(record, self.text_column), tuple(choices), str(names.index(label)), record.place
                )
        raise DataError(
            f"{record.place}: {label!r} is none of the {len(choices)} choices; give a number from 0, a letter from A, or the "
            "choice's text"
        )


@dataclass(kw_only=True)
class MultipleChoiceArguments(TextArguments):
    """Settings of the task `multiple_choice`."""

    name: Literal["multiple_choice"] = "multiple_choice"
    """The task: the right one of several choices."""


class MultipleChoiceTask(TextTask[ChoiceQuestion]):
    """How questions with choices become batches; each choice is read as a pair with the text."""

    arguments_class = MultipleChoiceArguments
    data_class = ChoiceDataArguments
    auto_class = "AutoModelForMultipleChoice"
    pipeline_tag = "multiple-choice"
    unit = "questions"
    metric_names = ("accuracy", "loss")

    @classmethod
    def from_config(
        cls, arguments: MultipleChoiceArguments, tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig"
    ) -> Self:
        """Make the task that a checkpoint was fine-tuned for; the head's score is no label."""
        return cls(arguments, tokenizer)

    @property
    def config_settings(self) -> dict[str, Any]:
        """Nothing: the head gives every choice one score."""
        return {}

    def batches(self, examples: Sequence[ChoiceQuestion], *, seed: int = 0, training: bool) -> "MultipleChoiceBatches":  # type: ignore[override]
        """Tokenize questions for the Trainer; see `Task.batches`."""
        first = examples[0]
        for example in examples:
            if len(example.choices) != len(first.choices):
                raise DataError(
                    f"{example.place}: {len(example.choices)} choices, but {first.place} has {len(first.choices)}; give all "
                    "questions as many"
                )
        pairs = [LabelledText(e.text, choice, "", e.place) for e in examples for choice in e.choices]
        targets = np.array([int(example.label) if example.label else IGNORED for example in examples])
        return MultipleChoiceBatches(
            self, self.tokenize(pairs), targets, num_choices=len(first.choices), seed=seed, training=training
        )

    def unlabelled_batches(self, examples: Sequence[ChoiceQuestion]) -> "MultipleChoiceBatches":  # type: ignore[override]
        """Tokenize questions whose labels are not known, "" each."""
        return self.batches(examples, training=False)

    def metrics(self, scores: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
        """Compute the metrics."""
        import torch.nn.functional as F

        return {
            "accuracy": float((scores.argmax(-1) == targets).double().mean()),
            "loss": float(F.cross_entropy(scores, targets)),
        }

    def predictions(self, examples: Sequence[ChoiceQuestion], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield text, choices, label, prediction and the choices' probabilities of each question."""
        for example, row in zip(examples, rows_of(evaluation), strict=True):
            yield {
                "text": example.text,
                "choices": list(example.choices),
                "label": int(example.label) if example.label else None,
                "prediction": int(row.argmax()),
                "probabilities": [round(share, 6) for share in row.softmax(-1).tolist()],
            }

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return the number of the choice, its probability and its text between tabs."""
        number = prediction["prediction"]
        choice = " ".join(prediction["choices"][number].split())
        return f"{number}\t{prediction['probabilities'][number]:.4f}\t{choice}"

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the accuracy; see `Task.statistics`."""
        right = np.array([one["label"] == one["prediction"] for one in predictions])
        return mean_of(right, "accuracy")

    def guess(self, examples: Sequence[ChoiceQuestion]) -> str:
        """Return the number of the choice that is right most often."""
        return most_frequent([example.label for example in examples])

    def guess_metrics(self, guess: str, examples: Sequence[ChoiceQuestion]) -> dict[str, float]:
        """Return the metrics of always choosing that."""
        return {"accuracy": sum(example.label == guess for example in examples) / len(examples)}

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[ChoiceQuestion]]) -> list[Finding]:
        """Look at how often each choice is the right one."""
        counts = Counter(example.label for example in parts["train"])
        shown = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
        return [Finding("ok", "choices", f"{len(parts['train'][0].choices)}; right are {shown}")]


class MultipleChoiceBatches(TaskBatches):
    """The choices of questions packed into rows.

    Args:
        task: whose examples they are.
        tokenized: the choices, question by question.
        targets: (questions,) the right one of each.
        num_choices: choices of a question.
        seed: key of the questions' order.
        training: shuffled anew each epoch; else in order.
    """

    def __init__(
        self,
        task: MultipleChoiceTask,
        tokenized: TokenizedExamples,
        targets: np.ndarray,
        *,
        num_choices: int,
        seed: int,
        training: bool,
    ) -> None:
        super().__init__(task, tokenized, num_examples=len(targets), seed=seed, training=training)
        self.task = task
        self.targets = targets
        self.num_choices = num_choices
        self.floor_name = "loss of a guess"

    @cached_property
    def loss_floor(self) -> float:
        """Loss in nats of a guess."""
        return float(np.log(self.num_choices))

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the questions at places `start` to `stop`; `choice_examples` (questions, choices) says which example is which.

        `labels` and `example_ids` have an entry for each question.
        """
        questions = self.order.between(start, stop)
        choices = (questions[:, None] * self.num_choices + np.arange(self.num_choices)).ravel()
        layout = lay_out(self.tokenized, choices, max_width=self.tokens_per_example)
        place_of = {choice: place for place, choice in enumerate(layout.example_ids.tolist())}
        places = np.array([place_of[choice] for choice in choices.tolist()]).reshape(-1, self.num_choices)
        return {
            **model_inputs(self.tokenized, layout, pad_token_id=self.pad_token_id),
            "choice_examples": pad_to_multiple(places, EXAMPLES_MULTIPLE, 0),
            "labels": pad_to_multiple(self.targets[questions], EXAMPLES_MULTIPLE, IGNORED),
            "example_ids": pad_to_multiple(questions, EXAMPLES_MULTIPLE, -1),
        }

    def evaluation(self) -> TextEvaluation:
        """Begin an evaluation."""
        return TextEvaluation(self.task, self.targets, num_scores=self.num_choices)
