"""Bricks of the Transformer families: self-attention, feed-forward, and the layer of both.

Paper: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, sections 3.1 to 3.3 (the encoder's side). Two switches make
the families' layers of it: `is_causal`, no position sees those after it, and `norm_first`, each part reads normalised states
(Xiong et al. 2020, https://arxiv.org/abs/2002.04745) where the paper normalises after each sum.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import is_flash_attention_requested

from .modeling_dropout import Dropout, draws_own_mask, dropped_attention_weights
from .modeling_example_attention import Examples, example_attention, runs_example_by_example
from .modeling_linear import Linear
from .modeling_packing import states_at


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute softmax(query keyᵀ · scaling + mask) value step by step, so that the weights can be looked at.

    Args:
        module: the attention module that asks; where it is causal and there is no mask, no query sees keys after it.
        query: (batch, heads, seq, head_dim).
        key: (batch, heads, seq, head_dim).
        value: (batch, heads, seq, head_dim).
        attention_mask: added to the scores; broadcastable to (batch, heads, seq, seq).
        scaling: factor of the scores, 1 / sqrt(head_dim) in the paper.
        dropout: probability of dropping a weight in training.
        **kwargs: what other attention functions of transformers take; not used.

    Returns:
        context (batch, seq, heads, head_dim) and attention weights (batch, heads, seq, seq).
    """
    # The factors go on query and value, which are smaller than the scores and the weights.
    scores = (query * scaling) @ key.transpose(-1, -2)  # (batch, heads, seq, seq)
    if attention_mask is not None:
        scores += attention_mask
    elif module.is_causal and scores.shape[-2] > 1:  # the last query and the last key are of the same position
        future = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype, device=scores.device)
        scores += future.triu_(scores.shape[-1] - scores.shape[-2] + 1)
    weights = scores.softmax(dim=-1)
    kept, factor = dropped_attention_weights(weights, dropout)
    return (kept @ (value * factor)).transpose(1, 2), weights


class SelfAttention(nn.Module):
    """Every position gathers from the positions it may see; one linear layer makes query, key and value at once.

    Args:
        config: hidden_size, num_attention_heads, attention_probs_dropout_prob.
        is_causal: no position sees those after it.
        layer_idx: number of the layer, for its place in a cache.
    """

    def __init__(self, config: PreTrainedConfig, *, is_causal: bool = False, layer_idx: int = 0) -> None:
        super().__init__()
        self.config = config
        self.is_causal = is_causal  # read by transformers' attention functions, which take a missing value for True
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        examples: Examples | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            hidden_states: (batch, seq, hidden).
            attention_mask: added to the scores; broadcastable to (batch, heads, seq, seq). Without it a causal module bars
                the future itself.
            positions: (n,) flat indices into (batch * seq) of the results that are wanted. None: all.
            examples: where the examples are and the same positions wanted of them, if they may be taken one by one.
            past_key_values: keys and values of earlier positions, which are seen too; these are added to it.
            **kwargs: passed on to the attention function.

        Returns:
            (batch, seq, hidden), or (n, hidden) at the positions; and the attention weights (batch, heads, seq, seq) or
            None if the function keeps none.
        """
        batch, seq, _ = hidden_states.shape
        qkv = self.qkv(hidden_states)
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        if examples is not None and dropout and runs_example_by_example(qkv):
            context = example_attention(qkv, examples, heads=self.num_heads, scaling=self.scaling, dropout=dropout)
            return self.output(context), None
        by_head = qkv.view(batch, seq, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if not is_flash_attention_requested(self.config):  # whose kernels read the order that qkv has
            # Copied into the order that matrix products want once, not once for each of the three and again in the products.
            by_head = by_head.contiguous()
        query, key, value = by_head.unbind()  # (batch, heads, seq, head_dim)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)  # (batch, heads, past + seq, head_dim)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        if dropout and draws_own_mask(hidden_states) and self.config._attn_implementation == "sdpa":
            attend = eager_attention  # torch has no fused attention with dropout on CPUs, and its steps are slower
        context, weights = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return self.output(states_at(context.flatten(2), positions)), weights


def build_activation(name: str) -> nn.Module:
    """Build an activation by its transformers name; "gelu_new" in one operation, where transformers takes eight and keeps what
    each needs for its gradient.
    """
    return ACT2FN["gelu_pytorch_tanh" if name == "gelu_new" else name]


class FeedForward(nn.Module):
    """Two linear layers with an activation between, applied to every position alone.

    Args:
        config: hidden_size, intermediate_size, hidden_act.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.intermediate = Linear(config.hidden_size, config.intermediate_size)
        self.activation = build_activation(config.hidden_act)
        self.output = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden) to (..., hidden)."""
        return self.output(self.activation(self.intermediate(hidden_states)))


class TransformerLayer(GradientCheckpointingLayer):
    """Self-attention, then feed-forward, each added to its input and normalised after (the paper's order) or before.

    Args:
        config: what `SelfAttention` and `FeedForward` read, and hidden_dropout_prob, layer_norm_eps.
        is_causal: no position sees those after it.
        norm_first: each part reads normalised states, and the sums are not normalised.
        layer_idx: number of the layer, for its place in a cache.
    """

    def __init__(
        self, config: PreTrainedConfig, *, is_causal: bool = False, norm_first: bool = False, layer_idx: int = 0
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = SelfAttention(config, is_causal=is_causal, layer_idx=layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        examples: Examples | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Run the layer.

        Args:
            hidden_states: (batch, seq, hidden); pass it by position, as checkpointing and output capturing need it.
            attention_mask: added to the scores; broadcastable to (batch, heads, seq, seq).
            positions: (n,) flat indices into (batch * seq) of the results that are wanted. None: all.
            examples: where the examples are and the same positions wanted of them, if they may be taken one by one.
            **kwargs: past_key_values, as `SelfAttention` takes it; others reach the attention function.

        Returns:
            (batch, seq, hidden), or (n, hidden) at the positions.
        """
        if self.norm_first:
            normalised = self.attention_norm(hidden_states)
            attended, _ = self.attention(normalised, attention_mask, positions, examples, **kwargs)
            hidden_states = self.dropout.add_to(states_at(hidden_states, positions), attended)
            return self.dropout.add_to(hidden_states, self.feed_forward(self.feed_forward_norm(hidden_states)))
        attended, _ = self.attention(hidden_states, attention_mask, positions, examples, **kwargs)
        hidden_states = states_at(hidden_states, positions)
        hidden_states = self.attention_norm(self.dropout.add_to(hidden_states, attended))
        return self.feed_forward_norm(self.dropout.add_to(hidden_states, self.feed_forward(hidden_states)))
