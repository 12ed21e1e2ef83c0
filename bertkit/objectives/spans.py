"""Cutting documents into the spans of text that become examples, by arithmetic on document lengths alone.

A document longer than a row becomes full spans with one shorter span at each end; where the cuts fall is drawn anew each
epoch, but never how many spans there are, so the number of rows in an epoch is known before it is planned.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertkit.data.keyed_random import keyed_permutation, keyed_uniform
from bertkit.data.packing import fill_rows
from bertkit.data.row_stream import NO_PAIR, Examples, RowStream, block_boundaries
from bertkit.data.token_store import TokenStore

FILL = 0.98
"""Share of the packed rows that best fit is asked to fill: high enough to waste little, low enough to find room."""


class Spans(NamedTuple):
    """Spans of text laid into rows; all arrays are (spans,) int64, in order of rows."""

    start: np.ndarray
    """Token offset in the store."""
    length: np.ndarray
    """Tokens, special ones not counted."""
    row: np.ndarray


class SpanCutter:
    """Cuts the documents of a block into spans of at most `capacity` tokens and packs them into rows.

    Args:
        block_size: length of a row in tokens.
        special_tokens: special tokens that each span will be given.
        short_sequence_prob: share of the full spans that are cut in two at a random place, so that a model meets short
            inputs too (Devlin et al. 2019, appendix A.2).
        seed: key of the cuts.
    """

    def __init__(self, *, block_size: int, special_tokens: int, short_sequence_prob: float, seed: int) -> None:
        self.block_size = block_size
        self.special_tokens = special_tokens
        self.capacity = block_size - special_tokens
        self.short_sequence_prob = short_sequence_prob
        self.seed = seed

    def _counts(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the spans of each document, those of them that fill a row, and the tokens of the others: (documents,)."""
        spans = -(-lengths // self.capacity)
        full = np.maximum(spans - 2, 0)
        return spans, full, lengths - full * self.capacity

    def _num_short(self, full: int | np.ndarray) -> np.ndarray:
        return np.floor(self.short_sequence_prob * np.asarray(full) + 0.5).astype(np.int64)

    def rows_per_block(self, document_starts: np.ndarray, block_documents: np.ndarray) -> np.ndarray:
        """Return how many rows each block fills, in any epoch.

        Args:
            document_starts: (documents + 1,) token offsets in the store.
            block_documents: (blocks + 1,) document numbers where blocks begin.

        Returns:
            (blocks,) int64.
        """
        spans, full, ends = self._counts(np.diff(document_starts))
        first = block_documents[:-1]
        full_in_block = np.add.reduceat(full, first)
        packed = np.add.reduceat(ends + (spans - full) * self.special_tokens, first)
        short = self._num_short(full_in_block)
        packed += short * (self.capacity + 2 * self.special_tokens)
        return full_in_block - short + np.ceil(packed / (FILL * self.block_size)).astype(np.int64)

    def plan(self, document_starts: np.ndarray, *, epoch: int, block: int) -> Spans:
        """Cut and pack one block.

        Args:
            document_starts: (documents + 1,) token offsets of the block's documents.
            epoch: part of the key.
            block: part of the key.
        """
        lengths = np.diff(document_starts)
        starts = document_starts[:-1]
        spans, full, ends = self._counts(lengths)

        # The first and the last span share what the full ones leave, neither with less than a quarter of it.
        least = np.maximum(ends - self.capacity, -(-ends // 4))
        choice = np.floor(keyed_uniform(self.seed, "cut", epoch, starts) * (ends - 2 * least + 1)).astype(np.int64)
        first_length = np.where(spans == 1, lengths, least + choice)

        document = np.repeat(np.arange(len(lengths)), spans)
        place = np.arange(len(document)) - np.repeat(np.cumsum(spans) - spans, spans)  # of the span in its document
        offset = np.where(place == 0, 0, first_length[document] + (place - 1) * self.capacity)
        end = np.minimum(first_length[document] + place * self.capacity, lengths[document])
        start, length = starts[document] + offset, end - offset
        is_full = (place > 0) & (place < spans[document] - 1)

        full_spans = np.flatnonzero(is_full)
        order = keyed_permutation(len(full_spans), self.seed, "short", epoch, block)
        num_short = int(self._num_short(int(full.sum())))
        short, whole = full_spans[order[:num_short]], full_spans[order[num_short:]]
        cut = 1 + (keyed_uniform(self.seed, "short length", epoch, start[short]) * (self.capacity - 1)).astype(np.int64)

        loose_start = np.concatenate([start[~is_full], start[short], start[short] + cut])
        loose_length = np.concatenate([length[~is_full], cut, length[short] - cut])
        shuffled = keyed_permutation(len(loose_start), self.seed, "pack", epoch, block)
        loose_start, loose_length = loose_start[shuffled], loose_length[shuffled]
        packed_tokens = int((loose_length + self.special_tokens).sum())
        filled = fill_rows(
            loose_length,
            num_rows=int(np.ceil(packed_tokens / (FILL * self.block_size))),
            capacity=self.block_size,
            overhead=self.special_tokens,
        )
        return Spans(
            start=np.concatenate([start[whole], loose_start[filled.example] + filled.offset]),
            length=np.concatenate([length[whole], filled.length]),
            row=np.concatenate([np.arange(len(whole)), len(whole) + filled.row]),
        )


def whole_spans(spans: Spans, epoch: int) -> Examples:
    """Return examples of one segment each: the spans as they are."""
    nothing = np.zeros_like(spans.start)
    return Examples(
        row=spans.row,
        start=spans.start,
        length=spans.length,
        second_start=nothing,
        second_length=nothing,
        next_sentence_label=np.full_like(nothing, NO_PAIR),
        epoch=np.full_like(nothing, epoch),
    )


def packed_stream(
    store: TokenStore,
    cutter: SpanCutter,
    *,
    seed: int,
    shuffle: bool,
    to_examples: Callable[[Spans, int], Examples] = whole_spans,
) -> RowStream:
    """Lay out rows that examples share.

    Args:
        store: the corpus.
        cutter: cuts its documents and packs the spans.
        seed: key of the order.
        shuffle: a new order each epoch; else the corpus's own.
        to_examples: makes examples of the spans of a block in an epoch.
    """
    block_documents = block_boundaries(store.document_starts)

    def plan_block(epoch: int, block: int) -> Examples:
        first, last = block_documents[block], block_documents[block + 1]
        spans = cutter.plan(store.document_starts[first : last + 1], epoch=epoch, block=block)
        return to_examples(spans, epoch)

    rows_per_block = cutter.rows_per_block(store.document_starts, block_documents)
    return RowStream(rows_per_block, plan_block, seed=seed, shuffle=shuffle)
