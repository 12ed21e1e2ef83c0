"""Rows read from left to right: where a token stands, what it may see, and what it is to predict.

Rows may be padded on either side, packed (see `example_ids`), or continue what a cache holds.
"""

from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from .modeling_losses import IGNORED
from .modeling_packing import example_ids, score_dtype


def check_length(seq: int, past_length: int | torch.Tensor, max_position_embeddings: int) -> None:
    """Refuse rows that reach behind the last position.

    Args:
        seq: tokens of a row.
        past_length: positions before them, held by a cache. Caches of fixed size count on the device; they are not read,
            which would make it wait.
        max_position_embeddings: how many positions there are.

    Raises:
        ValueError: naming both lengths.
    """
    if isinstance(past_length, int) and past_length + seq > max_position_embeddings:
        raise ValueError(
            f"rows of {past_length + seq} tokens are longer than max_position_embeddings {max_position_embeddings}; shorten "
            "them, generate fewer tokens, or give position_ids where rows are packed"
        )


def token_positions(
    hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, past_length: int | torch.Tensor = 0
) -> torch.Tensor:
    """Count the real tokens before each token, so that padding on either side moves nobody.

    Args:
        hidden_states: (batch, seq, hidden); gives length and device.
        attention_mask: (batch, past + seq) 1 at tokens, 0 at padding. None: nothing is padded.
        past_length: positions before these, held by a cache.

    Returns:
        (batch, seq), or (1, seq) where nothing is padded; 0 at padding before the first token.

    >>> token_positions(torch.empty(1, 4, 8), torch.tensor([[0, 1, 1, 1, 1]]), past_length=1).tolist()
    [[0, 1, 2, 3]]
    """
    seq = hidden_states.shape[1]
    if attention_mask is None or attention_mask.dim() != 2:
        return (torch.arange(seq, device=hidden_states.device) + past_length)[None]
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -seq:]


def causal_bias(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    past_key_values: Cache | None = None,
) -> torch.Tensor | None:
    """Make what is added to the attention scores so that a token sees itself and what comes before it in its example.

    It is made once a forward and in floats, because scaled_dot_product_attention would convert a boolean mask again in
    every layer. No query is left with nothing to look at, which would make its softmax NaN: padding sees itself.

    Args:
        config: of the model; its attention implementation is read.
        hidden_states: (batch, seq, hidden); gives shape, type and device.
        attention_mask: (batch, past + seq) 1 at tokens, 0 at padding; or a finished bias (batch, 1, seq, past + seq).
        position_ids: (batch, seq) or (1, seq) positions; an example starts at every 0 that is not padding. None where a row is
            one example. Not read with a cache, whose rows are one example each.
        past_key_values: the cache that the rows continue.

    Returns:
        (batch, 1, seq, past + seq); None where nothing but the future is barred, which attention functions do themselves; with
        a cache and flash attention, which bars the future too, the mask of padded rows.
    """
    dtype = score_dtype(hidden_states)
    if past_key_values is not None:
        seen: Any = create_causal_mask(
            config=config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        if seen is None or seen.dtype != torch.bool or seen.dim() == 2:  # flash attention takes the padding mask itself
            return seen
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
    if attention_mask is not None and attention_mask.dim() == 4:
        return attention_mask
    if position_ids is not None:
        ids = example_ids(position_ids.expand(hidden_states.shape[:2]), attention_mask)
        barred = ids[:, None, :, None] != ids[:, None, None, :]  # (batch, 1, query, key)
    elif attention_mask is not None:
        barred = (attention_mask == 0)[:, None, None, :]  # (batch, 1, 1, key)
    else:
        return None
    place = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    query, key = place[:, None], place[None, :]
    barred = barred & (key != query) | (key > query)  # (batch, 1, seq, seq)
    return torch.zeros(barred.shape, dtype=dtype, device=barred.device).masked_fill_(barred, float("-inf"))


def next_token_labels(
    labels: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """Shift labels to where they are predicted: one to the left, and never across examples, into padding or out of it.

    The labels are shifted and not the scores, of which a copy would be as large as all else in a step.

    Args:
        labels: (batch, seq) token ids, -100 where nothing is to be predicted.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding; more columns on its left belong to a cache.
        position_ids: (batch, seq) or (1, seq) positions; an example starts where they are 0. None where a row is one example.

    Returns:
        (batch, seq) what is predicted at each position, -100 where nothing is.

    >>> next_token_labels(torch.tensor([[5, 6, 7, 8, 9]]), position_ids=torch.tensor([[0, 1, 2, 0, 1]])).tolist()
    [[6, 7, -100, 9, -100]]
    """
    barred = torch.zeros_like(labels, dtype=torch.bool)
    if position_ids is not None:
        barred = barred | F.pad(position_ids[:, 1:] == 0, (0, 1), value=True)
    if attention_mask is not None and attention_mask.dim() == 2:
        padding = attention_mask[:, -labels.shape[1] :] == 0
        barred = barred | padding | F.pad(padding[:, 1:], (0, 1), value=True)
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED).masked_fill(barred, IGNORED)
