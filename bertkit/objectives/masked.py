"""Masked language modelling, with next sentence prediction or without: the pretraining of BERT.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805. Each epoch masks anew (Liu et al. 2019, https://arxiv.org/abs/1907.11692,
call it dynamic), by keys and not by a stream, so the same batch is masked the same on every machine and after every restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bertkit.data.arguments import DataArguments
from bertkit.data.errors import DataError
from bertkit.data.health import Finding, check_pairs, offers_pairs
from bertkit.data.packing import pad_to_multiple
from bertkit.data.row_stream import Examples, RowStream
from bertkit.data.token_store import TokenStore
from bertkit.objectives.masking import MASKING_UNITS, Candidates, replace_tokens
from bertkit.objectives.rows import refuse_short_rows
from bertkit.objectives.sentence_pairs import pair_sentences
from bertkit.objectives.spans import SpanCutter, Spans, packed_stream, whole_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The collator pads what it counts to these multiples: a GPU then meets few different shapes.
_LABELS_MULTIPLE = 32
_EXAMPLES_MULTIPLE = 8


@dataclass
class MaskedArguments:
    """Settings of the objective `masked`."""

    name: Literal["masked"] = "masked"
    """The objective: bidirectional (ELMo), causal (GPT, RNN), masked (BERT) or seq2seq (translation). The settings below are
    those of `masked`; `--objective.name X --help` shows those of X."""
    block_size: int = 128
    """Length of a row in tokens; several examples share a row when they are short. At most the model's positions."""
    mlm_probability: float = 0.15
    """Share of tokens to predict, in (0, 1)."""
    mlm_probability_end: float | None = None
    """If given, the share moves in a straight line from `mlm_probability` at the first step to this at the last."""
    eval_mlm_probability: float = 0.15
    """Share of tokens to predict in evaluation, whose masks are the same in every run and at every step."""
    masking_unit: Literal["token", "whole_word", "span"] = "token"
    """What is masked together: single tokens, whole words, or spans of words as in SpanBERT."""
    mask_replace_prob: float = 0.8
    """Share of the predicted tokens that the model sees as [MASK]."""
    random_replace_prob: float = 0.1
    """Share of the predicted tokens that the model sees as a random token; the rest it sees unchanged."""
    next_sentence: bool = True
    """Also predict whether the second segment follows the first (NSP); `false` trains on masked tokens alone."""
    short_sequence_prob: float = 0.1
    """Share of full rows that are cut in two at a random place, so that the model meets short inputs too."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: a probability outside its range, or a row too short for a pair.
        """
        for field in ("mlm_probability", "mlm_probability_end", "eval_mlm_probability"):
            value = getattr(self, field)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"objective.{field} is {value}; it must lie between 0 and 1, as 0.15")
        if min(self.mask_replace_prob, self.random_replace_prob) < 0 or (
            self.mask_replace_prob + self.random_replace_prob > 1
        ):
            raise ValueError(
                f"objective.mask_replace_prob {self.mask_replace_prob} and objective.random_replace_prob "
                f"{self.random_replace_prob} must not be negative and must add up to at most 1"
            )
        if not 0 <= self.short_sequence_prob <= 1:
            raise ValueError(f"objective.short_sequence_prob is {self.short_sequence_prob}; it must be from 0 to 1")
        refuse_short_rows(self.block_size)


class MaskedObjective:
    """How unlabelled text becomes masked batches.

    Args:
        arguments: the settings.
        tokenizer: gives the special tokens and says which tokens continue a word.

    Raises:
        ValueError: the tokenizer lacks a special token that masking needs.
    """

    families: ClassVar[tuple[str, ...]] = ("bert",)
    arguments_class: ClassVar[type] = MaskedArguments
    data_class: ClassVar[type] = DataArguments
    pipeline_tag: ClassVar[str] = "fill-mask"
    carries_state = False
    perplexities: ClassVar[dict[str, str]] = {}
    config_settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, arguments: MaskedArguments, tokenizer: "PreTrainedTokenizerBase") -> None:
        from bertkit.tokenization import is_continuation

        self.arguments = arguments
        for name in ("mask_token", "cls_token", "sep_token", "pad_token"):
            if getattr(tokenizer, name) is None:
                raise ValueError(
                    f"the objective masked needs a {name}, and the tokenizer of {tokenizer.name_or_path} has none; "
                    "`bertkit tokenizer` trains one that has"
                )
        self.mask_token_id, self.pad_token_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.cls_token_id, self.sep_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.ordinary_token_ids = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        if arguments.masking_unit == "token":  # words do not matter, and a tokenizer may not know them
            self.starts_word = np.ones(len(tokenizer), dtype=bool)
        else:
            self.starts_word = ~is_continuation(tokenizer)
        self.special_tokens = 3 if arguments.next_sentence else 2  # [CLS] A [SEP] (B [SEP])
        # Which batch entry holds the labels that each loss is divided by, and under which argument forward takes their number.
        self.label_counts = {"num_items_in_batch": "labels"}
        if arguments.next_sentence:
            self.label_counts["num_pairs_in_batch"] = "next_sentence_label"

    @property
    def auto_class(self) -> str:
        """The Auto class whose models this objective trains."""
        return "AutoModelForPreTraining" if self.arguments.next_sentence else "AutoModelForMaskedLM"

    @property
    def loss_terms(self) -> tuple[str, ...]:
        """Fields of the model's output that add up to its loss."""
        return ("mlm_loss", "next_sentence_loss") if self.arguments.next_sentence else ("loss",)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation gives."""
        if self.arguments.next_sentence:
            return ("loss", "mlm_loss", "mlm_accuracy", "next_sentence_loss", "next_sentence_accuracy")
        return ("loss", "accuracy")

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a row."""
        return self.arguments.block_size

    max_positions = tokens_per_example

    def stream(self, store: TokenStore, *, batch_size: int, seed: int, shuffle: bool) -> RowStream:
        """Lay out the rows of every epoch, by arithmetic on lengths: no token is read.

        Args:
            store: the corpus.
            batch_size: does not matter here.
            seed: key of the cuts, the pairs and the order.
            shuffle: a new order each epoch; else the corpus's own.

        Raises:
            DataError: sentence pairs are asked of a corpus that cannot give them.
        """
        if self.arguments.next_sentence and not offers_pairs(store):
            sizes = store.metadata
            raise DataError(
                "next sentence prediction needs several documents, and two sentences a document on average; the text used of "
                f"{', '.join(sizes.sources)} has {sizes.num_documents} documents with {sizes.num_sentences} sentences: part "
                "documents by blank lines, give data.eval, hold out more (data.eval_fraction), or turn "
                "objective.next_sentence off"
            )
        cutter = SpanCutter(
            block_size=self.arguments.block_size,
            special_tokens=self.special_tokens,
            short_sequence_prob=self.arguments.short_sequence_prob,
            seed=seed,
        )

        def pairs(spans: Spans, epoch: int) -> Examples:
            return pair_sentences(store, spans, seed=seed, epoch=epoch)

        to_examples = pairs if self.arguments.next_sentence else whole_spans
        return packed_stream(store, cutter, seed=seed, shuffle=shuffle, to_examples=to_examples)

    def mlm_probability(self, progress: float, *, training: bool) -> float:
        """Return the masking rate at `progress` (0 at the first step, 1 at the last) of the training, or of evaluation."""
        start, end = self.arguments.mlm_probability, self.arguments.mlm_probability_end
        if not training:
            return self.arguments.eval_mlm_probability
        return start if end is None else start + (end - start) * progress

    def collate(
        self, store: TokenStore, rows: Examples, *, num_rows: int, progress: float, training: bool, seed: int
    ) -> dict[str, np.ndarray]:
        """Read the examples' tokens and mask them.

        Args:
            store: the corpus.
            rows: the examples, and which row each lies in.
            num_rows: rows of the batch.
            progress: decides the masking rate, where it moves.
            training: or else evaluation, which has a rate of its own.
            seed: key of the masks.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` and `position_ids`, each (rows, block_size); `position_ids` is 0
            where an example starts and nowhere else. `label_positions` (labels,), flat indices into the rows, padded with
            0, and `labels` (labels,), −100 at the padding. With next sentence prediction, `example_starts` (examples,),
            flat too, and `next_sentence_label` (examples,), padded alike.
        """
        examples, shape = rows, (num_rows, self.arguments.block_size)
        input_ids = np.full(shape, self.pad_token_id)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        position_ids = np.ones(shape, dtype=np.int64)  # padding starts no example
        attention_mask = np.zeros(shape, dtype=np.int64)
        example_of = np.full(shape, -1)  # of ordinary tokens; −1 at special ones and padding
        starts = np.empty(len(examples.row), dtype=np.int64)
        column_of_row = np.zeros(num_rows, dtype=np.int64)
        columns = zip(
            examples.row, examples.start, examples.length, examples.second_start, examples.second_length, strict=True
        )
        for number, (row, start, length, second_start, second_length) in enumerate(columns):
            begin = column_of_row[row]
            first, separator = begin + 1, begin + 1 + length
            end = separator + 1
            input_ids[row, begin] = self.cls_token_id
            input_ids[row, first:separator] = store.token_ids[start : start + length]
            input_ids[row, separator] = self.sep_token_id
            example_of[row, first:separator] = number
            if second_length:
                second, end = end, end + second_length + 1
                input_ids[row, second : end - 1] = store.token_ids[second_start : second_start + second_length]
                input_ids[row, end - 1] = self.sep_token_id
                example_of[row, second : end - 1] = number
                token_type_ids[row, second:end] = 1
            position_ids[row, begin:end] = np.arange(end - begin)
            attention_mask[row, begin:end] = 1
            starts[number] = row * shape[1] + begin
            column_of_row[row] = end

        positions = np.flatnonzero(example_of.ravel() >= 0)
        token_ids, example = input_ids.ravel()[positions], example_of.ravel()[positions]
        candidates = Candidates(
            example=example,
            position=position_ids.ravel()[positions],
            starts_word=self.starts_word[token_ids],
            example_key=examples.start[example],
            epoch=examples.epoch[example],
        )
        rate = self.mlm_probability(progress, training=training)
        chosen = MASKING_UNITS[self.arguments.masking_unit](candidates, rate, seed)
        input_ids.ravel()[positions] = replace_tokens(
            token_ids,
            candidates,
            chosen,
            mask_token_id=self.mask_token_id,
            ordinary_token_ids=self.ordinary_token_ids,
            mask_replace_prob=self.arguments.mask_replace_prob,
            random_replace_prob=self.arguments.random_replace_prob,
            seed=seed,
        )
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "label_positions": pad_to_multiple(positions[chosen.labelled], _LABELS_MULTIPLE, 0),
            "labels": pad_to_multiple(token_ids[chosen.labelled], _LABELS_MULTIPLE, -100),
        }
        if self.arguments.next_sentence:
            batch["example_starts"] = pad_to_multiple(starts, _EXAMPLES_MULTIPLE, 0)
            batch["next_sentence_label"] = pad_to_multiple(examples.next_sentence_label, _EXAMPLES_MULTIPLE, -100)
        return batch

    def num_tokens(self, batch: Mapping[str, Any]) -> int:
        """Return the real tokens of a batch, special ones included."""
        return int(batch["attention_mask"].sum())

    def metrics(self, outputs: Any, batch: Mapping[str, Any], store: TokenStore) -> dict[str, tuple[Any, Any]]:
        """Return losses and accuracies; bits per byte there are none, for most of the text is given and not predicted.

        Args:
            outputs: the model's output for `batch`, computed with every count set to 1, so that its losses are sums.
            batch: tensors as `collate` names them.
            store: the corpus.
        """
        labels = batch["labels"]
        if not self.arguments.next_sentence:
            return {
                "loss": (outputs.loss, (labels != -100).sum()),
                "accuracy": ((outputs.logits.argmax(-1) == labels).sum(), (labels != -100).sum()),
            }
        pairs = batch["next_sentence_label"]
        num_labels, num_pairs = (labels != -100).sum(), (pairs != -100).sum()
        return {
            "mlm_loss": (outputs.mlm_loss, num_labels),
            "mlm_accuracy": ((outputs.prediction_logits.argmax(-1) == labels).sum(), num_labels),
            "next_sentence_loss": (outputs.next_sentence_loss, num_pairs),
            "next_sentence_accuracy": ((outputs.seq_relationship_logits.argmax(-1) == pairs).sum(), num_pairs),
        }

    def bits_per_nat(self, store: TokenStore) -> dict[str, tuple[str, float]]:
        """Return nothing: most of the text is given and not predicted."""
        return {}

    def checkpoint_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
        """Return the tokenizer as it is: made for BERT."""
        return tokenizer

    def loss_floor(self, store: TokenStore) -> float:
        """Return the unigram entropy of the text, in nats."""
        return store.unigram_entropy()

    def checks(self, store: TokenStore) -> list[Finding]:
        """Look at whether the text can be asked which sentences follow each other, if it will be."""
        return [check_pairs(store)] if self.arguments.next_sentence else []
