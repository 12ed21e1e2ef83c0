"""The endless stream of rows that training walks: which row of which block of the corpus stands at place n.

The corpus is planned in blocks of about a million tokens. In each epoch the blocks come in a new order, and the rows of
`BLOCKS_PER_WINDOW` neighbouring blocks are shuffled together. How many rows a block has is known without planning it, so
place n is found by arithmetic: no step before it is replayed, and a corpus of any size costs the same.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bertkit.data.keyed_random import keyed_permutation

BLOCK_TOKENS = 2**20
BLOCKS_PER_WINDOW = 16
NO_PAIR = -100  # label of an example without a second segment


class Examples(NamedTuple):
    """Spans of the TokenStore that make examples, one entry an example, sorted by row; all arrays are (examples,) int64."""

    row: np.ndarray
    """The row the example lies in."""
    start: np.ndarray
    """Where it begins, as a token offset in the store; an epoch never uses one start twice."""
    length: np.ndarray
    """Its tokens, without special ones."""
    second_start: np.ndarray
    """Where its second segment begins, if it has one."""
    second_length: np.ndarray
    """Tokens of the second segment; 0 where there is none."""
    next_sentence_label: np.ndarray
    """0 where the second segment follows the first in the text, 1 where it was taken from elsewhere, −100 without one."""
    epoch: np.ndarray
    """The epoch that made it: part of the key of every random choice about it."""


def block_boundaries(document_starts: np.ndarray) -> np.ndarray:
    """Group whole documents into blocks of about `BLOCK_TOKENS` tokens.

    Args:
        document_starts: (documents + 1,) token offsets, as in `TokenStore.document_starts`.

    Returns:
        (blocks + 1,) int64 document numbers; block b is the documents from entry b up to entry b + 1.
    """
    marks = np.arange(0, int(document_starts[-1]), BLOCK_TOKENS)
    first_documents = np.searchsorted(document_starts[:-1], marks)
    return np.unique(np.append(first_documents, len(document_starts) - 1))


class RowStream:
    """Finds the examples of the row at any place of an endless run of epochs.

    Args:
        rows_per_block: (blocks,) rows in each block, the same in every epoch.
        plan_block: `plan_block(epoch, block)` gives the block's `Examples`, rows counted from 0.
        seed: key of the order.
        shuffle: new order each epoch; else the rows come in the corpus's order.
    """

    def __init__(
        self,
        rows_per_block: np.ndarray,
        plan_block: Callable[[int, int], Examples],
        *,
        seed: int,
        shuffle: bool,
    ) -> None:
        self.rows_per_block = rows_per_block
        self.rows_per_epoch = int(rows_per_block.sum())
        self.seed = seed
        self.shuffle = shuffle
        self._block = lru_cache(maxsize=2 * BLOCKS_PER_WINDOW)(plan_block)
        self._block_order = lru_cache(maxsize=2)(self._make_block_order)
        self._window_order = lru_cache(maxsize=2)(self._make_window_order)

    def _make_block_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks of an epoch in order (blocks,), and the first place of each, with the end: (blocks + 1,)."""
        blocks = len(self.rows_per_block)
        order = keyed_permutation(blocks, self.seed, "block order", epoch) if self.shuffle else np.arange(blocks)
        return order, np.concatenate([[0], np.cumsum(self.rows_per_block[order])])

    def _make_window_order(self, epoch: int, window: int) -> np.ndarray:
        """Return the rows of a window in order: (rows,) places in the epoch's unshuffled run of blocks."""
        _, first_places = self._block_order(epoch)
        first = window * BLOCKS_PER_WINDOW
        start, stop = first_places[first], first_places[min(first + BLOCKS_PER_WINDOW, len(first_places) - 1)]
        if not self.shuffle:
            return np.arange(start, stop)
        return start + keyed_permutation(int(stop - start), self.seed, "row order", epoch, window)

    def _locate(self, number: int) -> tuple[int, int, int]:
        epoch, place = divmod(number, self.rows_per_epoch)
        order, first_places = self._block_order(epoch)
        window = (int(np.searchsorted(first_places, place, side="right")) - 1) // BLOCKS_PER_WINDOW
        place = int(self._window_order(epoch, window)[place - first_places[window * BLOCKS_PER_WINDOW]])
        position = int(np.searchsorted(first_places, place, side="right")) - 1
        return epoch, int(order[position]), place - int(first_places[position])

    def rows(self, start: int, stop: int) -> Examples:
        """Return the examples of the rows at places `start` to `stop` of the stream, rows renumbered from 0."""
        found = []
        for number in range(start, stop):
            epoch, block, row = self._locate(number)
            plan = self._block(epoch, block)
            first, last = np.searchsorted(plan.row, [row, row + 1])
            examples = Examples(*(column[first:last] for column in plan))
            found.append(examples._replace(row=np.full(last - first, number - start)))
        return Examples(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
