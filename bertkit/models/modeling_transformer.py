"""The Transformer: an encoder and a decoder of attention alone, made to translate.

Paper: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.

Kept from sequence-to-sequence RNNs with attention (Bahdanau et al. 2015; Luong et al. 2015): an encoder that keeps a state
for every source token, a decoder that predicts the target from left to right and looks at those states at each step, teacher
forcing. Changed: no state is handed from token to token; within a text, too, tokens look at each other, in several heads, so
that all positions train at once. What order the tokens have is told by sines added to the embeddings; each part of a layer
is added to its input and the sum normalised; labels are smoothed.
GPT keeps the decoder without its look at a source; BERT keeps the encoder.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .modeling_causal import causal_bias, check_length, token_positions
from .modeling_checks import check_activation, check_probabilities, check_sizes, check_token_ids
from .modeling_dropout import Dropout, draws_own_mask
from .modeling_layers import FeedForward, SelfAttention, TransformerLayer, eager_attention
from .modeling_linear import Linear
from .modeling_packing import attention_bias, score_dtype
from .modeling_padding import untrained_token
from .modeling_seq2seq import EncoderDecoder, ForConditionalGeneration

TRANSFORMER_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "mini": {"num_hidden_layers": 3, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "small": {"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1024},
    "base": {"num_hidden_layers": 6, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048},
    "large": {
        "num_hidden_layers": 6,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "hidden_dropout_prob": 0.3,
    },
}


@strict
class TransformerConfig(PreTrainedConfig):
    """Shape, dropout and smoothing of an encoder-decoder; the defaults are those of the paper's base model."""

    model_type = "bertkit-transformer"

    vocab_size: int = 37000
    """Number of token ids, of source and target together."""
    hidden_size: int = 512
    """Width of the hidden states; even, and a multiple of num_attention_heads."""
    num_hidden_layers: int = 6
    """Layers of the encoder."""
    decoder_layers: int | None = None
    """Layers of the decoder; num_hidden_layers if not given."""
    num_attention_heads: int = 8
    """Attention heads in every attention."""
    intermediate_size: int = 2048
    """Width inside the feed-forward part, in the paper 4 times hidden_size."""
    norm_first: bool = False
    """Normalise before each part and once at the end, which trains without warm-up and in deep models; or after each sum, as
    in the paper."""
    hidden_act: str = "relu"
    """Activation of the feed-forward part, by its transformers name."""
    hidden_dropout_prob: float | int = 0.1
    """Dropout after the embeddings and after every part of every layer."""
    attention_probs_dropout_prob: float | int = 0.0
    """Dropout of the attention weights, which the paper has not. Above 0 it costs most on CPUs."""
    label_smoothing: float | int = 0.1
    """Share of each label's weight that is spread over the vocabulary in training; evaluation never smooths."""
    max_position_embeddings: int = 512
    """Longest source and longest target, in tokens. Positions are computed, so a trained model can be given more."""
    initializer_range: float | int | None = None
    """Standard deviation of fresh embeddings; 1 / sqrt(hidden_size) if not given, which their scaling brings to 1. Linear
    layers start uniform as Glorot and Bengio 2010 propose."""
    layer_norm_eps: float | int = 1e-5
    """Added to the variance in every layer norm."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and is not trained as an input."""
    bos_token_id: int | None = None
    """Token id that a text starts with."""
    eos_token_id: int | list[int] | None = None
    """Token id that a text ends with, and generation."""
    decoder_start_token_id: int | None = None
    """Token id that the decoder reads first; bos_token_id if not given."""
    use_cache: bool = True
    """Keep keys and values for the next tokens, outside of training."""
    share_encoder_decoder_embeddings: bool = True
    """Use the same embeddings for source and target tokens."""
    tie_word_embeddings: bool = True
    """Use the embeddings of the target tokens as the output layer."""
    output_bias: bool = False
    """Let the output layer have a bias, which the paper has not and the published Marian models have."""

    def __post_init__(self, **kwargs: Any) -> None:
        self.is_encoder_decoder = True
        if self.decoder_layers is None:
            self.decoder_layers = self.num_hidden_layers
        if self.initializer_range is None:
            self.initializer_range = max(self.hidden_size, 1) ** -0.5
        super().__post_init__(**kwargs)

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        check_sizes(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_sizes(self, "decoder_layers", "max_position_embeddings")
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}; it must be even, for a sine and a cosine each")
        check_probabilities(self, "hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing")
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        check_activation(self)


def sine_positions(positions: int, hidden_size: int) -> torch.Tensor:
    """Compute the positions of the paper (section 3.5): sines and cosines in turns, of wavelengths 2π to 10000 · 2π.

    Args:
        positions: how many.
        hidden_size: width, even.

    Returns:
        (positions, hidden_size), of torch's default type; computed in float64, since float32 is off by 1e-4 far out.
    """
    place = torch.arange(positions, dtype=torch.float64)[:, None]
    wavelength = 10000.0 ** (torch.arange(0, hidden_size, 2, dtype=torch.float64) / hidden_size)
    phases = place / wavelength  # (positions, hidden_size / 2)
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1).to(torch.get_default_dtype())


class SinePositions(nn.Module):
    """The positions as a table that no checkpoint holds."""

    table: torch.Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        shape = config.max_position_embeddings, config.hidden_size
        self.register_buffer("table", sine_positions(*shape), persistent=False)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Map (batch, seq) positions to (batch, seq, hidden)."""
        return self.table[position_ids]


class TransformerEmbeddings(nn.Module):
    """Token embeddings, scaled by sqrt(hidden), plus positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=untrained_token(config))
        self.positions = SinePositions(config)
        self.scale = math.sqrt(config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Add positions (batch, seq) to token embeddings (batch, seq, hidden)."""
        return self.dropout(inputs_embeds * self.scale + self.positions(position_ids))


class CrossAttention(nn.Module):
    """Every target position gathers from all source positions.

    Args:
        config: hidden_size, num_attention_heads, attention_probs_dropout_prob.
        layer_idx: number of the layer, for its place in a cache.
    """

    is_causal = False  # read by attention functions

    def __init__(self, config: TransformerConfig, *, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key_value = nn.Linear(config.hidden_size, 2 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            hidden_states: (batch, seq, hidden).
            encoder_hidden_states: (batch, source, hidden).
            encoder_attention_mask: added to the scores; broadcastable to (batch, heads, seq, source).
            past_key_values: holds the source's keys and values once they were computed.
            **kwargs: passed on to the attention function.

        Returns:
            (batch, seq, hidden), and the attention weights (batch, heads, seq, source) or None if the function keeps none.
        """
        batch, seq, _ = hidden_states.shape
        query = self.query(hidden_states).view(batch, seq, self.num_heads, self.head_dim).transpose(1, 2)
        key, value = self._keys_and_values(encoder_hidden_states, past_key_values)  # (batch, heads, source, head_dim)
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        if dropout and draws_own_mask(hidden_states) and self.config._attn_implementation == "sdpa":
            attend = eager_attention  # as in `SelfAttention`
        context, weights = attend(
            self, query, key, value, encoder_attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return self.output(context.flatten(2)), weights

    def _keys_and_values(
        self, encoder_hidden_states: torch.Tensor, past_key_values: EncoderDecoderCache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the source's keys and values, or take them from the cache."""
        if past_key_values is not None and past_key_values.is_updated.get(self.layer_idx):
            layer: Any = past_key_values.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        batch, source, _ = encoder_hidden_states.shape
        both = self.key_value(encoder_hidden_states).view(batch, source, 2, self.num_heads, self.head_dim)
        key, value = both.permute(2, 0, 3, 1, 4).unbind()
        if past_key_values is not None:
            key, value = past_key_values.cross_attention_cache.update(key, value, self.layer_idx)
            past_key_values.is_updated[self.layer_idx] = True
        return key, value


class TransformerDecoderLayer(GradientCheckpointingLayer):
    """Causal self-attention, attention to the source, feed-forward; each added to its input, normalised after or before.

    Args:
        config: what the three parts read, and hidden_dropout_prob, layer_norm_eps, norm_first.
        layer_idx: number of the layer, for its place in a cache.
    """

    def __init__(self, config: TransformerConfig, *, layer_idx: int) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = SelfAttention(config, is_causal=True, layer_idx=layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross_attention = CrossAttention(config, layer_idx=layer_idx)
        self.cross_attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Run the layer.

        Args:
            hidden_states: (batch, seq, hidden); pass what needs a gradient by position, as checkpointing needs it.
            attention_mask: added to the scores of self-attention; broadcastable to (batch, heads, seq, past + seq).
            encoder_hidden_states: (batch, source, hidden).
            encoder_attention_mask: added to the scores of cross-attention; broadcastable to (batch, heads, seq, source).
            past_key_values: cache of both attentions.
            **kwargs: passed on to the attention functions.

        Returns:
            (batch, seq, hidden).
        """
        own_past = None if past_key_values is None else past_key_values.self_attention_cache
        source = encoder_hidden_states, encoder_attention_mask, past_key_values
        if self.norm_first:
            attended, _ = self.attention(
                self.attention_norm(hidden_states), attention_mask, past_key_values=own_past, **kwargs
            )
            hidden_states = self.dropout.add_to(hidden_states, attended)
            gathered, _ = self.cross_attention(self.cross_attention_norm(hidden_states), *source, **kwargs)
            hidden_states = self.dropout.add_to(hidden_states, gathered)
            return self.dropout.add_to(hidden_states, self.feed_forward(self.feed_forward_norm(hidden_states)))
        attended, _ = self.attention(hidden_states, attention_mask, past_key_values=own_past, **kwargs)
        hidden_states = self.attention_norm(self.dropout.add_to(hidden_states, attended))
        gathered, _ = self.cross_attention(hidden_states, *source, **kwargs)
        hidden_states = self.cross_attention_norm(self.dropout.add_to(hidden_states, gathered))
        return self.feed_forward_norm(self.dropout.add_to(hidden_states, self.feed_forward(hidden_states)))


def last_norm(config: TransformerConfig) -> nn.Module:
    """Return what a stack ends with: a norm where the layers do not end with one themselves."""
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else nn.Identity()


class TransformerPreTrainedModel(PreTrainedModel):
    """What all Transformer classes share: config, fresh weights, names of the parts."""

    config: TransformerConfig
    config_class = TransformerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _can_compile_fullgraph = True
    _no_split_modules = ["TransformerEmbeddings", "TransformerLayer", "TransformerDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _input_embed_layer = "word_embeddings"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 (the base model leaves it out on purpose)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, SinePositions):
            init.copy_(module.table, sine_positions(*module.table.shape))

    def _embed(
        self,
        embeddings: TransformerEmbeddings,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        past_length: int | torch.Tensor = 0,
    ) -> torch.Tensor:
        """Embed (batch, seq) ids, or (batch, seq, hidden) token embeddings before their scaling, to (batch, seq, hidden)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either ids or embeddings, and not both, to each of encoder and decoder")
        if inputs_embeds is None:
            inputs_embeds = embeddings.word_embeddings(input_ids)
        check_length(inputs_embeds.shape[1], past_length, self.config.max_position_embeddings)
        return embeddings(inputs_embeds, token_positions(inputs_embeds, attention_mask, past_length))


class TransformerEncoder(TransformerPreTrainedModel):
    """Embeddings of the source and layers that see all of it."""

    _can_record_outputs = {"hidden_states": TransformerLayer, "attentions": SelfAttention}  # noqa: RUF012

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embeddings = TransformerEmbeddings(config)
        self.layers = nn.ModuleList(
            TransformerLayer(config, norm_first=config.norm_first) for _ in range(config.num_hidden_layers)
        )
        self.final_norm = last_norm(config)
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode the source.

        Args:
            input_ids: (batch, source) token ids.
            attention_mask: (batch, source) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            inputs_embeds: (batch, source, hidden) token embeddings before their scaling, instead of input_ids.
            **kwargs: output_hidden_states, output_attentions, return_dict; others reach the attention function.

        Returns:
            last_hidden_state (batch, source, hidden); hidden_states and attentions if asked for.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or rows longer than the config says.
        """
        hidden_states = self._embed(self.embeddings, input_ids, inputs_embeds, attention_mask)
        bias = attention_bias(attention_mask, None, score_dtype(hidden_states))
        for layer in self.layers:
            hidden_states = layer(hidden_states, bias, **kwargs)
        return BaseModelOutput(last_hidden_state=self.final_norm(hidden_states))


class TransformerDecoder(TransformerPreTrainedModel):
    """Embeddings of the target and layers that see its past and all of the source."""

    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": OutputRecorder(TransformerDecoderLayer, num_hidden_layers_key="decoder_layers"),
        "attentions": SelfAttention,
        "cross_attentions": CrossAttention,
    }

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embeddings = TransformerEmbeddings(config)
        self.layers = nn.ModuleList(
            TransformerDecoderLayer(config, layer_idx=index) for index in range(config.decoder_layers or 0)
        )
        self.final_norm = last_norm(config)
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Read the target from left to right.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, past + seq) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            encoder_hidden_states: (batch, source, hidden).
            encoder_attention_mask: (batch, source) 1 at tokens, 0 at padding.
            past_key_values: cache of the rows so far, to which these tokens are added.
            inputs_embeds: (batch, seq, hidden) token embeddings before their scaling, instead of input_ids.
            use_cache: return a cache to go on from. None: `config.use_cache`, but not in training.
            **kwargs: output_hidden_states, output_attentions, return_dict; others reach the attention functions.

        Returns:
            last_hidden_state (batch, seq, hidden); past_key_values with use_cache; hidden_states, attentions and
            cross_attentions if asked for.

        Raises:
            ValueError: no source, not exactly one of input_ids and inputs_embeds, or rows longer than the config says.
        """
        if encoder_hidden_states is None:
            raise ValueError("the decoder needs encoder_hidden_states, the encoder's last_hidden_state")
        if past_key_values is not None and not isinstance(past_key_values, EncoderDecoderCache):
            past_key_values = EncoderDecoderCache(past_key_values, DynamicCache())
        past = None if past_key_values is None else past_key_values.self_attention_cache
        past_length = 0 if past is None else past.get_seq_length()
        hidden_states = self._embed(self.embeddings, input_ids, inputs_embeds, attention_mask, past_length)
        bias = causal_bias(self.config, hidden_states, attention_mask, past_key_values=past)
        source_bias = attention_bias(encoder_attention_mask, None, score_dtype(hidden_states))
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for layer in self.layers:
            hidden_states = layer(
                hidden_states, bias, encoder_hidden_states, source_bias, past_key_values=past_key_values, **kwargs
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.final_norm(hidden_states), past_key_values=past_key_values if use_cache else None
        )


class TransformerModel(EncoderDecoder, TransformerPreTrainedModel):
    """Encoder and decoder."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.encoder = TransformerEncoder(config)
        self.decoder = TransformerDecoder(config)
        self.post_init()


class TransformerForConditionalGeneration(ForConditionalGeneration, TransformerPreTrainedModel, GenerationMixin):
    """The next token of the target, by its embeddings as output layer; generates."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.model = TransformerModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
        self.post_init()
