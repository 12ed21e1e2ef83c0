"""Rows taken apart into sequences for a recurrence that runs both ways: one sequence an example, no padding in it.

The layout is that of `PackedSequence`: sequences in the order of their lengths, the longest first, and all first steps, then
all second steps, and so on. Short examples that share a long row so run side by side and not one after the other.
"""

from typing import NamedTuple

import torch


class ExampleSequences(NamedTuple):
    """Where the tokens of a batch of rows go."""

    order: torch.Tensor
    """(2, tokens) int64 flat positions in (batch * seq) of the tokens in the layout; forwards, then backwards."""
    batch_sizes: list[int]
    """Sequences that have a first step, a second, ..."""
    rows: torch.Tensor
    """(sequences,) int64 the row of each sequence."""
    continues: torch.Tensor
    """(sequences,) bool, whether a sequence goes on from the state of its row."""
    ends: torch.Tensor
    """(sequences,) int64 where in the layout a sequence has its last step, in either direction."""
    last_of_row: torch.Tensor
    """(batch,) int64 the row's last sequence; beyond them, sequences + row, in a row without tokens."""

    def take_apart(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Lay out (batch, seq, 2 * width), both directions side by side, as (2, tokens, width)."""
        flat = hidden_states.flatten(0, 1).chunk(2, dim=-1)
        return torch.stack([half.index_select(0, places) for half, places in zip(flat, self.order, strict=True)])

    def put_back(self, states: torch.Tensor, batch: int, seq: int) -> torch.Tensor:
        """Undo `take_apart`: (2, tokens, width) to (batch, seq, 2 * width), 0 at padding."""
        rows = states.new_zeros(batch * seq, states.shape[2])
        halves = [rows.index_copy(0, places, half) for places, half in zip(self.order, states, strict=True)]
        return torch.cat(halves, dim=-1).view(batch, seq, -1)

    def first_states(self, row_states: torch.Tensor | None, like: torch.Tensor, width: int) -> torch.Tensor:
        """Give every sequence the state it starts from.

        Args:
            row_states: (batch, 2 * width) of the rows; None starts everything from zeros.
            like: gives the dtype and the device.
            width: of a direction's state.

        Returns:
            (2, sequences, width).
        """
        if row_states is None:
            return like.new_zeros(2, len(self.rows), width)
        states = row_states.to(like).index_select(0, self.rows) * self.continues.unsqueeze(1)
        return states.unflatten(1, (2, width)).transpose(0, 1)

    def row_states(self, states: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        """Read the state of every row after its last example; a row without tokens keeps the one it had.

        Args:
            states: (2, tokens, width) after every step.
            before: (batch, 2 * width), None for zeros.

        Returns:
            (batch, 2 * width), detached: no gradient crosses from one batch into the one before.
        """
        ended = states.detach().index_select(1, self.ends).transpose(0, 1).flatten(1)  # (sequences, 2 * width)
        kept = ended.new_zeros(len(self.last_of_row), ended.shape[1]) if before is None else before.to(ended)
        return torch.cat([ended, kept]).index_select(0, self.last_of_row)


def example_sequences(
    batch: int,
    seq: int,
    device: torch.device,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
) -> ExampleSequences:
    """Find the examples of packed or padded rows; with a mask or positions a GPU has to wait for their lengths.

    Args:
        batch: number of rows.
        seq: their length.
        device: of the indices.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding, on either side.
        position_ids: (batch, seq) positions that restart at 0 with every example. A row whose first position is another
            goes on from its state. None: every row is one example that does.

    Returns:
        See `ExampleSequences`.

    >>> positions = torch.tensor([[0, 1, 0, 1, 2]])
    >>> sequences = example_sequences(1, 5, torch.device("cpu"), position_ids=positions)
    >>> sequences.batch_sizes, sequences.order.tolist()
    ([2, 2, 1], [[2, 0, 3, 1, 4], [4, 1, 3, 0, 2]])
    """
    if attention_mask is None and position_ids is None:
        places = torch.arange(batch * seq, device=device).view(batch, seq)
        rows = torch.arange(batch, device=device)
        return ExampleSequences(
            order=torch.stack([places.t().flatten(), places.flip(1).t().flatten()]),
            batch_sizes=[batch] * seq,
            rows=rows,
            continues=torch.ones_like(rows, dtype=torch.bool),
            ends=rows + (seq - 1) * batch,
            last_of_row=rows,
        )
    is_token = (
        torch.ones(batch, seq, dtype=torch.bool, device=device) if attention_mask is None else attention_mask != 0
    )
    is_start = is_token & (is_token.cumsum(dim=1) == 1)
    if position_ids is not None:
        is_start = is_start | (is_token & (position_ids == 0))
    places = is_token.flatten().nonzero().squeeze(1)  # (tokens,) flat positions
    starts_here = is_start.flatten()[places]
    begins = starts_here.nonzero().squeeze(1)  # (sequences,) of the tokens
    number = starts_here.cumsum(0) - 1  # (tokens,) which sequence
    tokens, sequences = len(places), len(begins)
    lengths = torch.diff(begins, append=begins.new_tensor([tokens]))  # (sequences,)
    ranking = lengths.argsort(descending=True, stable=True)
    rank = torch.empty_like(ranking).scatter_(0, ranking, torch.arange(sequences, device=device))
    sizes = sequences - lengths.bincount(minlength=1).cumsum(0)[:-1]  # (longest,) sequences with a first step, ...
    offsets = sizes.cumsum(0) - sizes
    step = torch.arange(tokens, device=device) - begins[number]
    slots = (offsets[step] + rank[number], offsets[lengths[number] - 1 - step] + rank[number])  # forwards, backwards
    first_places = places[begins]
    row = first_places // seq  # (sequences,) still in the order of the rows
    last = row.new_full((batch,), -1).scatter_reduce_(0, row, torch.arange(sequences, device=device), "amax")
    empty_row = sequences + torch.arange(batch, device=device)
    continues = (
        torch.ones_like(row, dtype=torch.bool) if position_ids is None else position_ids.flatten()[first_places] != 0
    )
    return ExampleSequences(
        order=torch.stack([torch.empty_like(places).scatter_(0, slot, places) for slot in slots]),
        batch_sizes=sizes.tolist(),
        rows=row[ranking],
        continues=continues[ranking],
        ends=offsets[lengths[ranking] - 1] + torch.arange(sequences, device=device),
        last_of_row=torch.where(last >= 0, rank[last.clamp(min=0)] if sequences else empty_row, empty_row),
    )
