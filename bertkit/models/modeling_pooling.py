"""What a task head reads of an example: one vector from the states of its tokens, under padding and in packed rows."""

import torch

POOLINGS = ("cls", "mean")  # what of an example a task head reads


def example_means(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    example_starts: torch.Tensor | None = None,
) -> torch.Tensor:
    """Average the hidden states of every example over its own tokens.

    Args:
        hidden_states: (batch, seq, hidden).
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.
        position_ids: (batch, seq) positions that restart at 0 with every example; None where a row is one example.
        example_starts: (examples,) as `first_positions` takes them; only their number is read.

    Returns:
        (examples, hidden), in the order of the starts; 0 for the padding of example_starts.

    >>> states = torch.tensor([[1.0, 3.0, 5.0, 9.0]])[..., None]
    >>> example_means(states, torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 1, 0, 1]])).squeeze().tolist()
    [2.0, 5.0]
    """
    batch, seq = hidden_states.shape[:2]
    if attention_mask is None:
        attention_mask = torch.ones(batch, seq, dtype=torch.long, device=hidden_states.device)
    is_token = attention_mask != 0
    if position_ids is None:
        number = torch.arange(batch, device=hidden_states.device)[:, None].expand(batch, seq)
        examples = batch
    else:
        is_start = (position_ids.expand(batch, seq) == 0) & is_token
        number = (is_start.flatten().cumsum(0) - 1).clamp(min=0).view(batch, seq)
        examples = len(example_starts) if example_starts is not None else int(is_start.sum())
    # A product with the weights of the mean, and no sum by index: on a GPU that would add in an order of its own.
    own = number.flatten() == torch.arange(examples, device=hidden_states.device)[:, None]
    weights = (own & is_token.flatten()).to(hidden_states.dtype)  # (examples, batch * seq)
    return weights @ hidden_states.flatten(0, 1) / weights.sum(dim=1, keepdim=True).clamp(min=1)
