"""GPT: a Transformer decoder that reads from left to right and predicts the next token.

Papers: Radford et al. 2018 (GPT), https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf;
Radford et al. 2019 (GPT-2), https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf.

Kept from the Transformer's decoder (Vaswani et al. 2017): the layer with causal self-attention, and, in GPT, its order, each
sum normalised. Changed: there is no encoder and no cross-attention, so text needs no translation to learn from; the
positions are learned, not sines; GELU replaces ReLU; the embeddings are not scaled. GPT-2 normalises before each part and
once at the end (`norm_first`), and starts the layers that write into the sum smaller the more of them there are.
Kept from language models of RNNs: the objective, and a state that grows by a token at a time; here it is a cache of keys and
values that keeps every token, not one vector. BERT takes the layer and the recipe of pretraining, and drops the direction.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, is_flash_attention_requested
from transformers.utils.output_capturing import capture_outputs

from .modeling_causal import causal_bias, check_length, next_token_labels, token_positions
from .modeling_checks import check_activation, check_pooling, check_probabilities, check_sizes, check_token_ids
from .modeling_dropout import Dropout
from .modeling_flash_attention import example_edges, flash_arguments
from .modeling_heads import (
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from .modeling_layers import SelfAttention, TransformerLayer
from .modeling_linear import Linear
from .modeling_linear_cross_entropy import scores_and_loss
from .modeling_padding import untrained_token

# Taken from **kwargs, because transformers' Trainer counts every argument of forward with "label" in its name among the
# labels a batch must have, and evaluates without a loss where one is absent.
SHIFT_LABELS = "shift_labels"

GPT_PRESETS = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "mini": {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "small": {"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}


@strict
class GptConfig(PreTrainedConfig):
    """Shape and dropout of a GPT; the defaults are those of GPT-2 with 124 million weights.

    The first GPT has `norm_first` false, 512 positions and 40478 token ids.
    """

    model_type = "bertkit-gpt"

    vocab_size: int = 50257
    """Number of token ids."""
    hidden_size: int = 768
    """Width of the hidden states; a multiple of num_attention_heads."""
    num_hidden_layers: int = 12
    """Number of layers."""
    num_attention_heads: int = 12
    """Attention heads in every layer."""
    intermediate_size: int = 3072
    """Width inside the feed-forward part, in the papers 4 times hidden_size."""
    norm_first: bool = True
    """Normalise before each part and once at the end, as GPT-2 does; or after each sum, as GPT does."""
    hidden_act: str = "gelu_new"
    """Activation of the feed-forward part, by its transformers name; "gelu_new" is the papers' approximation of GELU."""
    hidden_dropout_prob: float | int = 0.1
    """Dropout after the embeddings and after both parts of every layer."""
    attention_probs_dropout_prob: float | int = 0.1
    """Dropout of the attention weights. Above 0 it costs most on CPUs, which then have no fused attention."""
    classifier_dropout: float | int | None = None
    """Dropout before a task head; hidden_dropout_prob if not given."""
    max_position_embeddings: int = 1024
    """Longest example, in tokens."""
    pooling: str = "last"
    """What of an example a task head reads: the state of its "last" token, which alone has read all of it; the "mean" or "max"
    of its states; or "concat", last, max and mean joined."""
    initializer_range: float | int = 0.02
    """Standard deviation of fresh weights."""
    layer_norm_eps: float | int = 1e-5
    """Added to the variance in every layer norm."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and is not trained as an input, unless it is bos or eos as well."""
    bos_token_id: int | None = None
    """Token id that a text starts with, and generation from nothing."""
    eos_token_id: int | list[int] | None = None
    """Token id that a text ends with, and generation."""
    use_cache: bool = True
    """Keep keys and values for the next tokens, outside of training."""
    tie_word_embeddings: bool = True
    """Use the token embeddings as the output layer."""

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        check_sizes(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_sizes(self, "max_position_embeddings")
        check_probabilities(self, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        check_pooling(self)
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id")
        check_activation(self)


class GptEmbeddings(nn.Module):
    """Token and position embeddings, summed."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=untrained_token(config))
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Add positions (batch, seq) to token embeddings (batch, seq, hidden)."""
        return self.dropout(inputs_embeds + self.position_embeddings(position_ids))


class GptPreTrainedModel(PreTrainedModel):
    """What all GPT classes share: config, fresh weights, names of the parts."""

    config: GptConfig
    config_class = GptConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    example_edges = staticmethod(example_edges)
    _can_compile_fullgraph = True
    _no_split_modules = ["GptEmbeddings", "TransformerLayer"]  # noqa: RUF012 (transformers reads a list)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _input_embed_layer = "word_embeddings"
    _can_record_outputs = {"hidden_states": TransformerLayer, "attentions": SelfAttention}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 (the base model leaves it out on purpose)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        decoder: Any = self.base_model
        writers = [part.output for layer in decoder.layers for part in (layer.attention, layer.feed_forward)]
        if self.config.norm_first and isinstance(module, nn.Linear) and module in writers:
            # Every layer adds twice to the same sum, which would grow with their number (GPT-2, section 2.3).
            init.normal_(module.weight, std=self.config.initializer_range / math.sqrt(len(writers)))


class GptModel(GptPreTrainedModel):
    """Embeddings, causal layers, and with `norm_first` a last norm."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__(config)
        self.embeddings = GptEmbeddings(config)
        self.layers = nn.ModuleList(
            TransformerLayer(config, is_causal=True, norm_first=config.norm_first, layer_idx=index)
            for index in range(config.num_hidden_layers)
        )
        has_norm = config.norm_first
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if has_norm else nn.Identity()
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Read rows of one example each, packed rows, or the next tokens of rows that a cache holds.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, past + seq) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            position_ids: (batch, seq) or (1, seq) positions in the example. Without a cache, an example starts at every 0 that
                is not padding, and no token sees another example; none may have padding inside. None: every row is one example.
            past_key_values: cache of the rows so far, to which these tokens are added.
            inputs_embeds: (batch, seq, hidden) token embeddings, instead of input_ids.
            use_cache: return a cache to go on from. None: `config.use_cache`, but not in training.
            **kwargs: output_hidden_states, output_attentions, return_dict; others reach the attention function.

        Returns:
            last_hidden_state (batch, seq, hidden); past_key_values with use_cache; hidden_states and attentions if asked for.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or rows longer than the position embeddings.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings.word_embeddings(input_ids)  # (batch, seq, hidden)
        past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None or past_key_values is not None:
            check_length(inputs_embeds.shape[1], past_length, self.config.max_position_embeddings)
        if is_flash_attention_requested(self.config) and past_key_values is None:
            bias, kwargs = flash_arguments(inputs_embeds.shape[:2], attention_mask, position_ids, kwargs)
        else:
            bias = causal_bias(self.config, inputs_embeds, attention_mask, position_ids, past_key_values)
        if position_ids is None:
            position_ids = token_positions(inputs_embeds, attention_mask, past_length)
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        hidden_states = self.embeddings(inputs_embeds, position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, bias, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_norm(hidden_states), past_key_values=past_key_values if use_cache else None
        )


class GptForCausalLM(GptPreTrainedModel, GenerationMixin):
    """The next token, by the token embeddings as output layer; generates."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: GptConfig) -> None:
        super().__init__(config)
        self.model = GptModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predict the next token at every position.

        Args:
            input_ids: (batch, seq); this and the next four as in `GptModel.forward`.
            attention_mask: (batch, past + seq).
            position_ids: (batch, seq).
            past_key_values: cache.
            inputs_embeds: (batch, seq, hidden).
            labels: (batch, seq) the tokens themselves, -100 where nothing is to be predicted; they are shifted here, and never
                across examples nor into padding.
            use_cache: return a cache. None: `config.use_cache`, but not in training nor with labels.
            logits_to_keep: how many of the last positions' scores are wanted, or which positions'. 0: all, as labels need.
            num_items_in_batch: labels of the whole step, over micro-batches and processes, by which the summed loss is divided.
                None: the labels given here.
            skip_logits: leave the scores out, in training most of what the memory is taken for; the loss is the same.
            **kwargs: shift_labels (batch, seq), labels that are already where they are predicted, instead of labels. And
                further arguments of `GptModel.forward`.

        Returns:
            loss (with labels), logits (batch, seq or those kept, vocab) unless skipped, past_key_values with use_cache,
            hidden_states and attentions if asked for.
        """
        shift_labels = kwargs.pop(SHIFT_LABELS, None)
        if labels is not None and shift_labels is None:
            shift_labels = next_token_labels(labels, attention_mask, position_ids)
        if use_cache is None and shift_labels is not None:
            use_cache = False
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        states = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
        logits, loss = scores_and_loss(self.lm_head, states, shift_labels, num_items_in_batch, skip_logits=skip_logits)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class GptForSequenceClassification(ForSequenceClassification, GptPreTrainedModel):
    """A class, several labels or numbers for every example, from one vector of each (`config.pooling`)."""

    base_model_class = GptModel
    score_has_bias = False  # as in transformers' GPTs: each becomes the other to the bit


class GptForTokenClassification(ForTokenClassification, GptPreTrainedModel):
    """A class for every token, from what stands before it and itself."""

    base_model_class = GptModel


class GptForQuestionAnswering(ForQuestionAnswering, GptPreTrainedModel):
    """Where in an example the answer begins and ends, each token scored from what stands before it and itself."""

    base_model_class = GptModel


class GptForMultipleChoice(ForMultipleChoice, GptPreTrainedModel):
    """Which of several texts is right, from one vector of each (`config.pooling`)."""

    base_model_class = GptModel
