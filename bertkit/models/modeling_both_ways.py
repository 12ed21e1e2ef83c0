"""Rows taken apart for a recurrence that runs both ways: each direction reads the same sequences in its own order.

The backward direction needs no rows turned around: in the layout that `split_rows` makes (all first steps, all second steps,
...) it has a sequence's last step where the forward direction has the first.
"""

from typing import NamedTuple

import torch

from .modeling_packed_rows import PackedRows, split_rows


class RowsBothWays(NamedTuple):
    """Where the tokens of (batch, seq) rows stand in the sequences of both directions."""

    order: torch.Tensor
    """(2, tokens) flat indices into (batch * seq): all first steps, all second steps, ...; forwards and backwards."""
    batch_sizes: list[int]
    """Sequences that have a first step, a second, ..."""
    ends: torch.Tensor
    """(sequences,) where among the steps each sequence has its last, in either direction."""
    packed: PackedRows | None
    """Which row a sequence is of; None where every row is one."""

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Take (batch, seq, 2 * width) rows, the forward half first, apart to (2, tokens, width)."""
        halves = rows.flatten(0, 1).chunk(2, dim=-1)
        return torch.stack([half.index_select(0, steps) for half, steps in zip(halves, self.order, strict=True)])

    def put(self, steps: torch.Tensor, batch: int, seq: int) -> torch.Tensor:
        """Lay (2, tokens, width) back into (batch, seq, 2 * width) rows; 0 at padding."""
        rows = steps.new_zeros(batch * seq, steps.shape[2])
        halves = [rows.index_copy(0, order, half) for order, half in zip(self.order, steps, strict=True)]
        return torch.cat(halves, dim=-1).view(batch, seq, -1)

    def first_state(self, state: torch.Tensor | None, width: int, like: torch.Tensor) -> torch.Tensor:
        """Give the sequences of both directions their first state.

        Args:
            state: (batch, 2 * width) of the rows; None: zeros.
            width: of a direction's state.
            like: gives dtype and device.

        Returns:
            (2, sequences, width).
        """
        if state is None:
            return like.new_zeros(2, len(self.ends), width)
        first = state.to(like)
        if self.packed is not None:
            (first,) = self.packed.first_state((first,))
        return first.unflatten(1, (2, width)).transpose(0, 1)

    def last_state(self, steps: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        """Give the rows the state after the last step of their last sequence, without a gradient.

        Args:
            steps: (2, tokens, width) the state after every step.
            before: (batch, 2 * width) what the rows had, which those without a token keep; None: zeros.

        Returns:
            (batch, 2 * width).
        """
        last = steps.detach().index_select(1, self.ends).transpose(0, 1).flatten(1)  # (sequences, 2 * width)
        if self.packed is None:
            return last
        return self.packed.last_state((last,), () if before is None else (before.to(last),))[0]


def split_rows_both_ways(
    batch: int,
    seq: int,
    device: torch.device,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
) -> RowsBothWays:
    """Find the sequences of padded or packed rows, as `split_rows` does, for both directions.

    Args:
        batch: number of rows.
        seq: their length.
        device: of the indices.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding, on either side.
        position_ids: (batch, seq) positions that are 0 where an example starts.

    Returns:
        See `RowsBothWays`.

    >>> positions = torch.tensor([[0, 1, 0, 1, 2]])
    >>> sequences = split_rows_both_ways(1, 5, positions.device, position_ids=positions)
    >>> sequences.batch_sizes, sequences.order.tolist()
    ([2, 2, 1], [[2, 0, 3, 1, 4], [4, 1, 3, 0, 2]])
    """
    packed = split_rows(batch, seq, attention_mask, position_ids)
    if packed is None:
        steps = torch.arange(batch * seq, device=device).view(batch, seq).t()  # (seq, batch)
        order = torch.stack([steps.flatten(), steps.flip(0).flatten()])
        return RowsBothWays(order, [batch] * seq, torch.arange((seq - 1) * batch, seq * batch, device=device), None)
    sizes = packed.batch_sizes
    offsets = sizes.cumsum(0) - sizes  # (longest,)
    step = torch.arange(len(sizes)).repeat_interleave(sizes)  # (tokens,)
    sequence = torch.arange(len(step)) - offsets[step]
    lengths = sequence.bincount()  # (sequences,)
    turned = (offsets[lengths[sequence] - 1 - step] + sequence).to(device)
    ends = (offsets[lengths - 1] + torch.arange(len(lengths))).to(device)
    return RowsBothWays(torch.stack([packed.steps, packed.steps[turned]]), sizes.tolist(), ends, packed)
