"""Batches of texts of like length, laid into rows without padding worth naming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bertkit.data.packing import flat_starts, pack_rows, ranges
from bertkit.features.tokens import TokenizedTexts

_FULL_ENOUGH = 8  # a batch that is filled to this part may end where the next text is shorter


def cut_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Put texts of like length together, the longest first.

    A batch that is an eighth full ends where the next text is shorter than its longest. So most rows are one text each,
    all of one length, with nothing to mask: attention is at its cheapest, and next to nothing is padded.

    Args:
        lengths: (texts,) lengths in tokens.
        batch_tokens: tokens of a batch, at most; a longer text is a batch of its own.

    Yields:
        The numbers of the texts of a batch.

    >>> [batch.tolist() for batch in cut_batches(np.array([2, 5, 2, 3, 2]), batch_tokens=6)]
    [[1], [3], [0, 2, 4]]
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    ends = np.cumsum(descending)
    first = 0
    while first < len(order):
        before = ends[first] - descending[first]
        full = np.searchsorted(ends, before + batch_tokens, side="right")
        full_enough = np.searchsorted(ends, before + batch_tokens / _FULL_ENOUGH) + 1
        same_length = np.searchsorted(-descending, -descending[first], side="right")
        last = int(max(first + 1, min(full, max(full_enough, same_length))))
        yield order[first:last]
        first = last


class Batch(NamedTuple):
    """What the model reads, and which of its positions make which vector."""

    inputs: dict[str, np.ndarray]
    """The model's inputs, (rows, seq, ...) int64 each: without position_ids where every row is one text, and without
    attention_mask where there is no padding."""
    vector_of: np.ndarray
    """(rows * seq,) int64 which vector of the batch a position is for, `len(vectors)` where it is for none."""
    vectors: np.ndarray
    """(vectors of the batch,) int64 their places among the vectors of all texts."""


def lay_batch(texts: TokenizedTexts, numbers: np.ndarray, *, pad_token_id: int) -> Batch:
    """Lay the texts of a batch into rows as long as the longest of them.

    Args:
        texts: all tokenized texts.
        numbers: (batch,) which of them.
        pad_token_id: what stands in the positions that are left over.
    """
    lengths, counts = texts.lengths[numbers], texts.counts[numbers]
    seq = int(lengths.max())
    row = pack_rows(lengths, seq)
    num_rows = int(row.max()) + 1
    places = ranges(flat_starts(lengths, row, seq), lengths)  # (tokens,) where each token comes to lie
    sources = ranges(texts.starts[numbers], lengths)  # (tokens,) where it comes from

    def lay(values: np.ndarray, padding: int) -> np.ndarray:
        flat = np.full((num_rows * seq, *values.shape[1:]), padding, dtype=np.int64)
        flat[places] = values
        return flat

    flat_inputs = {"input_ids": lay(texts.token_ids[sources], pad_token_id)}
    if texts.token_type_ids is not None:
        flat_inputs["token_type_ids"] = lay(texts.token_type_ids[sources], 0)
    if len(places) < num_rows * seq:
        flat_inputs["attention_mask"] = lay(np.ones_like(places), 0)
    if num_rows < len(numbers):
        flat_inputs["position_ids"] = lay(ranges(np.zeros_like(lengths), lengths), 1)  # 0 would start a text
    num_vectors = int(counts.sum())
    within = texts.vector_of[sources]  # (tokens,) which vector of its text
    of_batch = np.where(within < 0, num_vectors, within + np.repeat(np.cumsum(counts) - counts, lengths))
    return Batch(
        inputs={name: flat.reshape(num_rows, seq, *flat.shape[1:]) for name, flat in flat_inputs.items()},
        vector_of=lay(of_batch, num_vectors),
        vectors=ranges(texts.offsets[numbers], counts),
    )
