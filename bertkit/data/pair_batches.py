"""Pairs of texts in batches of about one length, so that little padding is computed.

In each epoch the pairs come in a new order. The pairs of a hundred batches at a time are sorted by length and cut into
batches, which are then shuffled. Only what lies around a batch is looked at, so neither a far step nor a large corpus costs
more.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bertkit.data.document_line import DocumentLine
from bertkit.data.keyed_random import keyed_permutation
from bertkit.data.packing import ranges
from bertkit.data.row_stream import block_boundaries
from bertkit.data.token_store import TokenStore

BATCHES_AT_ONCE = 100
BATCHES_OF_LIKE_TARGETS = 7  # of a hundred, these left least padding in Multi30k's pairs


class Pairs(NamedTuple):
    """Pairs of texts in a TokenStore; all arrays are (pairs,) int64, in order of rows."""

    source_start: np.ndarray
    """Where the source begins, as a token offset in the store."""
    source_length: np.ndarray
    """Its tokens, without special ones."""
    target_start: np.ndarray
    """Where the target begins."""
    target_length: np.ndarray
    """Its tokens, without special ones."""


class PairIndex:
    """Finds the pairs of a store: documents of two sentences, neither of them too long.

    Args:
        store: the corpus.
        max_source: most tokens of a source.
        max_target: most tokens of a target.
    """

    def __init__(self, store: TokenStore, *, max_source: int, max_target: int) -> None:
        self.store = store
        self.max_source = max_source
        self.max_target = max_target
        self.block_documents = block_boundaries(store.document_starts)
        # A block at a time, here as below: memory stays flat, however many pairs there are.
        self.pairs_per_block = np.zeros(len(self.block_documents) - 1, dtype=np.int64)
        self.num_incomplete = self.num_too_long = 0
        for block in range(len(self.pairs_per_block)):
            complete, fits = self._judge(*self.block_documents[block : block + 2])
            self.pairs_per_block[block] = (complete & fits).sum()
            self.num_incomplete += int((~complete).sum())
            self.num_too_long += int((complete & ~fits).sum())
        self.num_pairs = int(self.pairs_per_block.sum())

    def _judge(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Say which of the documents have two sentences, and in which both are short enough: (documents,) bool each."""
        starts = np.asarray(self.store.document_starts[first : last + 1])
        sentence = np.searchsorted(self.store.sentence_starts, starts)
        pairs = self._pairs_at(starts[:-1], starts[1:], sentence[:-1])
        return np.diff(sentence) == 2, (pairs.source_length <= self.max_source) & (
            pairs.target_length <= self.max_target
        )

    def _pairs_at(self, starts: np.ndarray, ends: np.ndarray, sentence: np.ndarray) -> Pairs:
        middle = self.store.sentence_starts[sentence + 1]
        return Pairs(starts, middle - starts, middle, ends - middle)

    def usable(self, first: int, last: int) -> np.ndarray:
        """Return 1 for each of the documents that is a pair of use, 0 for the others: (documents,) int64."""
        complete, fits = self._judge(first, last)
        return (complete & fits).astype(np.int64)

    def pairs(self, documents: np.ndarray) -> Pairs:
        """Return where the pairs are that some documents of use hold.

        Args:
            documents: (pairs,) their numbers.
        """
        starts, ends = self.store.document_starts[documents], self.store.document_starts[documents + 1]
        return self._pairs_at(starts, ends, np.searchsorted(self.store.sentence_starts, starts))

    def _pairs_by_block(self) -> Iterator[Pairs]:
        for first, last in pairwise(self.block_documents):
            yield self.pairs(first + np.flatnonzero(self.usable(first, last)))

    @cached_property
    def target_counts(self) -> np.ndarray:
        """How often each token occurs in the targets: (vocab,) int64."""
        counts = np.zeros(len(self.store.token_counts), dtype=np.int64)
        for pairs in self._pairs_by_block():
            if len(pairs.target_start):
                places = ranges(pairs.target_start, pairs.target_length)
                counts += np.bincount(self.store.token_ids[places], minlength=len(counts))
        return counts

    @cached_property
    def bytes_per_target_token(self) -> float:
        """Bytes of normalised text that a token of a target stands for, on average."""
        sentences = (
            np.searchsorted(self.store.sentence_starts, pairs.target_start) for pairs in self._pairs_by_block()
        )
        total = sum(int(self.store.sentence_bytes[numbers].sum(dtype=np.int64)) for numbers in sentences)
        return total / int(self.target_counts.sum())


def by_length(pairs: Pairs, batch_size: int) -> np.ndarray:
    """Order pairs so that neighbours are alike in the lengths of both sides.

    The pairs are parted by the lengths of their targets; each part is then in order of the sources, up and down by turns.

    Args:
        pairs: the pairs.
        batch_size: how many neighbours should be alike.

    Returns:
        (pairs,) int64 places in `pairs`.
    """
    by_target = np.lexsort((pairs.source_length, pairs.target_length))
    part = np.arange(len(by_target)) // (BATCHES_OF_LIKE_TARGETS * batch_size)
    source_length = pairs.source_length[by_target]
    return by_target[np.lexsort((np.where(part % 2, -source_length, source_length), part))]


class PairBatches:
    """Finds the pairs at any place of an endless run of epochs.

    Args:
        index: the pairs.
        batch_size: pairs of a step, over all processes. An epoch of training is filled up to whole steps by fewer pairs than
            one holds, which are read a second time.
        seed: key of the order.
        shuffle: a new order each epoch; else one epoch in the corpus's order, but for the sorting, and no pair twice.
    """

    def __init__(self, index: PairIndex, *, batch_size: int, seed: int, shuffle: bool) -> None:
        self.index = index
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.line = DocumentLine(index.block_documents, index.pairs_per_block, index.usable, seed=seed, shuffle=shuffle)
        steps = -(-index.num_pairs // batch_size)
        self.rows_per_epoch = steps * batch_size if shuffle else index.num_pairs
        self._window = lru_cache(maxsize=4)(self._sort_window)

    def _sort_window(self, epoch: int, window: int) -> Pairs:
        """Return the pairs of some neighbouring batches, in order."""
        first = window * BATCHES_AT_ONCE * self.batch_size
        last = min(first + BATCHES_AT_ONCE * self.batch_size, self.rows_per_epoch)
        documents = self.line.stretch(epoch, first, min(last, self.line.length)).document
        if last > self.line.length:
            again = self.line.stretch(epoch, 0, min(last, self.line.length)).document
            documents = np.append(documents, np.resize(again, last - self.line.length))
        pairs = self.index.pairs(documents)
        order = by_length(pairs, self.batch_size)
        if self.shuffle:
            batches = order.reshape(-1, self.batch_size)
            order = batches[keyed_permutation(len(batches), self.seed, "batch order", epoch, window)].ravel()
        return Pairs(*(column[order] for column in pairs))

    def rows(self, start: int, stop: int) -> Pairs:
        """Return the pairs at places `start` to `stop`."""
        found = []
        while start < stop:
            epoch, place = divmod(start, self.rows_per_epoch)
            window, offset = divmod(place, BATCHES_AT_ONCE * self.batch_size)
            some = Pairs(*(column[offset : offset + stop - start] for column in self._window(epoch, window)))
            found.append(some)
            start += len(some.source_start)
        return Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
