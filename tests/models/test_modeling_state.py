"""The recurrent state as a cache: taken apart, put together, its rows moved as generate() moves them."""

import pytest
import torch

from bertkit.models.modeling_state import StateCache


def lstm_cache(rows=3):
    """The state of two LSTM layers of unequal widths after 5 tokens."""
    cache = StateCache()
    cache.replace([(torch.randn(rows, width), torch.randn(rows, width)) for width in (4, 6)], seen_tokens=5)
    return cache


@pytest.mark.parametrize("cells", [0, 1])
def test_a_state_taken_apart_and_put_together_is_the_same_state(cells):
    cache = StateCache()
    states = [(torch.randn(3, width),) * (1 + cells) for width in (4, 6)]
    cache.replace(states)
    again = StateCache.from_tensors([tensor.clone() for tensor in cache.tensors()])
    torch.testing.assert_close(again.states(num_layers=2, per_layer=1 + cells), states, rtol=0, atol=0)


def test_layers_hold_h_as_keys_and_c_as_values_and_count_the_tokens():
    cache = lstm_cache()
    (h, c), _ = cache.states(num_layers=2, per_layer=2)
    assert cache.layers[0].keys is h and cache.layers[0].values is c
    assert len(cache) == 2 and cache.batch_size == 3 and not cache.is_compileable and not cache.is_croppable
    cache.replace(cache.states(num_layers=2, per_layer=2), seen_tokens=2)
    assert cache.get_seq_length() == 7 and cache.get_mask_sizes(1, 0) == (8, 0)


def test_a_layer_without_cell_states_has_values_of_width_0_that_move_along():
    cache = StateCache.from_tensors([torch.randn(3, 4)])
    (layer,) = cache.layers
    assert layer.keys.shape == (3, 4) and layer.values.shape == (3, 0)
    cache.reorder_cache(torch.tensor([2, 0]))
    cache.batch_repeat_interleave(2)
    assert layer.keys.shape == (4, 4) and layer.values.shape == (4, 0) and len(layer.states) == 1


@pytest.mark.parametrize(
    ("move", "argument", "rows"),
    [
        ("reorder_cache", torch.tensor([2, 2, 0]), [2, 2, 0]),
        ("batch_select_indices", torch.tensor([1]), [1]),
        ("batch_repeat_interleave", 2, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_rows_move_together_in_every_tensor(move, argument, rows):
    cache = lstm_cache()
    cache.memory = torch.randn(3, 7, 4)
    expected = [tensor[rows] for tensor in (*cache.tensors(), cache.memory)]
    getattr(cache, move)(argument)
    torch.testing.assert_close([*cache.tensors(), cache.memory], expected, rtol=0, atol=0)


def test_an_empty_cache_has_no_state_and_a_reset_one_is_empty():
    cache = lstm_cache()
    cache.memory = torch.randn(3, 7, 4)
    cache.reset()
    assert cache.memory is None
    for empty in (cache, StateCache(), StateCache.from_tensors([])):
        assert empty.states(num_layers=2, per_layer=2) is None and empty.tensors() == [] and empty.get_seq_length() == 0
        empty.reorder_cache(torch.tensor([1, 0]))


@pytest.mark.parametrize(
    ("num_layers", "per_layer", "message"),
    [
        (1, 2, "4 tensors, which are no state of this model's layers, 1 with h and c"),
        (3, 2, "4 tensors, which are no state of this model's layers, 3 with h and c"),
        (2, 1, "4 tensors, which are no state of this model's layers, 2 with h alone"),
    ],
)
def test_the_state_of_another_model_is_refused(num_layers, per_layer, message):
    with pytest.raises(ValueError, match=message):
        lstm_cache().states(num_layers, per_layer)
