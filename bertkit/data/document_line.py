"""Documents laid end to end in the order of an epoch: which of them lie at a stretch of that line.

Each epoch has the blocks of a corpus in a new order, and in each block its documents. The size of a block is known without
planning it, so a place on the line is found by arithmetic, and only the blocks around it are laid out.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bertkit.data.keyed_random import keyed_permutation


class Stretch(NamedTuple):
    """Parts of documents, in the order of the line; all arrays are (parts,) int64."""

    document: np.ndarray
    """Number of the document in the store."""
    offset: np.ndarray
    """Where in its document the part begins."""
    length: np.ndarray
    """How much of it there is, at least 1."""


class DocumentLine:
    """Finds what lies where, in any epoch.

    Args:
        block_documents: (blocks + 1,) document numbers where blocks begin.
        block_sizes: (blocks,) sums of the sizes of their documents.
        document_sizes: `document_sizes(first, last)` gives the sizes of these documents, (documents,) int64; one of size 0
            lies nowhere.
        seed: key of the order.
        shuffle: a new order each epoch; else the corpus's own.
        blocks_at_once: blocks that are kept laid out.
    """

    def __init__(
        self,
        block_documents: np.ndarray,
        block_sizes: np.ndarray,
        document_sizes: Callable[[int, int], np.ndarray],
        *,
        seed: int,
        shuffle: bool,
        blocks_at_once: int = 32,
    ) -> None:
        self.block_documents = block_documents
        self.block_sizes = block_sizes
        self.length = int(block_sizes.sum())
        self.document_sizes = document_sizes
        self.seed = seed
        self.shuffle = shuffle
        self._blocks = lru_cache(maxsize=2)(self._order_blocks)
        self._block = lru_cache(maxsize=blocks_at_once)(self._lay_out_block)

    def _order_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks of an epoch in order (blocks,), and where each begins, with the end: (blocks + 1,)."""
        blocks = len(self.block_sizes)
        order = keyed_permutation(blocks, self.seed, "block order", epoch) if self.shuffle else np.arange(blocks)
        return order, np.concatenate([[0], np.cumsum(self.block_sizes[order])])

    def _lay_out_block(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the documents of a block in order (documents,), and where each begins in it: (documents + 1,)."""
        first, last = int(self.block_documents[block]), int(self.block_documents[block + 1])
        sizes = self.document_sizes(first, last)
        order = np.arange(last - first)
        if self.shuffle:
            order = keyed_permutation(last - first, self.seed, "document order", epoch, block)
        return first + order, np.concatenate([[0], np.cumsum(sizes[order])])

    def stretch(self, epoch: int, start: int, stop: int) -> Stretch:
        """Return what lies from place `start` to place `stop` of an epoch's line, both at most `length`."""
        order, block_starts = self._blocks(epoch)
        found = []
        position = int(np.searchsorted(block_starts, start, side="right")) - 1
        while position < len(order) and block_starts[position] < stop:
            documents, starts = self._block(epoch, int(order[position]))
            low = max(start - int(block_starts[position]), 0)
            high = min(stop - int(block_starts[position]), int(starts[-1]))
            first = int(np.searchsorted(starts, low, side="right")) - 1
            last = int(np.searchsorted(starts[:-1], high, side="left"))
            begin = np.maximum(starts[first:last], low)
            length = np.minimum(starts[first + 1 : last + 1], high) - begin
            there = length > 0
            found.append(Stretch(documents[first:last][there], (begin - starts[first:last])[there], length[there]))
            position += 1
        nothing = np.zeros(0, dtype=np.int64)
        return (
            Stretch(*(np.concatenate([nothing, *columns]) for columns in zip(*found, strict=True)))
            if found
            else (Stretch(nothing, nothing, nothing))
        )
