"""Packing: examples of many lengths laid into rows of one length with next to no padding.

Two ways, both best-fit decreasing (the longest example first, into the fullest row that still takes it):
`pack_rows` opens as many rows as it needs; `fill_rows` is given the number of rows and cuts what will not fit whole.
The rest says where things then lie, and pads what is counted by the example.
"""

from dataclasses import dataclass

import numpy as np


class _RowsBySpace:
    """Rows indexed by the room left in them; a bit mask of the sizes in use makes best fit a constant-time step."""

    def __init__(self, capacity: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(capacity + 1)]
        self.sizes = 0

    def add(self, row: int, space: int) -> None:
        self.rows[space].append(row)
        self.sizes |= 1 << space

    def take(self, space: int) -> int:
        row = self.rows[space].pop()
        if not self.rows[space]:
            self.sizes &= ~(1 << space)
        return row

    def smallest_at_least(self, length: int) -> int:
        """Return the smallest room that takes `length`, or −1."""
        fitting = self.sizes >> length
        return length + (fitting & -fitting).bit_length() - 1 if fitting else -1

    def largest(self) -> int:
        """Return the largest room there is, or −1."""
        return self.sizes.bit_length() - 1


def pack_rows(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Give each example a row, opening as few rows as best-fit decreasing finds.

    Args:
        lengths: (examples,) lengths in tokens, each from 1 to `capacity`.
        capacity: length of a row in tokens.

    Returns:
        (examples,) int64 row numbers, counted from 0 without gaps.

    Raises:
        ValueError: an example is longer than a row.

    >>> pack_rows(np.array([5, 3, 2, 6]), capacity=8).tolist()
    [1, 1, 0, 0]
    """
    if len(lengths) and lengths.max() > capacity:
        raise ValueError(f"an example of {lengths.max()} tokens does not fit a row of {capacity}")
    spaces = _RowsBySpace(capacity)
    rows = np.empty(len(lengths), dtype=np.int64)
    opened = 0
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        space = spaces.smallest_at_least(length)
        if space < 0:
            row, space = opened, capacity
            opened += 1
        else:
            row = spaces.take(space)
        rows[example] = row
        if space > length:
            spaces.add(row, space - length)
    return rows


@dataclass(frozen=True)
class FilledRows:
    """Where the pieces of the examples lie after `fill_rows`; all arrays are (pieces,) int64, in order of rows."""

    example: np.ndarray
    """Which example the piece belongs to."""
    offset: np.ndarray
    """Where in its example the piece begins, in tokens."""
    length: np.ndarray
    """Content tokens of the piece."""
    row: np.ndarray
    """The row it lies in."""
    left_out: int
    """Content tokens that found no room."""


def fill_rows(lengths: np.ndarray, *, num_rows: int, capacity: int, overhead: int, min_piece: int = 2) -> FilledRows:
    """Lay examples into a given number of rows; those that fit nowhere whole are cut into the holes that are left.

    Among examples of one length the first given is laid first, so a shuffled input gives shuffled company.

    Args:
        lengths: (examples,) content lengths in tokens; with `overhead`, each at most `capacity`.
        num_rows: rows to fill.
        capacity: length of a row in tokens.
        overhead: special tokens added to every example, and to every piece of one that is cut.
        min_piece: holes for fewer content tokens are not filled by cutting.

    >>> filled = fill_rows(np.array([6, 6, 6]), num_rows=2, capacity=13, overhead=2, min_piece=1)
    >>> filled.example.tolist(), filled.length.tolist(), filled.row.tolist(), filled.left_out
    ([0, 2, 1, 2], [6, 3, 6, 3], [0, 0, 1, 1], 0)
    """
    spaces = _RowsBySpace(capacity)
    for row in reversed(range(num_rows)):
        spaces.add(row, capacity)
    pieces: list[tuple[int, int, int, int]] = []  # (row, example, offset, length)

    def place(example: int, offset: int, length: int, space: int) -> None:
        row = spaces.take(space)
        pieces.append((row, example, offset, length))
        if space > length + overhead:
            spaces.add(row, space - length - overhead)

    homeless = []
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        space = spaces.smallest_at_least(length + overhead)
        if space < 0:
            homeless.append(example)
        else:
            place(example, 0, length, space)

    left_out = 0
    for example in homeless:
        offset, remaining = 0, int(lengths[example])
        while remaining:
            space = spaces.smallest_at_least(remaining + overhead)
            if space < 0:
                space = spaces.largest()
            piece = min(remaining, space - overhead)
            if piece < min(min_piece, remaining):
                left_out += remaining
                break
            place(example, offset, piece, space)
            offset, remaining = offset + piece, remaining - piece

    rows, examples, offsets, piece_lengths = np.array(sorted(pieces), dtype=np.int64).reshape(-1, 4).T
    return FilledRows(example=examples, offset=offsets, length=piece_lengths, row=rows, left_out=left_out)


def flat_starts(lengths: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """Say where each example begins in rows laid end to end, when those of a row follow one another in their order.

    Args:
        lengths: (examples,) lengths in tokens.
        rows: (examples,) the row of each, as `pack_rows` gives it.
        width: length of a row in tokens.

    Returns:
        (examples,) int64 flat positions.

    >>> flat_starts(np.array([5, 3, 2]), np.array([1, 0, 1]), width=8).tolist()
    [8, 0, 13]
    """
    by_row = np.argsort(rows, kind="stable")
    before = np.cumsum(lengths[by_row]) - lengths[by_row]  # tokens in front of each example, rows end to end
    column = before - before[np.searchsorted(rows[by_row], rows[by_row])]
    starts = np.empty_like(lengths)
    starts[by_row] = rows[by_row] * width + column
    return starts


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Count up from each start, as often as its length says.

    Args:
        starts: (examples,) first numbers.
        lengths: (examples,) how many numbers, of one example at least.

    Returns:
        (sum of lengths,) the numbers, example after example.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)


def pad_to_multiple(values: np.ndarray, multiple: int, filler: int) -> np.ndarray:
    """Lengthen an array to the next multiple of a length, at least to one of them.

    Args:
        values: (n, ...) numbers.
        multiple: what the new length is a multiple of.
        filler: what stands behind the values.

    Returns:
        (padded length, ...), integers as int64.

    >>> pad_to_multiple(np.array([7, 8, 9]), 2, filler=-1).tolist(), pad_to_multiple(np.array([], int), 2, filler=0).tolist()
    ([7, 8, 9, -1], [0, 0])
    """
    length = max(-(-len(values) // multiple), 1) * multiple
    dtype = values.dtype if values.dtype.kind == "f" else np.int64
    padded = np.full((length, *values.shape[1:]), filler, dtype=dtype)
    padded[: len(values)] = values
    return padded
