"""The scalar mix: what a task reads of a deep model, one learned weight a layer (Peters et al. 2018, equation 1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init


class ScalarMix(nn.Module):
    """gamma * sum over layers of softmax(weights)[layer] * states[layer]; fresh, it is the mean of the layers.

    It belongs to a task, not to the language model, whose loss gives it no gradient.

    Args:
        num_layers: number of states that are mixed, the embeddings counted.
        layer_norm: normalise the states of every layer first, each position for itself and without learned scales, so
            that layers of unlike size weigh alike.
    """

    def __init__(self, num_layers: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self.weights = nn.Parameter(torch.zeros(num_layers))
        self.gamma = nn.Parameter(torch.ones(1))

    @torch.no_grad()
    def init_weights(self) -> None:
        """Start from the mean; for a model's `_init_weights`."""
        init.zeros_(self.weights)
        init.ones_(self.gamma)

    def forward(self, hidden_states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mix num_layers states (..., hidden) to one (..., hidden).

        Raises:
            ValueError: another number of layers.
        """
        if len(hidden_states) != len(self.weights):
            raise ValueError(
                f"the scalar mix has {len(self.weights)} weights and was given {len(hidden_states)} layers"
            )
        if self.layer_norm:
            hidden_states = [F.layer_norm(states, states.shape[-1:]) for states in hidden_states]
        weights = self.weights.softmax(dim=0)
        return self.gamma * sum(weight * states for weight, states in zip(weights, hidden_states, strict=True))
