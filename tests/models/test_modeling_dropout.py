"""Dropout on CPUs drops as often, scales as much and backpropagates as torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertkit.models.modeling_dropout import Dropout, dropped_attention_weights, keep_mask


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_expectation_are_right(probability):
    torch.manual_seed(0)
    dropped = Dropout(probability)(torch.ones(1_000_000))
    deviation = (probability * (1 - probability) / 1e6) ** 0.5
    assert (dropped == 0).double().mean().item() == pytest.approx(probability, abs=5 * deviation)
    assert dropped.double().mean().item() == pytest.approx(1, abs=5 * deviation / (1 - probability))
    assert len(dropped.unique()) == 2


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(1_000_000), 0.3, torch.float32) - 0.7
    for distance in (1, 2, 3, 4, 8):
        assert abs((mask[distance:] * mask[:-distance]).mean()) < 0.001


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.sampled_from([torch.float32, torch.bfloat16]))
def test_shape_and_dtype_are_kept_whatever_they_are(shape, dtype):
    hidden_states = torch.randn(shape, dtype=dtype)
    dropped = Dropout(0.5)(hidden_states)
    assert dropped.shape == hidden_states.shape and dropped.dtype == dtype


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    hidden_states = torch.randn(1000, requires_grad=True)
    dropped = Dropout(0.2)(hidden_states)
    dropped.sum().backward()
    torch.testing.assert_close(hidden_states.grad * hidden_states, dropped)
    assert sorted(hidden_states.grad.unique().tolist()) == pytest.approx([0.0, 1.25], rel=1e-4)


def test_adding_to_a_residual_is_dropout_and_a_sum():
    residual, hidden_states = torch.randn(2, 100, requires_grad=True), torch.randn(2, 100, requires_grad=True)
    dropout = Dropout(0.3)
    torch.manual_seed(1)
    together = dropout.add_to(residual, hidden_states)
    torch.manual_seed(1)
    torch.testing.assert_close(together, residual + dropout(hidden_states))


def test_the_mask_is_the_seed_s():
    torch.manual_seed(5)
    one = Dropout(0.5)(torch.ones(99))
    torch.manual_seed(5)
    assert torch.equal(one, Dropout(0.5)(torch.ones(99)))
    assert not torch.equal(one, Dropout(0.5)(torch.ones(99)))


def test_nothing_is_dropped_in_evaluation_or_at_probability_zero():
    ones = torch.ones(1000)
    assert torch.equal(Dropout(0.5).eval()(ones), ones)
    assert torch.equal(Dropout(0.0)(ones), ones)
    assert torch.equal(Dropout(0.5).eval().add_to(ones, ones), 2 * ones)
    assert dropped_attention_weights(ones, 0.0) == (ones, 1.0)
