"""Packed and padded rows: which positions see each other, and where each example begins.

A packed row holds several examples end to end. An example starts where `position_ids` is 0 and `attention_mask` is not;
no position may see another example. Without `position_ids` a row is one example, padded where `attention_mask` is 0.
"""

import torch


def example_ids(position_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Number the examples of every packed row.

    Args:
        position_ids: (batch, seq) positions that restart at 0 with every example.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.

    Returns:
        (batch, seq) int64: 1, 2, ... in the order of the starts, -1 at padding.

    >>> example_ids(torch.tensor([[0, 1, 2, 0, 1, 1]]), torch.tensor([[1, 1, 1, 1, 1, 0]])).tolist()
    [[1, 1, 1, 2, 2, -1]]
    """
    starts = position_ids == 0
    if attention_mask is None:
        return starts.cumsum(dim=1)
    padding = attention_mask == 0
    return (starts & ~padding).cumsum(dim=1).masked_fill(padding, -1)


def piece_begins(ids: torch.Tensor) -> torch.Tensor:
    """Say where a row goes on with something else: another example, or padding.

    Args:
        ids: (batch, seq) as `example_ids` numbers them.

    Returns:
        (batch, seq) bool, True at the first position of each row as well.
    """
    begins = torch.ones(ids.shape, dtype=torch.bool, device=ids.device)
    torch.ne(ids[:, 1:], ids[:, :-1], out=begins[:, 1:])
    return begins


def example_start_indices(position_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Find where the examples start; on a GPU this waits for the device, so collators hand the indices over instead.

    Args:
        position_ids: (batch, seq) positions that restart at 0 with every example.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.

    Returns:
        (examples,) int64 indices into the flattened (batch * seq) positions, row by row.

    >>> example_start_indices(torch.tensor([[0, 1, 0], [0, 1, 2]])).tolist()
    [0, 2, 3]
    """
    starts = position_ids == 0
    if attention_mask is not None:
        starts = starts & (attention_mask != 0)
    return starts.flatten().nonzero().squeeze(1)


def score_dtype(hidden_states: torch.Tensor) -> torch.dtype:
    """Return the floating type of attention scores, which autocast may have changed."""
    device = hidden_states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_states.dtype


def attention_bias(
    attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor | None:
    """Turn padding and packing into what is added to the attention scores: 0 where a query may look, -inf elsewhere.

    It is made once a forward and in floats, because scaled_dot_product_attention would convert a boolean mask again in
    every layer. No query is left with nothing to look at, which would make its softmax NaN: padding looks at padding
    (packed), and the queries of a row of nothing but padding look at the whole row.

    Args:
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.
        position_ids: (batch, seq) positions that restart at 0 with every example; None where a row is one example.
        dtype: floating type of the scores.

    Returns:
        (batch, 1, seq, seq) for packed rows, (batch, 1, 1, seq) for padded ones, None where everything sees everything.
    """
    if position_ids is not None:
        ids = example_ids(position_ids, attention_mask)
        barred = ids[:, None, :, None] != ids[:, None, None, :]  # (batch, 1, query, key)
    elif attention_mask is not None:
        barred = (attention_mask == 0)[:, None, None, :]  # (batch, 1, 1, key)
        barred = barred & ~barred.all(dim=-1, keepdim=True)
    else:
        return None
    return torch.zeros(barred.shape, dtype=dtype, device=barred.device).masked_fill_(barred, float("-inf"))


def states_at(hidden_states: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Pick hidden states by position.

    Args:
        hidden_states: (batch, seq, hidden).
        positions: (n,) int64 indices into the flattened (batch * seq) positions; None keeps all.

    Returns:
        (n, hidden), or hidden_states as they are.
    """
    return hidden_states if positions is None else hidden_states.flatten(0, 1)[positions]


def first_positions(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    example_starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Say where every example's first token is.

    Args:
        hidden_states: (batch, seq, hidden); gives shape and device.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.
        position_ids: (batch, seq) positions that restart at 0 with every example; None where a row is one example.
        example_starts: (examples,) int64 flat indices of the starts, where the collator knows them.

    Returns:
        (examples,) int64 flat indices into (batch * seq), in the order of the starts; one a row where a row is one example, and
        its first position where it is nothing but padding.
    """
    if example_starts is not None:
        return example_starts
    if position_ids is not None:
        return example_start_indices(position_ids.expand(hidden_states.shape[:2]), attention_mask)
    batch, seq, _ = hidden_states.shape
    rows = torch.arange(batch, device=hidden_states.device) * seq
    return rows if attention_mask is None else rows + (attention_mask != 0).int().argmax(dim=1)
