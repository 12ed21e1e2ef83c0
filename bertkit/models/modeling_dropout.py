"""Dropout that does not dominate a training step on CPUs.

Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html. torch draws one random number an element on CPUs, on
one core; that took a fifth of a small BERT's step. Here one 64-bit draw decides four elements. On other devices, and in a
compiled graph, torch's own dropout is used.
"""

import torch
import torch.nn.functional as F
from torch import nn

_LEVELS = 2**16  # 16 random bits an element: a dropout probability is met to within 1/131072, and its scale is exact


def _dropped(probability: float) -> int:
    """Return how many of the `_LEVELS` values of 16 random bits drop an element."""
    return min(round(probability * _LEVELS), _LEVELS - 1)


def random_bits(count: int) -> torch.Tensor:
    """Draw 16 random bits for each of `count` elements, on a CPU: (count,) int16."""
    return torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]


def kept(bits: torch.Tensor, probability: float, out: torch.Tensor) -> torch.Tensor:
    """Write into `out`, of the shape of `bits`, 1 where an element is kept and 0 where it is dropped; return it."""
    return torch.ge(bits, _dropped(probability) - _LEVELS // 2, out=out)


def keep_mask(like: torch.Tensor, probability: float, dtype: torch.dtype) -> torch.Tensor:
    """Draw which elements are kept, on a CPU.

    Args:
        like: gives the shape.
        probability: of an element to be dropped.
        dtype: of the mask.

    Returns:
        1 where an element is kept and 0 where it is dropped, of `like`'s shape.
    """
    return kept(random_bits(like.numel()), probability, torch.empty(like.numel(), dtype=dtype)).view(like.shape)


def keep_scale(probability: float) -> float:
    """Return what kept elements are multiplied by, so that the expectation stays."""
    return _LEVELS / (_LEVELS - _dropped(probability))


def draws_own_mask(tensor: torch.Tensor) -> bool:
    """Return whether the mask is drawn here: on a CPU, outside a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


class Dropout(nn.Dropout):
    """`nn.Dropout` with the cheaper mask where it applies."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Drop elements of a tensor of any shape."""
        if not self.training or self.p == 0 or not draws_own_mask(hidden_states):
            return super().forward(hidden_states)
        return hidden_states * keep_mask(hidden_states, self.p, hidden_states.dtype).mul_(keep_scale(self.p))

    def add_to(self, residual: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return `residual + dropout(hidden_states)`, in one pass where it can be; shapes are equal."""
        if not self.training or self.p == 0 or not draws_own_mask(hidden_states):
            return residual + super().forward(hidden_states)
        mask = keep_mask(hidden_states, self.p, hidden_states.dtype)
        return torch.addcmul(residual, hidden_states, mask, value=keep_scale(self.p))


def dropped_attention_weights(weights: torch.Tensor, probability: float) -> tuple[torch.Tensor, float]:
    """Drop attention weights but leave the scaling of the kept ones to the caller, who can put it on a smaller tensor.

    Args:
        weights: (batch, heads, query, key).
        probability: of a weight to be dropped.

    Returns:
        The weights, and the factor still to be applied.
    """
    if probability == 0:
        return weights, 1.0
    if not draws_own_mask(weights):
        return F.dropout(weights, probability), 1.0
    # A product with a mask of floats: `where` with one of bools takes several times as long.
    return weights * keep_mask(weights, probability, weights.dtype), keep_scale(probability)
