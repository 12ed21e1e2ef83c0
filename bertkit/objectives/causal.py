"""Causal language modelling: every token is predicted from those before it; the pretraining of RNNs and of GPT.

In packed rows an example is at most a row long. With `carry_state` rows go on from step to step and the model's recurrent
state with them: truncated backpropagation through time (Williams and Peng 1990, https://doi.org/10.1162/neco.1990.2.4.490).
Either way every token, and the end of every document, is predicted once an epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bertkit.data.arguments import DataArguments
from bertkit.data.row_stream import Examples, RowStream
from bertkit.data.token_store import TokenStore
from bertkit.objectives.continuous_text import ContinuousRows, Parts
from bertkit.objectives.rows import IGNORED_LABEL, RowFiller, refuse_short_rows
from bertkit.objectives.spans import SpanCutter, packed_stream
from bertkit.objectives.special_tokens import ends_of_text
from bertkit.objectives.texts_in_rows import TextsInRows, document_bounds
from bertkit.tokenization import frame_texts, padding_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class CausalArguments:
    """Settings of the objective `causal`."""

    name: Literal["causal"] = "causal"
    """The objective: bidirectional (ELMo), causal (GPT, RNN), masked (BERT) or seq2seq (translation). The settings below are
    those of `causal`; `--objective.name X --help` shows those of X."""
    block_size: int = 128
    """Length of a row in tokens; several documents share a row when they are short. At most the model's positions."""
    carry_state: bool = False
    """For recurrent models: every row goes on where the same row of the step before ended, with the state it ended in, so
    that the model reads whole documents and only the gradient is cut off at the beginning of a row."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: a row too short to learn from.
        """
        refuse_short_rows(self.block_size)


class CausalObjective(TextsInRows):
    """How unlabelled text becomes rows of tokens and their next tokens.

    Args:
        arguments: the settings.
        tokenizer: gives the special tokens.

    Raises:
        ValueError: the tokenizer lacks a special token.
    """

    families: ClassVar[tuple[str, ...]] = ("rnn", "gpt")
    arguments_class: ClassVar[type] = CausalArguments
    data_class: ClassVar[type] = DataArguments
    pipeline_tag: ClassVar[str] = "text-generation"
    auto_class = "AutoModelForCausalLM"
    label_counts: ClassVar[dict[str, str]] = {"num_items_in_batch": "shift_labels"}
    loss_terms = ("loss",)
    metric_names = ("loss", "perplexity_per_token", "bits_per_byte")
    perplexities: ClassVar[dict[str, str]] = {"perplexity_per_token": "loss"}

    def __init__(self, arguments: CausalArguments, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.arguments = arguments
        self.bos_token_id, self.eos_token_id = ends_of_text(tokenizer, "causal")
        self.pad_token_id = padding_of_text(tokenizer)

    @property
    def carries_state(self) -> bool:
        """Whether rows go on from step to step."""
        return self.arguments.carry_state

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a row, at most."""
        return self.arguments.block_size

    @property
    def max_positions(self) -> int | None:
        """Tokens of the longest example; a text that goes on from row to row has no end."""
        return None if self.arguments.carry_state else self.arguments.block_size

    def stream(self, store: TokenStore, *, batch_size: int, seed: int, shuffle: bool) -> RowStream | ContinuousRows:
        """Lay out the rows of every epoch; the arguments are those of `Objective.stream`."""
        if self.arguments.carry_state:
            return ContinuousRows(
                store, num_rows=batch_size, block_size=self.arguments.block_size, seed=seed, shuffle=shuffle
            )
        return packed_stream(store, self._cutter(seed), seed=seed, shuffle=shuffle)

    def _cutter(self, seed: int) -> SpanCutter:
        return SpanCutter(block_size=self.arguments.block_size, special_tokens=1, short_sequence_prob=0.0, seed=seed)

    def collate(
        self, store: TokenStore, rows: Examples | Parts, *, num_rows: int, progress: float, training: bool, seed: int
    ) -> dict[str, np.ndarray]:
        """Read the rows' tokens; the arguments are those of `Objective.collate`.

        Returns:
            `input_ids`, `attention_mask`, `position_ids` and `shift_labels`, each (rows, width). At a token, `shift_labels`
            has the next one, or the end of the document; −100 at padding, and at the beginning of an example that goes on
            with a document: its first token is predicted where it has what stands before it. `position_ids` is 0 where an
            example starts and nowhere else; a carried row that goes on with a document starts with another position.
        """
        if isinstance(rows, Parts):
            return self._collate_parts(store, rows, num_rows)
        filler = self._filler(num_rows, self.arguments.block_size)
        for row, start, length, first, end in zip(
            rows.row, rows.start, rows.length, *document_bounds(store, rows.start), strict=True
        ):
            tokens = self._between_ends(store, start, start + length + 1, end, begins=True)
            labels = tokens[1:].copy()
            if start > first:
                labels[0] = IGNORED_LABEL
            filler.add(row, tokens[:-1], shift_labels=labels)
        return filler.batch

    def _collate_parts(self, store: TokenStore, parts: Parts, num_rows: int) -> dict[str, np.ndarray]:
        filler = self._filler(num_rows, parts.width)
        for row, document, offset, length, position in zip(*parts[:5], strict=True):
            first, end = (int(start) for start in store.document_starts[document : document + 2])
            begins = offset == 0
            tokens = self._between_ends(
                store, first + offset - (not begins), first + offset + length, end, begins=begins
            )
            filler.add(row, tokens[:-1], first_position=position, shift_labels=tokens[1:])
        return filler.batch

    def _filler(self, num_rows: int, width: int) -> RowFiller:
        return RowFiller(num_rows, width, pad_token_id=self.pad_token_id, label_names=("shift_labels",))

    def _between_ends(self, store: TokenStore, start: int, stop: int, end: int, *, begins: bool) -> np.ndarray:
        """Return the tokens from `start` to `stop`, and what begins and ends a text: the end if `stop` lies behind `end`."""
        beginning = [self.bos_token_id] if begins else []
        ending = [self.eos_token_id] if stop > end else []
        return np.concatenate([beginning, store.token_ids[start : min(stop, end)], ending]).astype(np.int64)

    def metrics(self, outputs: Any, batch: Mapping[str, Any], store: TokenStore) -> dict[str, tuple[Any, Any]]:
        """Return the loss a token and in bits a byte; the arguments are those of `Objective.metrics`."""
        labels = batch["shift_labels"]
        tokens = (labels != IGNORED_LABEL) & (labels != self.eos_token_id)
        return {
            "loss": (outputs.loss, (labels != IGNORED_LABEL).sum()),
            "bits_per_byte": (outputs.loss / math.log(2), tokens.sum() * store.bytes_per_token),
        }

    def bits_per_nat(self, store: TokenStore) -> dict[str, tuple[str, float]]:
        """Return what a nat a token, the ends of documents among them, is in bits a byte."""
        return {"bits_per_byte": ("loss", self.bits_of_a_nat(store))}

    def checkpoint_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
        """Return a tokenizer that begins texts and leaves them open: what is given is to be gone on with."""
        return frame_texts(tokenizer, begin_token_id=self.bos_token_id, end_token_id=None)
