"""The recurrent state as a cache of transformers: what an RNN remembers of each row, instead of keys and values.

It does for a recurrent network what `DynamicCache` does for attention: `generate()` passes it from token to token and
reorders it for beams, and truncated backpropagation through time carries it from batch to batch. Its size does not grow
with the tokens seen.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

LayerState = tuple[torch.Tensor, ...]  # (h,) or, of an LSTM, (h, c)


class StateLayer(CacheLayerMixin):
    """State of one recurrent layer.

    The names of the base class are kept: `keys` is the hidden state h (batch, hidden), `values` the cell state c
    (batch, hidden), (batch, 0) where the cell has none; both are None before there is a state.
    """

    is_compileable = False  # True would have generate() build attention masks
    is_croppable = False
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen_tokens = 0

    @property
    def states(self) -> LayerState:
        """The tensors that are there: (), (h,) or (h, c)."""
        return tuple(state for state in (self.keys, self.values) if state is not None and state.shape[1])

    @property
    def batch_size(self) -> int:
        """Number of rows, -1 before there are any."""
        return -1 if self.keys is None else self.keys.shape[0]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor | None) -> None:
        """Take the first state."""
        self.keys, self.is_initialized = key_states, True
        self.values = key_states.new_empty(len(key_states), 0) if value_states is None else value_states

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor | None = None, seen_tokens: int = 0, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Replace the state.

        Args:
            key_states: h (batch, hidden).
            value_states: c (batch, hidden), or None where the cell has none.
            seen_tokens: by how many tokens, padding included, the rows have grown.
            **kwargs: what other cache layers take; not used.

        Returns:
            The new state.
        """
        self.lazy_initialization(key_states, value_states)
        self.seen_tokens += seen_tokens
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens seen, by which generate() knows what of a prompt is new."""
        return self.seen_tokens

    def get_max_length(self) -> int:
        """Return -1: there is no longest row."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of an attention mask, had there been attention."""
        return self.seen_tokens + query_length, 0

    def reset(self) -> None:
        """Forget everything."""
        self.keys, self.values, self.is_initialized, self.seen_tokens = None, None, False, 0

    def offload(self) -> None:
        """Stay where it is: a state is too small to be worth moving."""

    def prefetch(self) -> None:
        """Stay where it is."""

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at `indices`, in that order."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, indices.to(self.keys.device))
            self.values = self.values.index_select(0, indices.to(self.values.device))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Give every beam the state of the beam it goes on from."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.repeat_interleave(repeats, dim=0)
            self.values = self.values.repeat_interleave(repeats, dim=0)


class StateCache(Cache):
    """State of all recurrent layers of a model; empty until the model has filled it, and a model starts from zeros then.

    `memory` (batch, ...) is what a decoder has made of its source once for all steps, None in a model that has no source. It is
    no state: a decoder that finds none makes it anew, so `tensors()` leaves it out. Its rows move with those of the state.
    """

    layers: list[StateLayer]  # type: ignore[assignment]
    memory: torch.Tensor | None

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=StateLayer)
        self.memory = None

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor]) -> "StateCache":
        """Put a state together again.

        Args:
            tensors: what `tensors()` gave, or rows of it: (batch, width) each, in the same order.

        Returns:
            A cache that a model of the same shape goes on from.

        >>> cache = StateCache.from_tensors([torch.zeros(2, 3), torch.ones(2, 3)])
        >>> [[state.shape for state in layer] for layer in cache.states(num_layers=1, per_layer=2)]
        [[torch.Size([2, 3]), torch.Size([2, 3])]]
        """
        cache = cls()
        cache.replace([(tensor,) for tensor in tensors])
        return cache

    def tensors(self) -> list[torch.Tensor]:
        """Take the state apart: (batch, width) tensors, layer by layer, h before c; detach them to cut the gradient."""
        return [state for layer in self.layers for state in layer.states]

    def states(self, num_layers: int, per_layer: int) -> list[LayerState] | None:
        """Read the state.

        Args:
            num_layers: recurrent layers of the model that asks.
            per_layer: tensors of each: 1 (h), or 2 (h and c) of an LSTM.

        Returns:
            (h,) or (h, c) of every layer; None where the cache is empty.

        Raises:
            ValueError: the state is of a model with another number of layers, or with other cells.
        """
        tensors = self.tensors()
        if not tensors:
            return None
        if len(tensors) != num_layers * per_layer:
            cells = "h alone" if per_layer == 1 else "h and c"
            raise ValueError(
                f"past_key_values has {len(tensors)} tensors, which are no state of this model's layers, {num_layers} with "
                f"{cells}; give the state of a model of the same cells and layers"
            )
        return [tuple(tensors[i : i + per_layer]) for i in range(0, len(tensors), per_layer)]

    def replace(self, states: Sequence[LayerState], seen_tokens: int = 0) -> None:
        """Write the state.

        Args:
            states: (h,) or (h, c) of every layer.
            seen_tokens: by how many tokens, padding included, the rows have grown.
        """
        seen_tokens += self.get_seq_length()
        self.layers = [StateLayer() for _ in states]
        for layer, state in zip(self.layers, states, strict=True):
            h, c = state if len(state) == 2 else (state[0], None)
            layer.update(h, c, seen_tokens)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.memory = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at `indices`, in that order."""
        super().batch_select_indices(indices)
        if self.memory is not None:
            self.memory = self.memory.index_select(0, indices.to(self.memory.device))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Give every beam the state of the beam it goes on from."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        super().batch_repeat_interleave(repeats)
        if self.memory is not None:
            self.memory = self.memory.repeat_interleave(repeats, dim=0)
