"""Packing lays every token into a row, once, and wastes little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.packing import fill_rows, flat_starts, pack_rows, pad_to_multiple, ranges

lengths_of_examples = st.lists(st.integers(1, 64), min_size=1, max_size=200).map(np.array)


@given(lengths_of_examples)
def test_packed_rows_never_overflow_and_have_no_gaps(lengths):
    rows = pack_rows(lengths, capacity=64)
    assert np.bincount(rows, weights=lengths).max() <= 64
    assert set(rows) == set(range(rows.max() + 1))


@given(lengths_of_examples)
def test_packed_rows_are_at_most_the_known_bound_of_best_fit_decreasing(lengths):
    # Dósa 2007: at most 11/9 of the optimum + 6/9, and no packing is better than all tokens without a gap.
    optimum = -(-lengths.sum() // 64)
    halves = (lengths > 32).sum()  # no two of them share a row
    assert pack_rows(lengths, capacity=64).max() + 1 <= max(11 / 9 * max(optimum, halves) + 6 / 9, optimum * 1.7)


def test_an_example_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="9 tokens does not fit a row of 8"):
        pack_rows(np.array([3, 9]), capacity=8)


@given(lengths_of_examples, st.floats(0.3, 1.2))
def test_filled_rows_hold_each_token_once_or_count_it_as_left_out(lengths, generosity):
    num_rows = max(int(np.ceil((lengths + 2).sum() / 66 * generosity)), 1)
    filled = fill_rows(lengths, num_rows=num_rows, capacity=66, overhead=2)
    assert np.bincount(filled.row, weights=filled.length + 2, minlength=num_rows).max() <= 66
    assert filled.row.max() < num_rows and (np.diff(filled.row) >= 0).all()
    seen = [np.zeros(length, dtype=int) for length in lengths]
    for example, offset, length in zip(filled.example, filled.offset, filled.length, strict=True):
        seen[example][offset : offset + length] += 1
    seen = np.concatenate(seen)
    assert seen.max() == 1
    assert (seen == 0).sum() == filled.left_out


@pytest.mark.parametrize("length", [10, 40, 75, 77, 100, 120])
def test_rows_asked_to_be_98_percent_full_take_examples_of_one_awkward_length(length):
    lengths = np.full(4000, length)
    filled = fill_rows(lengths, num_rows=int(np.ceil((lengths + 2).sum() / (0.98 * 128))), capacity=128, overhead=2)
    assert filled.left_out <= 0.01 * lengths.sum()


@given(lengths_of_examples)
def test_examples_that_begin_at_their_flat_starts_share_no_position_and_stay_in_their_rows(lengths):
    rows = pack_rows(lengths, capacity=64)
    starts = flat_starts(lengths, rows, 70)
    positions = ranges(starts, lengths)
    assert len(set(positions.tolist())) == lengths.sum()
    assert (positions // 70 == np.repeat(rows, lengths)).all()
    assert positions.tolist() == [start + place for start, n in zip(starts, lengths, strict=True) for place in range(n)]
    assert positions.max() % 70 < 64 and set(np.unique(rows) * 70) <= set(starts)


@given(st.lists(st.integers(0, 9)), st.integers(1, 9))
def test_padding_keeps_the_values_and_ends_at_the_next_multiple(values, multiple):
    padded = pad_to_multiple(np.array(values, dtype=np.int64), multiple, -1)
    assert padded.tolist() == values + [-1] * (len(padded) - len(values))
    assert len(padded) % multiple == 0 and 0 < len(padded) < max(len(values), 1) + multiple
