"""Sequence classification: one label for a text or a pair of texts, from the pooled first token.

Examples are packed into rows as in pretraining, so that no padding worth naming is computed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.keyed_random import keyed_permutation
from bertkit.data.packing import flat_starts, pack_rows, pad_to_multiple, ranges
from bertkit.tasks.labelled_data import LabelledText

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# What is padded grows to these multiples: a GPU then meets few different shapes.
_WIDTH_MULTIPLE = 8
_EXAMPLES_MULTIPLE = 8
_TOKENIZED_AT_ONCE = 1000


@dataclass
class SequenceClassificationArguments:
    """Settings of the task `sequence_classification`."""

    name: Literal["sequence_classification"] = "sequence_classification"
    """The task: a class for every text, or every pair of texts."""
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


class SequenceClassificationTask:
    """How labelled texts become batches.

    Args:
        arguments: the settings.
        tokenizer: a fast tokenizer whose examples begin with the token that the model pools.
        label_names: the classes, by number.

    Raises:
        ValueError: fewer than two classes.
    """

    arguments_class = SequenceClassificationArguments
    auto_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    # Which batch entry holds the labels that the loss is divided by, and under which argument forward takes their number.
    label_counts: Mapping[str, str] = {"num_items_in_batch": "labels"}
    loss_terms: tuple[str, ...] = ("loss",)
    metric_names: tuple[str, ...] = ("accuracy", "f1", "matthews_correlation", "loss")

    def __init__(
        self,
        arguments: SequenceClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        label_names: Sequence[str],
    ) -> None:
        if len(label_names) < 2:
            raise DataError(f"the training data has one label only, {', '.join(label_names)}; a class needs another")
        self.arguments = arguments
        self.tokenizer = tokenizer
        self.label_names = tuple(label_names)
        self.label_ids = {name: number for number, name in enumerate(label_names)}

    @property
    def config_settings(self) -> dict[str, Any]:
        """Fields of the model's config that the task sets."""
        return {
            "id2label": dict(enumerate(self.label_names)),
            "label2id": self.label_ids,
            "problem_type": "single_label_classification",
        }

    def batches(
        self, examples: Sequence[LabelledText], *, seed: int = 0, training: bool
    ) -> "SequenceClassificationBatches":
        """Tokenize examples for the Trainer.

        Args:
            examples: texts, all of them pairs or none.
            seed: key of their order.
            training: shuffled anew each epoch; else in order.

        Raises:
            DataError: a label that is none of the classes.
        """
        for example in examples:
            if example.label not in self.label_ids:
                raise DataError(
                    f"{example.place}: label {example.label!r} is not known; the training data has "
                    f"{', '.join(self.label_names)}"
                )
        labels = np.array([self.label_ids[example.label] for example in examples])
        return SequenceClassificationBatches(self, self.tokenize(examples), labels, seed=seed, training=training)

    def tokenize(self, examples: Sequence[LabelledText]) -> "TokenizedExamples":
        """Turn texts into token ids, cut to `max_length`; nothing is padded.

        Args:
            examples: texts, all of them pairs or none.
        """
        template = _Template(self.tokenizer, is_pair=examples[0].text_pair is not None)
        room = self.arguments.max_length - template.num_special_tokens
        token_ids: list[np.ndarray] = []
        token_type_ids: list[np.ndarray] = []
        num_truncated = 0
        for first, second in self._pieces(examples):
            keep = _truncated_lengths(len(first), len(second), room, self.arguments.truncation)
            num_truncated += keep != (len(first), len(second))
            ids, type_ids = template.fill(first[: keep[0]], second[: keep[1]])
            token_ids.append(ids)
            token_type_ids.append(type_ids)
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])])
        return TokenizedExamples(np.concatenate(token_ids), np.concatenate(token_type_ids), starts, num_truncated)

    def _pieces(self, examples: Sequence[LabelledText]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield the token ids of each example's texts, without special ones.

        Texts are cut here and not by the tokenizer, which keeps every combination of the parts that it cuts off: of a pair
        of long texts that is a thousand times what is used.
        """
        for start in range(0, len(examples), _TOKENIZED_AT_ONCE):
            some = examples[start : start + _TOKENIZED_AT_ONCE]
            texts = [example.text for example in some]
            firsts = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            pairs = [example.text_pair or "" for example in some]
            seconds = self.tokenizer(pairs, add_special_tokens=False, verbose=False)["input_ids"]
            yield from zip(firsts, seconds, strict=True)


class TokenizedExamples(NamedTuple):
    """Examples as token ids, end to end."""

    token_ids: np.ndarray
    """(tokens,), special ones included."""
    token_type_ids: np.ndarray
    """(tokens,) 0 in the first text, 1 in the second."""
    starts: np.ndarray
    """(examples + 1,) where each example begins, and the end."""
    num_truncated: int
    """Examples that were cut to `max_length`."""


class SequenceClassificationBatches:
    """What the Trainer draws from: examples packed into rows.

    Args:
        task: whose examples they are.
        tokenized: the examples.
        labels: (examples,) their classes.
        seed: key of their order.
        training: shuffled anew each epoch; else in order.
    """

    def __init__(
        self,
        task: SequenceClassificationTask,
        tokenized: TokenizedExamples,
        labels: np.ndarray,
        *,
        seed: int,
        training: bool,
    ) -> None:
        self.tokenized = tokenized
        self.labels = labels
        self.num_labels = len(task.label_names)
        self.label_counts = task.label_counts
        self.loss_terms = task.loss_terms
        self.metric_names = task.metric_names
        self.tokens_per_example = task.arguments.max_length
        self.carried_rows = 0
        self.pad_token_id = task.tokenizer.pad_token_id
        self.training = training
        self.seed = seed

    def __len__(self) -> int:
        """Examples in an epoch."""
        return len(self.labels)

    @cached_property
    def loss_floor(self) -> float:
        """Entropy of the labels in nats: what a model scores that knows how frequent each class is, and no more."""
        shares = np.array(list(Counter(self.labels.tolist()).values())) / len(self.labels)
        return float(-(shares * np.log(shares)).sum())

    def num_tokens(self, batch: Mapping[str, "torch.Tensor"]) -> int:
        """Return the real tokens of a batch, special ones included."""
        return int(batch["attention_mask"].sum())

    def _example_at(self, place: int) -> int:
        epoch, position = divmod(place, len(self))
        return int(_shuffled(len(self), self.seed, epoch)[position]) if self.training else position

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the examples at places `start` to `stop` into rows.

        Args:
            start: first example, counted over all epochs.
            stop: end of the examples.
            progress: not used; nothing here is scheduled.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` and `position_ids`, each (rows, width); `position_ids` is 0 where
            an example starts and nowhere else. `example_starts` (examples,), flat indices into the rows, `labels`
            (examples,) and `example_ids` (examples,), their places in the data: padded with 0, −100 and −1.
        """
        example_ids = np.array([self._example_at(place) for place in range(start, stop)])
        starts = self.tokenized.starts
        lengths = starts[example_ids + 1] - starts[example_ids]
        rows, width = _pack(lengths, self.tokens_per_example)
        in_rows = np.argsort(rows, kind="stable")
        example_ids, lengths, rows = example_ids[in_rows], lengths[in_rows], rows[in_rows]

        shape = (int(rows[-1]) + 1, width)
        example_starts = flat_starts(lengths, rows, width)
        target = ranges(example_starts, lengths)  # (tokens,) where each token comes to lie
        source = ranges(starts[example_ids], lengths)  # (tokens,) where it comes from
        position = ranges(np.zeros_like(lengths), lengths)  # of every token in its example

        def spread(filler: int, values: np.ndarray | int) -> np.ndarray:
            flat = np.full(shape[0] * width, filler)
            flat[target] = values
            return flat.reshape(shape)

        return {
            "input_ids": spread(self.pad_token_id, self.tokenized.token_ids[source]),
            "attention_mask": spread(0, 1),
            "token_type_ids": spread(0, self.tokenized.token_type_ids[source]),
            "position_ids": spread(1, position),  # padding starts no example
            "example_starts": pad_to_multiple(example_starts, _EXAMPLES_MULTIPLE, 0),
            "labels": pad_to_multiple(self.labels[example_ids], _EXAMPLES_MULTIPLE, -100),
            "example_ids": pad_to_multiple(example_ids, _EXAMPLES_MULTIPLE, -1),
        }

    def evaluation(self) -> "SequenceClassificationEvaluation":
        """Begin an evaluation."""
        return SequenceClassificationEvaluation(self.labels, self.num_labels)


@lru_cache(maxsize=2)
def _shuffled(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch, (examples,)."""
    return keyed_permutation(num_examples, seed, "example order", epoch)


class SequenceClassificationEvaluation:
    """The logits of every example, and the metrics over those that were evaluated.

    Args:
        labels: (examples,) true classes.
        num_labels: classes there are.
    """

    def __init__(self, labels: np.ndarray, num_labels: int) -> None:
        import torch

        self.labels = torch.from_numpy(labels)
        self.totals: dict[str, torch.Tensor] = {
            "logits": torch.zeros(len(labels), num_labels),
            "evaluated": torch.zeros(len(labels)),
        }

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Add the logits of a batch, each at its example's place."""
        example_ids = batch["example_ids"].cpu()
        real = example_ids >= 0
        self.totals["logits"][example_ids[real]] = outputs.logits.float().cpu()[real]
        self.totals["evaluated"][example_ids[real]] = 1

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        import torch.nn.functional as F

        from bertkit.tasks.metrics import classification_metrics

        evaluated = self.totals["evaluated"] > 0
        logits, labels = self.totals["logits"][evaluated], self.labels[evaluated]
        return {
            **classification_metrics(logits.argmax(-1).tolist(), labels.tolist(), num_labels=logits.shape[-1]),
            "loss": float(F.cross_entropy(logits, labels)),
        }


class _Template:
    """The special tokens that a tokenizer sets around one text or two, learned from what it makes of a short example.

    Args:
        tokenizer: a fast tokenizer.
        is_pair: whether examples are pairs.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, is_pair: bool) -> None:
        example = tokenizer("a", "a") if is_pair else tokenizer("a")
        of_text = np.array([-1 if text is None else text for text in example.sequence_ids(0)])
        ids = np.array(example["input_ids"])
        type_ids = np.array(example.get("token_type_ids", np.zeros_like(ids)))
        bounds = [place for text in range(1 + is_pair) for place in _ends(np.flatnonzero(of_text == text))]
        # Special tokens before the first text, behind each text; and the segment that each text belongs to.
        pieces = [slice(stop, start) for stop, start in zip([0, *bounds[1::2]], [*bounds[::2], len(ids)], strict=True)]
        self.special_ids = [ids[piece] for piece in pieces]
        self.special_type_ids = [type_ids[piece] for piece in pieces]
        self.segments = [type_ids[start] for start in bounds[::2]]
        self.num_special_tokens = sum(map(len, self.special_ids))

    def fill(self, *texts: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids and token type ids, (tokens,) each, of an example with these texts."""
        ids, type_ids = [self.special_ids[0]], [self.special_type_ids[0]]
        for text, segment, special, special_type in zip(
            texts, self.segments, self.special_ids[1:], self.special_type_ids[1:], strict=False
        ):
            ids += [np.array(text, dtype=np.int64), special]
            type_ids += [np.full(len(text), segment), special_type]
        return np.concatenate(ids), np.concatenate(type_ids)


def _ends(places: np.ndarray) -> tuple[int, int]:
    return int(places[0]), int(places[-1]) + 1


def _truncated_lengths(first: int, second: int, room: int, truncation: str) -> tuple[int, int]:
    """Return how many tokens of each text stay.

    >>> _truncated_lengths(30, 4, 20, "longest_first"), _truncated_lengths(30, 40, 21, "longest_first")
    ((16, 4), (10, 11))
    """
    if first + second <= room:
        return first, second
    if truncation == "only_first":
        return max(room - second, 0), min(second, room)
    if truncation == "only_second":
        return min(first, room), max(room - first, 0)
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def _pack(lengths: np.ndarray, max_width: int) -> tuple[np.ndarray, int]:
    """Give examples rows of the width that leaves the least padding.

    A few examples rarely fill rows as long as the longest of them; in rows up to twice as long their gaps close.

    Args:
        lengths: (examples,) in tokens.
        max_width: longest row.

    Returns:
        (examples,) row numbers, and the width.
    """
    narrowest = -(-int(lengths.max()) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    widths = range(narrowest, min(2 * narrowest, max_width) + 1, _WIDTH_MULTIPLE) or [max_width]
    packings = [(pack_rows(lengths, width), width) for width in widths]
    return min(packings, key=lambda packing: (int(packing[0].max()) + 1) * packing[1])


def label_names(examples: Sequence[LabelledText]) -> list[str]:
    """Return the labels of examples in their order: by number where all are numbers, else by the alphabet.

    >>> label_names([LabelledText("", None, label, "") for label in ("10", "9", "10")])
    ['9', '10']
    """
    names = sorted({example.label for example in examples})
    return sorted(names, key=int) if all(name.lstrip("-").isdecimal() for name in names) else names
