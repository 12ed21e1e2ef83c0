"""Pooling: the states of the tokens that belong together become one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from bertkit.features.settings import Pooling

CONCATENATED: tuple[Pooling, ...] = ("last", "max", "mean")
"""What the pooling "concat" joins, in this order (Howard and Ruder 2018)."""


def pool(states: torch.Tensor, example_of: torch.Tensor, num_examples: int, pooling: Pooling) -> torch.Tensor:
    """Make one vector of the states of each example's tokens.

    Args:
        states: (positions, features).
        example_of: (positions,) int64 example of each position, `num_examples` at padding; the positions of an example
            stand side by side.
        num_examples: how many examples there are, each with at least one position.
        pooling: see `FeatureSettings.pooling`.

    Returns:
        (num_examples, features); with "concat" three times as many features.

    >>> import torch
    >>> states, example_of = torch.tensor([[1.0], [4.0], [2.0], [9.0]]), torch.tensor([1, 0, 0, 2])
    >>> [pool(states, example_of, 2, how).flatten().tolist() for how in ("cls", "last", "mean", "max")]
    [[4.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0]]
    """
    import torch

    if pooling == "concat":
        return torch.cat([pool(states, example_of, num_examples, part) for part in CONCATENATED], dim=-1)
    if pooling in ("cls", "last"):
        places = torch.arange(len(states), device=states.device)
        chosen = places.new_zeros(num_examples + 1).scatter_reduce(
            0, example_of, places, "amin" if pooling == "cls" else "amax", include_self=False
        )
        return states[chosen[:-1]]
    index = example_of[:, None].expand_as(states)
    pooled = states.new_zeros(num_examples + 1, states.shape[1]).scatter_reduce(
        0, index, states, "mean" if pooling == "mean" else "amax", include_self=False
    )
    return pooled[:-1]
