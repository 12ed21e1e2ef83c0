"""Text in rows that go on from step to step, for truncated backpropagation through time.

The documents of an epoch, each with what begins and ends it, make one long line. It is cut into as many stretches of equal
length as a step has rows; row r of a step is the part of stretch r behind the one that row r of the step before was. So a
recurrent model that keeps its state from step to step reads whole documents, whatever the length of a row.
"""

from typing import NamedTuple

import numpy as np

from bertkit.data.document_line import DocumentLine
from bertkit.data.errors import DataError
from bertkit.data.row_stream import block_boundaries
from bertkit.data.token_store import TokenStore


class Parts(NamedTuple):
    """Parts of documents in rows; the arrays are (parts,) int64, sorted by row."""

    row: np.ndarray
    """The row the part lies in."""
    document: np.ndarray
    """Number of the document in the store."""
    offset: np.ndarray
    """Which of the document's predictions is the first: 0 is that of its first token, the last one that of its end."""
    length: np.ndarray
    """How many predictions."""
    position: np.ndarray
    """Where the part stands in what the row has read of the document; 0 where a document, or an epoch, begins."""
    width: int
    """Length of a row, the same in every step; all have as many tokens, or one fewer."""


class ContinuousRows:
    """Finds what stands in the rows of any step.

    A document of n tokens makes n + 1 predictions. All steps of an epoch are equally long, so that none has few labels; the
    rows of a step differ by one token at most.

    Args:
        store: the corpus.
        num_rows: rows of a step, over all processes.
        block_size: longest row, in tokens.
        seed: key of the order.
        shuffle: a new order each epoch; else the corpus's own.

    Raises:
        DataError: the text is too short for so many rows.
    """

    def __init__(self, store: TokenStore, *, num_rows: int, block_size: int, seed: int, shuffle: bool) -> None:
        starts = store.document_starts
        blocks = block_boundaries(starts)
        self.line = DocumentLine(
            blocks,
            np.diff(starts[blocks]) + np.diff(blocks),
            lambda first, last: np.diff(starts[first : last + 1]) + 1,
            seed=seed,
            shuffle=shuffle,
            blocks_at_once=32 + 2 * num_rows,
        )
        if self.line.length < 2 * num_rows:
            raise DataError(
                f"{num_rows} rows that each go on with a text of their own need more than the {self.line.length} tokens of "
                f"{', '.join(store.metadata.sources)}; let fewer rows go on (training.train_batch_size or "
                "eval_batch_size, --batch_size of `bertkit evaluate`), or give more text"
            )
        longest = -(-self.line.length // num_rows)
        self.num_rows = num_rows
        self.steps_per_epoch = -(-longest // block_size)
        self.rows_per_epoch = num_rows * self.steps_per_epoch
        self.width = -(-longest // self.steps_per_epoch)

    def rows(self, start: int, stop: int) -> Parts:
        """Return the parts in the rows at places `start` to `stop`, rows renumbered from 0."""
        found, rows, positions = [], [], []
        for place in range(start, stop):
            epoch, in_epoch = divmod(place, self.rows_per_epoch)
            step, row = divmod(in_epoch, self.num_rows)
            first, behind = (number * self.line.length // self.num_rows for number in (row, row + 1))
            begin, end = (number * (behind - first) // self.steps_per_epoch for number in (step, step + 1))
            part = self.line.stretch(epoch, first + begin, first + end)
            position = np.zeros_like(part.offset)
            position[0] = min(int(part.offset[0]), begin)  # a document whose beginning another row has read
            found.append(part)
            rows.append(np.full_like(part.offset, place - start))
            positions.append(position)
        document, offset, length = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return Parts(
            row=np.concatenate(rows),
            document=document,
            offset=offset,
            length=length,
            position=np.concatenate(positions),
            width=self.width,
        )
