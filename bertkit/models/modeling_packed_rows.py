"""Rows taken apart for a recurrent network: every example is a sequence of its own, and no step is spent on padding.

An example starts where `position_ids` is 0 and `attention_mask` is not. Only a row's first example may go on from the state
that the row had; the others start from zeros.
"""

from typing import NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from .modeling_state import LayerState


class PackedRows(NamedTuple):
    """Where the steps of all sequences are found in (batch, seq) rows, and their states in the states of the rows.

    The sequences stand in the order of their lengths, the longest first, as `PackedSequence` wants them.
    """

    steps: torch.Tensor
    """(tokens,) flat indices into (batch * seq): all first tokens, all second tokens, and so on."""
    batch_sizes: torch.Tensor
    """(longest,) how many sequences have a token at each step; on the CPU."""
    rows: torch.Tensor
    """(sequences,) the row each sequence is of."""
    continues: torch.Tensor
    """(sequences,) whether it goes on from its row's state."""
    last: torch.Tensor
    """(batch,) each row's last sequence; 0 in a row of nothing but padding."""
    filled: torch.Tensor
    """(batch,) whether the row has a token at all."""

    def take(self, rows: torch.Tensor) -> PackedSequence:
        """Take (batch, seq, width) rows apart."""
        return PackedSequence(rows.flatten(0, 1).index_select(0, self.steps), self.batch_sizes)

    def put(self, sequences: PackedSequence, batch: int, seq: int) -> torch.Tensor:
        """Lay sequences back into (batch, seq, width) rows; 0 at padding."""
        rows = sequences.data.new_zeros(batch * seq, sequences.data.shape[1])
        return rows.index_copy(0, self.steps, sequences.data).view(batch, seq, -1)

    def first_state(self, state: LayerState) -> LayerState:
        """Give the sequences their first state: (batch, width) to (sequences, width)."""
        return tuple(part.index_select(0, self.rows).where(self.continues[:, None], 0) for part in state)

    def last_state(self, ends: LayerState, state: LayerState) -> LayerState:
        """Give the rows the state after their last token.

        Args:
            ends: (sequences, width) the state after the last step of each sequence.
            state: (batch, width) the state the rows had, which those without a token keep; (): zeros.

        Returns:
            (batch, width).
        """
        filled = self.filled[:, None]
        kept: tuple[torch.Tensor | int, ...] = state or (0,) * len(ends)
        return tuple(end.index_select(0, self.last).where(filled, old) for end, old in zip(ends, kept, strict=True))


def example_starts_in_rows(is_token: torch.Tensor, position_ids: torch.Tensor | None) -> torch.Tensor:
    """Find the first token of every sequence.

    >>> is_token = torch.tensor([[False, True, True, True]])
    >>> example_starts_in_rows(is_token, torch.tensor([[0, 5, 0, 1]])).tolist()
    [[False, True, True, False]]
    """
    starts = is_token & (is_token.cumsum(dim=1) == 1)
    return starts if position_ids is None else starts | is_token & (position_ids == 0)


def split_rows(
    batch: int, seq: int, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
) -> PackedRows | None:
    """Find the sequences of padded or packed rows.

    The lengths of the sequences have to be known on the host, so on a GPU this waits for the device, once; give neither mask
    nor positions where every row is one sequence without padding.

    Args:
        batch: number of rows.
        seq: their length.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding; more columns on its left belong to a cache.
        position_ids: (batch, seq) or (1, seq) positions that are 0 where an example starts.

    Returns:
        The sequences; None where every row is one sequence as it is.
    """
    if attention_mask is None and (position_ids is None or seq == 1):
        return None
    given = position_ids if attention_mask is None else attention_mask
    assert given is not None
    if attention_mask is None:
        is_token = torch.ones(batch, seq, dtype=torch.bool, device=given.device)
    else:
        is_token = attention_mask[:, -seq:] != 0  # (batch, seq)
    starts = example_starts_in_rows(is_token, position_ids)
    begins = torch.ones_like(is_token) if position_ids is None else (position_ids == 0).expand(batch, seq)
    # All that follows has sizes that depend on numbers: one copy, instead of a wait for each of them.
    is_token, starts, begins = torch.stack([is_token, starts, begins]).cpu()
    if bool(is_token.all() & (starts.sum() == batch)):
        return None
    filled = is_token.any(dim=1)
    tokens = is_token.flatten().nonzero().squeeze(1)  # (tokens,)
    if (
        len(tokens) == 0
    ):  # no kernel runs on nothing: a step in each row is made up, which no token and no state gets to see
        starts = is_token.index_fill(1, tokens.new_zeros(1), True)
        tokens = starts.flatten().nonzero().squeeze(1)
    sequence = starts.flatten().cumsum(0)[tokens] - 1  # (tokens,) the sequence of each token
    lengths = sequence.bincount()  # (sequences,)
    step = torch.arange(len(tokens), device=tokens.device) - (lengths.cumsum(0) - lengths)[sequence]
    order = lengths.argsort(descending=True, stable=True)  # (sequences,)
    rank = order.argsort()
    starts_at = starts.flatten().nonzero().squeeze(1)[order]  # (sequences,)
    per_row = starts.sum(dim=1)  # (batch,)
    first_of_row = (per_row.cumsum(0) - per_row)[starts_at // seq]
    continues = order == first_of_row
    if position_ids is not None:
        continues &= ~begins.flatten()[starts_at]
    device = given.device
    return PackedRows(
        steps=tokens[(step * len(lengths) + rank[sequence]).argsort()].to(device),
        batch_sizes=step.bincount(),
        rows=(starts_at // seq).to(device),
        continues=continues.to(device),
        last=rank[(per_row.cumsum(0) - 1).clamp(min=0)].to(device),
        filled=filled.to(device),
    )
