"""Flash attention over packed rows: where each example begins, in the form that its kernels take.

The kernels keep no scores of a whole row and take no mask of one. What keeps the examples of packed rows apart is a list of the
places where one ends and the next begins, by which each attends to nothing but itself (Dao 2023,
https://arxiv.org/abs/2307.08691; the interface is transformers', its names are those of `FlashAttentionKwargs`).
"""

from collections.abc import Mapping
from typing import Any

import torch

from .modeling_packing import example_ids, piece_begins


def example_edges(position_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Find where examples begin and end; on a GPU this waits for the device, so the Trainer hands over what its host finds.

    Args:
        position_ids: (batch, seq) positions that restart at 0 with every example, each of which lies in one piece.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.

    Returns:
        (pieces + 1,) int32 flat indices into (batch * seq), from 0 to batch * seq; the padding of a row is a piece as well.

    >>> example_edges(torch.tensor([[0, 1, 0, 1, 1], [0, 1, 2, 3, 4]]), torch.tensor([[1, 1, 1, 1, 0], [1] * 5])).tolist()
    [0, 2, 4, 5, 10]
    """
    begins = piece_begins(example_ids(position_ids, attention_mask)).flatten()
    end = torch.full((1,), len(begins), dtype=torch.int32, device=begins.device)
    return torch.cat([begins.nonzero().squeeze(1).to(torch.int32), end])


def flash_arguments(
    shape: torch.Size,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    given: Mapping[str, Any],
) -> tuple[torch.Tensor | None, dict[str, Any]]:
    """Say what flash attention takes in place of a bias of the scores.

    Args:
        shape: (batch, seq).
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.
        position_ids: (batch, seq) or (1, seq) positions that restart at 0 with every example; None where a row is one example.
        given: arguments on their way to the attention function, maybe with the edges among them.

    Returns:
        The mask of padded rows, whose padding transformers takes out, or None; and the arguments, for packed rows with the
        edges and the width of a row, than which no example is longer.

    Raises:
        ValueError: the mask is a bias of scores, which there are none to add to.
    """
    if attention_mask is not None and attention_mask.dim() != 2:
        raise ValueError(
            f"flash attention takes an attention_mask (batch, seq) and not one of shape {tuple(attention_mask.shape)}; give "
            'position_ids that restart with every example, or take attn_implementation "sdpa"'
        )
    if position_ids is None:
        return attention_mask, dict(given)
    edges = given.get("cu_seq_lens_q")
    if edges is None:
        edges = example_edges(position_ids.expand(shape), attention_mask)
    lengths = {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": shape[1], "max_length_k": shape[1]}
    return None, {**lengths, **given}
