"""What a task head reads of an example: one vector from the states of its tokens, under padding and in packed rows.

Every pooling works without loops over examples and without sizes that depend on the data, as long as `example_starts` tells how
many examples packed rows have.
"""

from typing import NamedTuple

import torch

from .modeling_packing import states_at

# What of an example a task head reads. "cls" is made by a family's own pooler, the others here; "concat" is that of ULMFiT
# (Howard & Ruder 2018, section 3.3): last, max and mean, joined.
POOLINGS = ("cls", "last", "mean", "max", "concat")


def pooled_width(pooling: str, hidden_size: int) -> int:
    """Return the width of a pooled vector.

    >>> pooled_width("max", 8), pooled_width("concat", 8)
    (8, 24)
    """
    return 3 * hidden_size if pooling == "concat" else hidden_size


class ExampleNumbers(NamedTuple):
    """Which example every position is of."""

    number: torch.Tensor
    """(batch, seq) int64: 0, 1, ... in the order of the starts; `examples` at padding, and before a row's first start."""
    examples: int
    """How many examples there are, the padding of example_starts counted."""


def number_examples(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    example_starts: torch.Tensor | None = None,
) -> ExampleNumbers:
    """Say for every position which example it is of.

    Args:
        hidden_states: (batch, seq, hidden); gives shape and device.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
        position_ids: (batch, seq) or (1, seq) positions that restart at 0 with every example; None where a row is one example.
        example_starts: (examples,) as `first_positions` takes them; only their number is read, which spares a GPU the wait
            for counting the examples.

    Returns:
        See `ExampleNumbers`.

    >>> mask, positions = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 1, 0, 1]])
    >>> number_examples(torch.empty(1, 4, 8), mask, positions)
    ExampleNumbers(number=tensor([[0, 0, 1, 2]]), examples=2)
    """
    batch, seq = hidden_states.shape[:2]
    is_token = None if attention_mask is None else attention_mask != 0
    if position_ids is None:
        number = torch.arange(batch, device=hidden_states.device)[:, None].expand(batch, seq)
        return ExampleNumbers(number if is_token is None else number.where(is_token, batch), batch)
    is_start = position_ids.expand(batch, seq) == 0
    if is_token is not None:
        is_start = is_start & is_token
    is_of_one = is_start.cumsum(dim=1) > 0
    if is_token is not None:
        is_of_one = is_of_one & is_token
    examples = int(is_start.sum()) if example_starts is None else len(example_starts)
    number = is_start.flatten().cumsum(0).view(batch, seq) - 1
    return ExampleNumbers(number.where(is_of_one, examples).clamp(max=examples), examples)


def example_means(hidden_states: torch.Tensor, numbers: ExampleNumbers) -> torch.Tensor:
    """Average the hidden states of every example over its own tokens.

    Args:
        hidden_states: (batch, seq, hidden).
        numbers: which example each position is of.

    Returns:
        (examples, hidden), in the order of the starts; 0 for an example without tokens, as the padding of example_starts is.

    >>> states = torch.tensor([[1.0, 3.0, 5.0, 9.0]])[..., None]
    >>> example_means(states, ExampleNumbers(torch.tensor([[0, 0, 1, 2]]), 2)).squeeze().tolist()
    [2.0, 5.0]
    """
    # A product with the weights of the mean, and no sum by index: on a GPU that would add in an order of its own.
    own = numbers.number.flatten() == torch.arange(numbers.examples, device=hidden_states.device)[:, None]
    weights = own.to(hidden_states.dtype)  # (examples, batch * seq)
    return weights @ hidden_states.flatten(0, 1) / weights.sum(dim=1, keepdim=True).clamp(min=1)


def example_maxima(hidden_states: torch.Tensor, numbers: ExampleNumbers) -> torch.Tensor:
    """Take of every unit the largest value that it has at an example's own tokens.

    Args:
        hidden_states: (batch, seq, hidden).
        numbers: which example each position is of.

    Returns:
        (examples, hidden), in the order of the starts; 0 for an example without tokens.

    >>> states = torch.tensor([[1.0, 3.0, -5.0, 9.0]])[..., None]
    >>> example_maxima(states, ExampleNumbers(torch.tensor([[0, 0, 1, 2]]), 2)).squeeze().tolist()
    [3.0, -5.0]
    """
    states = hidden_states.flatten(0, 1)
    place = numbers.number.flatten()[:, None].expand_as(states)
    # The same in whatever order a GPU compares; of equal values each has its share of the gradient.
    lowest = states.new_full((numbers.examples + 1, states.shape[1]), float("-inf"))
    maxima = lowest.scatter_reduce(0, place, states, "amax")[: numbers.examples]
    return maxima.masked_fill(maxima == float("-inf"), 0.0)


def example_ends(hidden_states: torch.Tensor, numbers: ExampleNumbers) -> torch.Tensor:
    """Take the state of every example's last token.

    Args:
        hidden_states: (batch, seq, hidden).
        numbers: which example each position is of.

    Returns:
        (examples, hidden), in the order of the starts; 0 for an example without tokens.

    >>> states = torch.tensor([[1.0, 3.0, -5.0, 9.0]])[..., None]
    >>> example_ends(states, ExampleNumbers(torch.tensor([[0, 0, 1, 2]]), 2)).squeeze().tolist()
    [3.0, -5.0]
    """
    number = numbers.number.flatten()
    nowhere = number.new_full((numbers.examples + 1,), -1)
    places = torch.arange(number.shape[0], device=number.device)  # len() would fix the size in an exported graph
    last = nowhere.scatter_reduce(0, number, places, "amax")[: numbers.examples]
    return states_at(hidden_states, last.clamp(min=0)).masked_fill((last < 0)[:, None], 0.0)


def pool_examples(
    pooling: str,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    example_starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Make one vector of the states of every example.

    Args:
        pooling: "last", "mean", "max" or "concat".
        hidden_states: (batch, seq, hidden); this and the rest as in `number_examples`.
        attention_mask: (batch, seq).
        position_ids: (batch, seq) or (1, seq).
        example_starts: (examples,), may be padded at the end with 0.

    Returns:
        (examples, `pooled_width`), in the order of the starts, one a row where a row is one example; 0 for the padding of
        example_starts.
    """
    numbers = number_examples(hidden_states, attention_mask, position_ids, example_starts)
    parts = {"last": example_ends, "max": example_maxima, "mean": example_means}
    chosen = list(parts) if pooling == "concat" else [pooling]
    return torch.cat([parts[name](hidden_states, numbers) for name in chosen], dim=-1)
