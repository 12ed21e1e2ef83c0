"""Packing rules against their plain statement, position by position."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.models.modeling_packing import (
    attention_bias,
    example_ids,
    example_start_indices,
    first_positions,
    states_at,
)

rows = st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=3)


def pack(lengths_by_row):
    """Return position_ids and attention_mask (batch, seq); the padding counts on from the example before it."""
    seq = max(1, *(sum(lengths) for lengths in lengths_by_row)) + 1
    position_ids = torch.ones(len(lengths_by_row), seq, dtype=torch.long)
    attention_mask = torch.zeros(len(lengths_by_row), seq, dtype=torch.long)
    for row, lengths in enumerate(lengths_by_row):
        start = 0
        for length in lengths:
            position_ids[row, start : start + length] = torch.arange(length)
            attention_mask[row, start : start + length] = 1
            start += length
    return position_ids, attention_mask


@given(rows)
@settings(deadline=None)
def test_a_token_looks_at_exactly_the_tokens_of_its_example(lengths_by_row):
    position_ids, attention_mask = pack(lengths_by_row)
    bias = attention_bias(attention_mask, position_ids, torch.float32)
    for row, lengths in enumerate(lengths_by_row):
        owner = [number for number, length in enumerate(lengths) for _ in range(length)]
        for query, own in enumerate(owner):
            seen = {key for key in range(bias.shape[-1]) if bias[row, 0, query, key] == 0}
            assert seen == {key for key, other in enumerate(owner) if other == own}


@given(rows)
@settings(deadline=None)
def test_starts_are_in_the_order_of_the_examples(lengths_by_row):
    position_ids, attention_mask = pack(lengths_by_row)
    seq = position_ids.shape[1]
    expected = [row * seq + sum(lengths[:i]) for row, lengths in enumerate(lengths_by_row) for i in range(len(lengths))]
    assert example_start_indices(position_ids, attention_mask).tolist() == expected
    states = torch.arange(position_ids.numel()).view(*position_ids.shape, 1)
    assert first_positions(states, attention_mask, position_ids).tolist() == expected
    assert first_positions(states, example_starts=torch.tensor(expected, dtype=torch.long)).tolist() == expected


@given(rows, st.booleans())
@settings(deadline=None)
def test_no_query_is_left_with_nothing_to_look_at(lengths_by_row, packed):
    position_ids, attention_mask = pack(lengths_by_row)
    bias = attention_bias(attention_mask, position_ids if packed else None, torch.float32)
    assert (bias == 0).any(dim=-1).all()


def test_padding_at_position_0_starts_no_example():
    position_ids, attention_mask = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 1, 1]])
    assert example_start_indices(position_ids, attention_mask).tolist() == [2]
    assert example_ids(position_ids, attention_mask).tolist() == [[-1, -1, 1, 1]]


def test_padding_alone_makes_a_mask_of_one_row_a_batch_entry():
    bias = attention_bias(torch.tensor([[1, 1, 0], [0, 0, 0]]), None, torch.float32)
    assert bias.shape == (2, 1, 1, 3)
    assert (bias == 0).tolist() == [[[[True, True, False]]], [[[True, True, True]]]]


def test_nothing_padded_and_nothing_packed_makes_no_mask():
    assert attention_bias(None, None, torch.float32) is None


def test_without_position_ids_the_first_token_of_a_row_is_taken():
    states = torch.arange(6.0).view(2, 3, 1)
    assert states_at(states, first_positions(states)).tolist() == [[0.0], [3.0]]


def test_the_first_token_of_a_padded_row_is_behind_its_padding():
    attention_mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert first_positions(torch.empty(4, 3, 1), attention_mask).tolist() == [0, 3, 8, 9]
