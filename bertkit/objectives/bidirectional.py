"""Language modelling in both directions at once: the pretraining of ELMo.

Peters et al. 2018, https://arxiv.org/abs/1802.05365: one model predicts every token from those before it, another, which shares
its embeddings and its softmax, from those behind it. Either way every token, and once a document where it ends or begins, is
predicted once an epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bertkit.data.arguments import DataArguments
from bertkit.data.row_stream import Examples, RowStream
from bertkit.data.token_store import TokenStore
from bertkit.objectives.rows import IGNORED_LABEL, RowFiller, refuse_short_rows
from bertkit.objectives.spans import SpanCutter, packed_stream
from bertkit.objectives.special_tokens import ends_of_text
from bertkit.objectives.texts_in_rows import TextsInRows, document_bounds
from bertkit.tokenization import frame_texts, padding_of_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LABELS = {"forward": "shift_labels", "backward": "backward_labels"}


@dataclass
class BidirectionalArguments:
    """Settings of the objective `bidirectional`."""

    name: Literal["bidirectional"] = "bidirectional"
    """The objective: bidirectional (ELMo), causal (GPT, RNN), masked (BERT) or seq2seq (translation). The settings below are
    those of `bidirectional`; `--objective.name X --help` shows those of X."""
    block_size: int = 128
    """Length of a row in tokens; several examples share a row when they are short."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: a row too short to learn from.
        """
        refuse_short_rows(self.block_size)


class BidirectionalObjective(TextsInRows):
    """How unlabelled text becomes rows of tokens with the next and the previous token of each.

    Args:
        arguments: the settings.
        tokenizer: gives the special tokens.

    Raises:
        ValueError: the tokenizer lacks a special token.
    """

    families: ClassVar[tuple[str, ...]] = ("elmo",)
    arguments_class: ClassVar[type] = BidirectionalArguments
    data_class: ClassVar[type] = DataArguments
    pipeline_tag: ClassVar[str] = "feature-extraction"
    auto_class = "AutoModelForPreTraining"
    carries_state = False
    label_counts: ClassVar[dict[str, str]] = {
        "num_items_in_batch": "shift_labels",
        "num_backward_items_in_batch": "backward_labels",
    }
    loss_terms = ("forward_loss", "backward_loss")
    perplexities: ClassVar[dict[str, str]] = {f"{way}_perplexity_per_token": f"{way}_loss" for way in _LABELS}
    metric_names = ("loss", *loss_terms, *perplexities, *(f"{way}_bits_per_byte" for way in _LABELS))

    def __init__(self, arguments: BidirectionalArguments, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.arguments = arguments
        self.bos_token_id, self.eos_token_id = ends_of_text(tokenizer, "bidirectional")
        self.pad_token_id = padding_of_text(tokenizer)

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a row."""
        return self.arguments.block_size

    max_positions = tokens_per_example

    def stream(self, store: TokenStore, *, batch_size: int, seed: int, shuffle: bool) -> RowStream:
        """Lay out the rows of every epoch; the arguments are those of `Objective.stream`."""
        return packed_stream(store, self._cutter(seed), seed=seed, shuffle=shuffle)

    def _cutter(self, seed: int) -> SpanCutter:
        return SpanCutter(block_size=self.arguments.block_size, special_tokens=2, short_sequence_prob=0.0, seed=seed)

    def collate(
        self, store: TokenStore, rows: Examples, *, num_rows: int, progress: float, training: bool, seed: int
    ) -> dict[str, np.ndarray]:
        """Read the rows' tokens; the arguments are those of `Objective.collate`.

        Returns:
            `input_ids`, `attention_mask`, `position_ids`, `shift_labels` and `backward_labels`, each (rows, block_size). An
            example is a stretch of a document between the tokens that begin and end a text. At each token of the stretch
            `shift_labels` has the next one of the document, or its end, and `backward_labels` the previous one, or its
            beginning. Only where the document itself begins or ends do those two tokens have a label, too: elsewhere the
            token beside them is predicted in the stretch next to theirs, where it has a context. All else is −100.
            `position_ids` is 0 where an example starts and nowhere else.
        """
        filler = RowFiller(
            num_rows, self.arguments.block_size, pad_token_id=self.pad_token_id, label_names=(*_LABELS.values(),)
        )
        nothing = [IGNORED_LABEL]
        for row, start, length, first, end in zip(
            rows.row, rows.start, rows.length, *document_bounds(store, rows.start), strict=True
        ):
            stop = start + length
            tokens = np.concatenate([[self.bos_token_id], store.token_ids[start:stop], [self.eos_token_id]])
            tokens = tokens.astype(np.int64)
            after, before = np.concatenate([tokens[1:], nothing]), np.concatenate([nothing, tokens[:-1]])
            if start > first:
                after[0], before[1] = IGNORED_LABEL, store.token_ids[start - 1]
            if stop < end:
                after[-2], before[-1] = store.token_ids[stop], IGNORED_LABEL
            filler.add(row, tokens, shift_labels=after, backward_labels=before)
        return filler.batch

    def metrics(self, outputs: Any, batch: Mapping[str, Any], store: TokenStore) -> dict[str, tuple[Any, Any]]:
        """Return the loss of each direction, a token and in bits a byte; the arguments are those of `Objective.metrics`."""
        found = {}
        for way, name in _LABELS.items():
            labels, loss = batch[name], outputs[f"{way}_loss"]
            counted = labels != IGNORED_LABEL
            text = counted & (labels != self.bos_token_id) & (labels != self.eos_token_id)
            found[f"{way}_loss"] = (loss, counted.sum())
            found[f"{way}_bits_per_byte"] = (loss / math.log(2), text.sum() * store.bytes_per_token)
        return found

    def bits_per_nat(self, store: TokenStore) -> dict[str, tuple[str, float]]:
        """Return what a nat a token of each direction is in bits a byte; a document has an end, or a beginning, to predict."""
        bits = self.bits_of_a_nat(store)
        return {f"{way}_bits_per_byte": (f"{way}_loss", bits) for way in _LABELS}

    def checkpoint_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
        """Return a tokenizer that begins and ends texts, and knows no segments."""
        return frame_texts(tokenizer, begin_token_id=self.bos_token_id, end_token_id=self.eos_token_id)
