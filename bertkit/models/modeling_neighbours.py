"""Fresh weights with which the heads of a layer look at neighbouring tokens, so that a short run need not find them.

With random weights attention starts out diffuse, and a masked language model spends its first thousands of steps on what
the bag of tokens around a mask tells, before any head finds the tokens right beside it. Starting query and key with
structure instead: Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828. Here the positions start as sines (Vaswani
et al. 2017), in which a step to the left or right is a rotation, and the keys are the queries rotated by that step.
"""

import math

import torch

LOGIT = 20.0  # of the token looked at, above the others: nearly all of the weight in rows of 128 and of 512
SHARE = 1 / 3  # of the positions in the normalised sum of three embeddings, which start equally large
CURVE = 1.25  # evenly spaced frequencies would repeat themselves within a row


def _frequencies(head_dim: int) -> torch.Tensor:
    """Return (head_dim // 2,) radians a position, from near 0 to π, whose waves only agree at distance 0."""
    count = head_dim // 2
    return math.pi * ((torch.arange(count) + 0.5) / count) ** CURVE


def sine_positions(positions: int, hidden_size: int, num_heads: int, std: float) -> torch.Tensor:
    """Make position embeddings in which every head finds the same waves in the dimensions of its own number.

    Args:
        positions: how many.
        hidden_size: width.
        num_heads: heads, each of hidden_size / num_heads dimensions.
        std: root mean square of the entries.

    Returns:
        (positions, hidden_size).
    """
    head_dim = hidden_size // num_heads
    phases = torch.arange(positions)[:, None] * _frequencies(head_dim)  # (positions, head_dim // 2)
    waves = torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1)  # (positions, head_dim or one less)
    waves = torch.nn.functional.pad(waves, (0, head_dim - waves.shape[1]))
    return std * math.sqrt(2) * waves.repeat(1, num_heads)


def neighbour_queries_and_keys(hidden_size: int, num_heads: int) -> torch.Tensor:
    """Make what to add to the weights of query and key so that heads look one token back and one ahead in turns.

    Args:
        hidden_size: width.
        num_heads: heads, each of hidden_size / num_heads dimensions.

    Returns:
        (2 * hidden_size, hidden_size): the rows of all queries, then of all keys.
    """
    head_dim = hidden_size // num_heads
    scale = math.sqrt(LOGIT / SHARE / math.sqrt(head_dim))
    weight = torch.zeros(2, num_heads, head_dim, num_heads, head_dim)
    sine = torch.arange(0, head_dim - 1, 2)
    for head in range(num_heads):
        step = -1 if head % 2 == 0 else 1
        # A query at position i meets a key at position j with the sum of cos(frequency * (i - j + step)).
        angle = step * _frequencies(head_dim)
        query, key = weight[:, head, :, head]
        query[sine, sine] = query[sine + 1, sine + 1] = scale
        key[sine, sine] = key[sine + 1, sine + 1] = scale * angle.cos()
        key[sine, sine + 1] = -scale * angle.sin()
        key[sine + 1, sine] = scale * angle.sin()
    return weight.reshape(2 * hidden_size, hidden_size)
