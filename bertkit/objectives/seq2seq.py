"""From one text to another, as in translation: an encoder reads the source, a decoder predicts the target token by token.

Sutskever et al. 2014, https://arxiv.org/abs/1409.3215. The decoder is given the true tokens before the one it predicts (teacher
forcing), in training and in the losses of an evaluation alike.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bertkit.data.arguments import PairDataArguments
from bertkit.data.errors import DataError
from bertkit.data.health import Finding
from bertkit.data.pair_batches import PairBatches, PairIndex, Pairs
from bertkit.data.token_store import TokenStore, entropy
from bertkit.objectives.rows import IGNORED_LABEL
from bertkit.objectives.special_tokens import ends_of_text
from bertkit.tokenization import frame_texts, padding_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SOURCE_ENDS, _TARGET_ENDS = (
    2,
    1,
)  # special tokens: the source is begun and ended, the target's beginning is never predicted


@dataclass
class Seq2SeqArguments:
    """Settings of the objective `seq2seq`."""

    name: Literal["seq2seq"] = "seq2seq"
    """The objective: bidirectional (ELMo), causal (GPT, RNN), masked (BERT) or seq2seq (translation). The settings below are
    those of `seq2seq`; `--objective.name X --help` shows those of X."""
    max_source_length: int = 128
    """Longest source in tokens, special ones included; pairs with a longer one are left out. At most the model's positions."""
    max_target_length: int = 128
    """Longest target in tokens, the end included; pairs with a longer one are left out. At most the model's positions."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: a length that leaves no room for a token.
        """
        for field, least in (("max_source_length", _SOURCE_ENDS + 1), ("max_target_length", _TARGET_ENDS + 1)):
            if getattr(self, field) < least:
                raise ValueError(f"objective.{field} is {getattr(self, field)}; it must be at least {least}")


class Seq2SeqObjective:
    """How pairs of texts become batches.

    Args:
        arguments: the settings.
        tokenizer: gives the special tokens.

    Raises:
        ValueError: the tokenizer lacks a special token.
    """

    families: ClassVar[tuple[str, ...]] = ("rnn_seq2seq", "transformer")
    arguments_class: ClassVar[type] = Seq2SeqArguments
    data_class: ClassVar[type] = PairDataArguments
    pipeline_tag: ClassVar[str] = "text2text-generation"
    auto_class = "AutoModelForSeq2SeqLM"
    carries_state = False
    label_counts: ClassVar[dict[str, str]] = {"num_items_in_batch": "labels"}
    loss_terms = ("loss",)
    perplexities: ClassVar[dict[str, str]] = {"teacher_forced_perplexity_per_token": "loss"}
    metric_names = ("loss", *perplexities, "bits_per_target_byte")

    def __init__(self, arguments: Seq2SeqArguments, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.arguments = arguments
        self.bos_token_id, self.eos_token_id = ends_of_text(tokenizer, "seq2seq")
        self.pad_token_id = padding_of_text(tokenizer)

    @property
    def config_settings(self) -> dict[str, Any]:
        """Which tokens begin and end a text, and what the decoder begins with."""
        return {
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "decoder_start_token_id": self.bos_token_id,
        }

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a pair, at most."""
        return self.arguments.max_source_length + self.arguments.max_target_length

    @property
    def max_positions(self) -> int:
        """Tokens of the longest side of a pair."""
        return max(self.arguments.max_source_length, self.arguments.max_target_length)

    def _index(self, store: TokenStore) -> PairIndex:
        return _index_pairs(store, self.arguments.max_source_length, self.arguments.max_target_length)

    def stream(self, store: TokenStore, *, batch_size: int, seed: int, shuffle: bool) -> PairBatches:
        """Lay out the batches of every epoch; the arguments are those of `Objective.stream`."""
        index = self._index(store)
        if not index.num_pairs:
            finding = self.checks(store)[0]
            raise DataError(f"{', '.join(store.metadata.sources)}: {finding.what}; {finding.remedy}")
        return PairBatches(index, batch_size=batch_size, seed=seed, shuffle=shuffle)

    def collate(
        self, store: TokenStore, rows: Pairs, *, num_rows: int, progress: float, training: bool, seed: int
    ) -> dict[str, np.ndarray]:
        """Read the pairs' tokens; the arguments are those of `Objective.collate`.

        Returns:
            `input_ids` and `attention_mask` (rows, longest source), the source between the tokens that begin and end a text;
            `labels` (rows, longest target), the target and the token that ends it, −100 behind it.
        """
        source_width, target_width = int(rows.source_length.max()), int(rows.target_length.max())
        input_ids = np.full((num_rows, source_width + _SOURCE_ENDS), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        labels = np.full((num_rows, target_width + _TARGET_ENDS), IGNORED_LABEL, dtype=np.int64)
        for row, (source_start, source_length, target_start, target_length) in enumerate(zip(*rows, strict=True)):
            input_ids[row, 0] = self.bos_token_id
            input_ids[row, 1 : source_length + 1] = store.token_ids[source_start : source_start + source_length]
            input_ids[row, source_length + 1] = self.eos_token_id
            attention_mask[row, : source_length + _SOURCE_ENDS] = 1
            labels[row, :target_length] = store.token_ids[target_start : target_start + target_length]
            labels[row, target_length] = self.eos_token_id
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def num_tokens(self, batch: Mapping[str, Any]) -> int:
        """Return the real tokens of a batch: of the sources and of the targets, special ones included."""
        return int(batch["attention_mask"].sum()) + int((batch["labels"] != IGNORED_LABEL).sum())

    def metrics(self, outputs: Any, batch: Mapping[str, Any], store: TokenStore) -> dict[str, tuple[Any, Any]]:
        """Return the loss a token and in bits a byte of the targets; the arguments are those of `Objective.metrics`."""
        labels = batch["labels"]
        counted = labels != IGNORED_LABEL
        text = counted & (labels != self.eos_token_id)
        return {
            "loss": (outputs.loss, counted.sum()),
            "bits_per_target_byte": (
                outputs.loss / math.log(2),
                text.sum() * self._index(store).bytes_per_target_token,
            ),
        }

    def bits_per_nat(self, store: TokenStore) -> dict[str, tuple[str, float]]:
        """Return what a nat a token of the targets, their ends among them, is in bits a byte of them."""
        index = self._index(store)
        tokens = int(index.target_counts.sum())
        bits = (tokens + index.num_pairs) / (tokens * index.bytes_per_target_token) / math.log(2)
        return {"bits_per_target_byte": ("loss", bits)}

    def checkpoint_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
        """Return a tokenizer that begins and ends texts, and knows no segments."""
        return frame_texts(tokenizer, begin_token_id=self.bos_token_id, end_token_id=self.eos_token_id)

    def loss_floor(self, store: TokenStore) -> float:
        """Return the unigram entropy of the targets and their ends, in nats."""
        index = self._index(store)
        return entropy(np.append(index.target_counts, index.num_pairs))

    def checks(self, store: TokenStore) -> list[Finding]:
        """Count the pairs, and those that are left out."""
        index = self._index(store)
        what = f"{index.num_pairs:,} of {store.metadata.num_documents:,} are used"
        if not index.num_incomplete and not index.num_too_long:
            return [Finding("ok", "pairs", what)]
        what += (
            f"; {index.num_too_long:,} are longer than objective.max_source_length {self.arguments.max_source_length} or "
            f"max_target_length {self.arguments.max_target_length}, {index.num_incomplete:,} are not two texts"
        )
        remedy = "raise the lengths, or look at the text: a source and its target on every line?"
        return [Finding("stop" if not index.num_pairs else "warning", "pairs", what, remedy)]


@lru_cache(maxsize=4)
def _index_pairs(store: TokenStore, max_source_length: int, max_target_length: int) -> PairIndex:
    return PairIndex(store, max_source=max_source_length - _SOURCE_ENDS, max_target=max_target_length - _TARGET_ENDS)
