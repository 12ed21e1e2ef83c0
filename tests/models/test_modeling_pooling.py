"""Poolings against a loop over the examples, in packed rows and in rows padded on either side."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.models.modeling_losses import position_loss
from bertkit.models.modeling_packing import example_start_indices, first_positions
from bertkit.models.modeling_pooling import POOLINGS, number_examples, pool_examples, pooled_width

NAIVE = {
    "last": lambda states: states[-1],
    "mean": lambda states: states.mean(dim=0),
    "max": lambda states: states.amax(dim=0),
    "concat": lambda states: torch.cat([states[-1], states.amax(dim=0), states.mean(dim=0)]),
}
lengths_by_row = st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=3)
sides = st.sampled_from(["left", "right"])


def lay_out(lengths_by_row, side):
    """Return position_ids and attention_mask (batch, seq), and which flat positions are whose, by example."""
    width = max(sum(lengths) for lengths in lengths_by_row) + 1
    position_ids = torch.full((len(lengths_by_row), width), 0)  # padding looks like the start of an example
    attention_mask = torch.zeros_like(position_ids)
    examples = []
    for row, lengths in enumerate(lengths_by_row):
        start = width - sum(lengths) if side == "left" else 0
        for length in lengths:
            position_ids[row, start : start + length] = torch.arange(length)
            attention_mask[row, start : start + length] = 1
            examples.append(row * width + torch.arange(start, start + length))
            start += length
    return position_ids, attention_mask, examples


def some_states(position_ids, hidden=3):
    """States below 0, so that what stands in for nothing would show as a maximum."""
    states = torch.randn(*position_ids.shape, hidden, generator=torch.Generator().manual_seed(0)) - 5
    return states.requires_grad_()


@pytest.mark.parametrize("pooling", NAIVE)
@given(lengths_by_row, sides, st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_pooled_example_of_a_packed_row_is_that_of_its_own_tokens(pooling, lengths_by_row, side, starts_known):
    position_ids, attention_mask, examples = lay_out(lengths_by_row, side)
    states = some_states(position_ids)
    starts = example_start_indices(position_ids, attention_mask)
    padding = 2 if starts_known else 0
    padded = torch.cat([starts, starts.new_zeros(padding)]) if starts_known else None
    pooled = pool_examples(pooling, states, attention_mask, position_ids, padded)
    assert pooled.shape == (len(examples) + padding, pooled_width(pooling, 3))
    assert (pooled[len(examples) :] == 0).all()
    expected = [NAIVE[pooling](states.flatten(0, 1)[own]) for own in examples]
    for vector, value in zip(pooled, expected, strict=False):
        torch.testing.assert_close(vector, value)
    if expected:
        weights = torch.linspace(-1, 2, pooled.shape[1])
        gradient, oracle = (
            torch.autograd.grad((vectors * weights).sum(), states)[0] for vectors in (pooled, torch.stack(expected))
        )
        torch.testing.assert_close(gradient, oracle)


@pytest.mark.parametrize("pooling", NAIVE)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), sides)
@settings(deadline=None, max_examples=30)
def test_a_padded_row_is_pooled_without_its_padding(pooling, lengths, side):
    position_ids, attention_mask, _ = lay_out([[length] for length in lengths], side)
    states = some_states(position_ids)
    pooled = pool_examples(pooling, states, attention_mask)
    assert len(pooled) == len(lengths)
    for vector, row, mask in zip(pooled, states, attention_mask, strict=True):
        expected = NAIVE[pooling](row[mask != 0]) if mask.any() else torch.zeros_like(vector)
        torch.testing.assert_close(vector, expected)


@pytest.mark.parametrize("pooling", NAIVE)
def test_rows_without_padding_are_pooled_whole(pooling):
    states = torch.randn(2, 4, 3)
    expected = torch.stack([NAIVE[pooling](row) for row in states])
    torch.testing.assert_close(pool_examples(pooling, states), expected)
    shared = torch.arange(4)[None]  # one row of positions for all
    torch.testing.assert_close(pool_examples(pooling, states, position_ids=shared), expected)


def test_tokens_before_the_first_start_of_a_row_are_of_no_example():
    numbers = number_examples(torch.empty(2, 4, 1), position_ids=torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]]))
    assert numbers.examples == 2 and numbers.number.tolist() == [[0, 0, 0, 0], [2, 2, 1, 1]]


@pytest.mark.parametrize("pooling", NAIVE)
def test_with_known_starts_no_size_depends_on_the_data(pooling):
    # on the meta device there are no values to wait for
    states, ids = torch.empty(2, 6, 3, device="meta"), torch.empty(2, 6, dtype=torch.long, device="meta")
    starts = torch.empty(5, dtype=torch.long, device="meta")
    assert pool_examples(pooling, states, ids, ids, starts).shape == (5, pooled_width(pooling, 3))
    first, numbers = first_positions(states, ids, ids, starts), number_examples(states, ids, ids, starts)
    assert position_loss(states[..., 0], starts, first, numbers.number).shape == ()


@pytest.mark.parametrize("pooling", NAIVE)
def test_a_state_that_is_not_a_number_is_not_hidden(pooling):
    assert pool_examples(pooling, torch.full((1, 2, 1), float("nan"))).isnan().all()


def test_every_pooling_but_the_poolers_own_is_made_here():
    assert {"cls", *NAIVE} == set(POOLINGS)


@given(lengths_by_row.filter(any), sides, st.data())
@settings(deadline=None, max_examples=50)
def test_a_position_is_chosen_among_the_tokens_of_its_own_example(lengths_by_row, side, data):
    position_ids, attention_mask, examples = lay_out(lengths_by_row, side)
    logits = some_states(position_ids, hidden=1)[..., 0]
    positions = [data.draw(st.integers(-1, len(own))) for own in examples]  # -1 and the length are outside
    inside = [0 <= place < len(own) for place, own in zip(positions, examples, strict=True)]
    first = first_positions(logits[..., None], attention_mask, position_ids)
    padded = torch.cat([first, first.new_zeros(2)])
    numbers = number_examples(logits[..., None], attention_mask, position_ids, padded)
    chosen = torch.tensor([*positions, -100, -100])
    terms = [
        -logits.flatten()[own].log_softmax(0)[place]
        for place, own, is_inside in zip(positions, examples, inside, strict=True)
        if is_inside
    ]
    total = sum(terms, torch.zeros(()))
    torch.testing.assert_close(position_loss(logits, chosen, padded, numbers.number), total / max(1, len(terms)))
    loss = position_loss(logits, chosen, padded, numbers.number, torch.tensor(7))
    torch.testing.assert_close(loss, total / 7)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient.isfinite().all() and (gradient[attention_mask == 0] == 0).all()
