"""Rows taken apart into sequences, against a loop over the examples."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.models.modeling_packed_rows import split_rows

# Of each row: padding on the left, lengths of its examples, and whether the first goes on from the row's state.
rows = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.integers(1, 4), max_size=3), st.booleans()), min_size=1, max_size=4
)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_every_example_is_one_sequence_that_starts_from_the_right_state(rows):
    batch, seq = len(rows), max(left + sum(lengths) for left, lengths, _ in rows) + 1
    mask, position_ids = torch.zeros(batch, seq, dtype=torch.long), torch.zeros(batch, seq, dtype=torch.long)
    examples, ends = [], {}
    for row, (left, lengths, goes_on) in enumerate(rows):
        for number, length in enumerate(lengths):
            continues = goes_on and number == 0
            here = slice(left, left + length)
            mask[row, here], position_ids[row, here] = 1, torch.arange(length) + 3 * continues
            ends[row] = list(range(left, left + length))
            examples.append((row, continues, ends[row]))
            left += length
    packed = split_rows(batch, seq, mask, position_ids)
    assert packed is not None
    if not examples:
        assert not packed.filled.any() and packed.batch_sizes.tolist() == [batch]
        return
    places = torch.arange(batch * seq).view(batch, seq, 1)
    steps, sizes = packed.take(places).data.flatten().tolist(), packed.batch_sizes.tolist()
    assert sizes == sorted(sizes, reverse=True)
    sequences = [[] for _ in range(sizes[0])]
    for size in sizes:
        for sequence in sequences[:size]:
            sequence.append(steps.pop(0))
    found = zip(packed.rows.tolist(), packed.continues.tolist(), sequences, strict=True)
    as_given = [(row, continues, [step - row * seq for step in steps]) for row, continues, steps in found]
    assert sorted(as_given, key=lambda example: (example[0], example[2])) == examples
    torch.testing.assert_close(packed.put(packed.take(places), batch, seq), places * mask[..., None])
    state = torch.arange(1.0, batch + 1)[:, None]
    (first,) = packed.first_state((state,))
    torch.testing.assert_close(first, torch.where(packed.continues, packed.rows + 1.0, 0.0)[:, None])
    last_places = torch.tensor([[float(sequence[-1])] for sequence in sequences])
    (last,) = packed.last_state((last_places,), (state,))
    expected = [row * seq + ends[row][-1] if row in ends else row + 1 for row in range(batch)]
    assert last.flatten().tolist() == expected


def test_rows_that_are_one_sequence_each_are_left_as_they_are():
    ones, positions = torch.ones(2, 3, dtype=torch.long), torch.arange(3)[None]
    assert split_rows(2, 3, None, None) is None
    assert split_rows(2, 3, ones, None) is None and split_rows(2, 3, None, positions + 5) is None
    assert split_rows(2, 3, torch.cat([ones * 0, ones], dim=1), positions) is None  # padding that was read before
    assert split_rows(2, 1, None, torch.zeros(2, 1, dtype=torch.long)) is None
