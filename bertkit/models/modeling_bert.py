"""BERT: a Transformer encoder that reads both sides of every token, pretrained to fill in masked tokens.

Paper: Devlin et al. 2019, https://arxiv.org/abs/1810.04805; the small sizes: Turc et al. 2019,
https://arxiv.org/abs/1908.08962.

Kept from the Transformer encoder (Vaswani et al. 2017): the layer, normalised after each residual sum. Changed: the
positions are learned, not sines; GELU replaces ReLU; segment embeddings mark the two texts of a pair; the sum of the
embeddings is normalised; there is no decoder.
Kept from GPT (Radford et al. 2018): learned positions, GELU, one network pretrained and then fine-tuned. Changed: every
token sees both sides, so predicting the next token would be trivial; masked tokens (15 %) are predicted instead, and
whether the second text follows the first.
"""

from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, MaskedLMOutput, NextSentencePredictorOutput
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, is_flash_attention_requested
from transformers.utils.output_capturing import capture_outputs

from .modeling_checks import check_activation, check_pooling, check_probabilities, check_sizes, check_token_ids
from .modeling_dropout import Dropout
from .modeling_example_attention import Examples, runs_example_by_example
from .modeling_flash_attention import example_edges, flash_arguments
from .modeling_heads import (
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from .modeling_layers import SelfAttention, TransformerLayer, build_activation
from .modeling_linear import Linear
from .modeling_linear_cross_entropy import scores_and_loss
from .modeling_losses import cross_entropy
from .modeling_neighbours import neighbour_queries_and_keys, sine_positions
from .modeling_packing import attention_bias, first_positions, score_dtype, states_at

# Taken from **kwargs, because transformers' Trainer counts every argument of forward with "label" in its name among the
# labels a batch must have, and evaluates without a loss where one is absent.
LABEL_POSITIONS = "label_positions"

INITIAL_ATTENTION = ("random", "neighbours")

BERT_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "mini": {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "small": {"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}
BERT_PRESETS["mini-pre-norm"] = {**BERT_PRESETS["mini"], "norm_first": True}


@strict
class BertEncoderConfig(PreTrainedConfig):
    """Shape and dropout of a BERT encoder; the defaults are those of BERT base."""

    model_type = "bertkit-bert"

    vocab_size: int = 30522
    """Number of token ids."""
    hidden_size: int = 768
    """Width of the hidden states; a multiple of num_attention_heads."""
    num_hidden_layers: int = 12
    """Number of layers."""
    num_attention_heads: int = 12
    """Attention heads in every layer."""
    intermediate_size: int = 3072
    """Width inside the feed-forward part, in the paper 4 times hidden_size."""
    hidden_act: str = "gelu"
    """Activation of the feed-forward part and of the masked language model head, by its transformers name."""
    hidden_dropout_prob: float | int = 0.1
    """Dropout after the embeddings and after both parts of every layer."""
    attention_probs_dropout_prob: float | int = 0.1
    """Dropout of the attention weights. Above 0 it costs most on CPUs, which then have no fused attention."""
    classifier_dropout: float | int | None = None
    """Dropout before a task head; hidden_dropout_prob if not given."""
    max_position_embeddings: int = 512
    """Longest example, in tokens."""
    pooling: str = "cls"
    """What of an example a task head reads: "cls", the pooler on its first token; "mean", the mean of its last states, which
    serves a model better that was pretrained briefly, without next sentences, or too small to learn them; their "max"; the
    state of the "last" token; or "concat", last, max and mean joined."""
    type_vocab_size: int = 2
    """Number of segments (`token_type_ids`)."""
    initializer_range: float | int = 0.02
    """Standard deviation of fresh weights."""
    initial_attention: str = "random"
    """Where the first layer looks before any training: "random" as in the paper, or "neighbours", the heads in turns at
    the token before and after, which spares short runs and small models most of the time in which the loss stands still."""
    norm_first: bool = False
    """Normalise what each part of a layer reads, and the sum once at the end (GPT-2, Xiong et al. 2020), instead of every sum
    as in the paper: it learns faster from scratch, but transformers' own BERT has no such layer."""
    layer_norm_eps: float | int = 1e-12
    """Added to the variance in every layer norm."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and is not trained as an input."""
    tie_word_embeddings: bool = True
    """Use the token embeddings as the output layer of the masked language model."""

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        check_sizes(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_sizes(self, "max_position_embeddings", "type_vocab_size")
        check_probabilities(self, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        check_token_ids(self, "pad_token_id")
        if self.initial_attention not in INITIAL_ATTENTION:
            raise ValueError(
                f"unknown initial_attention {self.initial_attention!r}; choose from {', '.join(INITIAL_ATTENTION)}"
            )
        check_pooling(self, has_pooler=True)
        check_activation(self)


class BertEncoderEmbeddings(nn.Module):
    """Token, position and segment embeddings, summed and normalised."""

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """Embed (batch, seq) ids, or (batch, seq, hidden) token embeddings, to (batch, seq, hidden)."""
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        seq, device = inputs_embeds.shape[1], inputs_embeds.device
        if token_type_ids is None:
            token_type_ids = torch.zeros(1, dtype=torch.long, device=device)  # one row for all: no (batch, seq) lookup
        if position_ids is None:
            if seq > self.position_embeddings.num_embeddings:
                raise ValueError(
                    f"rows of {seq} tokens are longer than max_position_embeddings "
                    f"{self.position_embeddings.num_embeddings}; truncate them, or give position_ids if they are packed"
                )
            position_ids = torch.arange(seq, device=device)
        segments_and_positions = self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.norm(inputs_embeds + segments_and_positions))


class BertEncoderPooler(nn.Module):
    """The first token's hidden state through a linear layer and tanh: what the pair and task heads read."""

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_token_states: torch.Tensor) -> torch.Tensor:
        """Map (examples, hidden) to (examples, hidden)."""
        return self.dense(first_token_states).tanh()


class BertEncoderLMHead(nn.Module):
    """Hidden states to scores of the vocabulary: one more dense layer, then the token embeddings as output layer."""

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = build_activation(config.hidden_act)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = Linear(config.hidden_size, config.vocab_size)

    def transform(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden) to what the decoder reads, as wide."""
        return self.norm(self.activation(self.dense(hidden_states)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden) to (..., vocab)."""
        return self.decoder(self.transform(hidden_states))


class BertEncoderPreTrainedModel(PreTrainedModel):
    """What all BERT classes share: config, fresh weights, names of the parts."""

    config: BertEncoderConfig
    config_class = BertEncoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    example_edges = staticmethod(example_edges)
    _no_split_modules = ["BertEncoderEmbeddings", "TransformerLayer"]  # noqa: RUF012 (transformers reads a list)
    _input_embed_layer = "word_embeddings"
    _can_record_outputs = {"hidden_states": TransformerLayer, "attentions": SelfAttention}  # noqa: RUF012
    # A class without one of the pretraining heads leaves it out on purpose: no need to report it.
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)pooler\.", r"^lm_head\.", r"^next_sentence_head\."]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        encoder: Any = self.base_model
        if self.config.initial_attention == "random":
            return
        width, heads = self.config.hidden_size, self.config.num_attention_heads
        if isinstance(module, nn.Embedding) and module is encoder.embeddings.position_embeddings:
            waves = sine_positions(module.num_embeddings, width, heads, self.config.initializer_range)
            init.copy_(module.weight, waves)
        elif isinstance(module, nn.Linear) and module is encoder.layers[0].attention.qkv:
            queries_and_keys, values = module.weight.split([2 * width, width])
            neighbours = neighbour_queries_and_keys(width, heads).to(
                module.weight.device
            )  # "meta" for what is offloaded
            queries_and_keys = queries_and_keys + neighbours
            init.copy_(module.weight, torch.cat([queries_and_keys, values]))

    def get_output_embeddings(self) -> nn.Linear | None:
        """Return the output layer of the masked language model, or None in a class without one."""
        lm_head = getattr(self, "lm_head", None)
        return None if lm_head is None else lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer of the masked language model, bias included."""
        self.lm_head.decoder = new_embeddings


class BertEncoderModel(BertEncoderPreTrainedModel):
    """Embeddings, layers, and the pooler on the first token of every example.

    Args:
        config: the shape.
        add_pooling_layer: False leaves the pooler out, and `pooler_output` is then None.
    """

    def __init__(self, config: BertEncoderConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = BertEncoderEmbeddings(config)
        self.layers = nn.ModuleList(
            TransformerLayer(config, norm_first=config.norm_first) for _ in range(config.num_hidden_layers)
        )
        has_norm = config.norm_first
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if has_norm else nn.Identity()
        self.pooler = BertEncoderPooler(config) if add_pooling_layer else None
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        example_starts: torch.Tensor | None = None,
        output_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode rows of one example each, or packed rows.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, seq) 1 at tokens, 0 at padding. None: nothing is padded.
            token_type_ids: (batch, seq) segments. None: all 0.
            position_ids: (batch, seq) or (1, seq) positions in the example. An example starts at every 0 that is not
                padding, and no token sees another example; none may have padding inside. None: every row is one example.
            inputs_embeds: (batch, seq, hidden) token embeddings, instead of input_ids.
            example_starts: (examples,) flat indices into (batch * seq) of the first tokens, which spare a GPU the wait
                for counting them; may be padded at the end with 0.
            output_positions: (n,) flat indices into (batch * seq) of the states that are wanted of the last layer, which
                then computes no others but those the pooler reads. None: all.
            **kwargs: output_hidden_states, output_attentions, return_dict; others reach the attention function.

        Returns:
            last_hidden_state (batch, seq, hidden), or (n, hidden) at the output positions; pooler_output (examples, hidden),
            an example a row in the order of the starts, so (batch, hidden) where position_ids are not given; hidden_states
            and attentions if asked for.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or rows longer than the position embeddings.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        hidden_states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        if position_ids is not None:
            position_ids = position_ids.expand(hidden_states.shape[:2])
        if is_flash_attention_requested(self.config):
            bias, kwargs = flash_arguments(hidden_states.shape[:2], attention_mask, position_ids, kwargs)
        else:
            bias = attention_bias(attention_mask, position_ids, score_dtype(hidden_states))
        starts = None
        if self.pooler is not None:
            starts = first_positions(hidden_states, attention_mask, position_ids, example_starts)
        wanted = output_positions
        if output_positions is not None and starts is not None:
            wanted = torch.cat([output_positions, starts])
        examples = None
        if self.training and self.config._attn_implementation == "sdpa" and runs_example_by_example(hidden_states):
            examples = Examples.of(position_ids, attention_mask, hidden_states.shape[:2])
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states, bias, examples=examples, **kwargs)
        if examples is not None and wanted is not None:
            examples = examples.at(wanted)
        # Nothing reads the last layer's other positions.
        hidden_states = self.final_norm(self.layers[-1](hidden_states, bias, wanted, examples=examples, **kwargs))
        pooled = None
        if self.pooler is not None and starts is not None:
            if output_positions is None:
                first_states = states_at(hidden_states, starts)
            else:
                hidden_states, first_states = hidden_states.split([len(output_positions), len(starts)])
            pooled = self.pooler(first_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


@dataclass
class BertEncoderForPreTrainingOutput(ModelOutput):
    """Output of `BertEncoderForPreTraining`: the fields of transformers in its order, then the terms of the loss."""

    loss: torch.Tensor | None = None
    """Sum of the terms whose labels were given."""
    prediction_logits: torch.Tensor | None = None
    """(batch, seq, vocab), or (n, vocab) at the label positions; None if skipped."""
    seq_relationship_logits: torch.Tensor | None = None
    """(examples, 2): the second text follows the first, or does not."""
    hidden_states: tuple[torch.Tensor, ...] | None = None
    """One (batch, seq, hidden) for the embeddings and one for every layer."""
    attentions: tuple[torch.Tensor, ...] | None = None
    """One (batch, heads, seq, seq) for every layer."""
    mlm_loss: torch.Tensor | None = None
    """Masked language model term, in nats."""
    next_sentence_loss: torch.Tensor | None = None
    """Next sentence term, in nats."""


class BertEncoderForPreTraining(BertEncoderPreTrainedModel):
    """Both tasks of the paper: masked tokens, and whether the second text follows the first."""

    _tied_weights_keys = {"lm_head.decoder.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__(config)
        self.model = BertEncoderModel(config)
        self.lm_head = BertEncoderLMHead(config)
        self.next_sentence_head = Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        num_pairs_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> BertEncoderForPreTrainingOutput:
        """Predict masked tokens and the next sentence.

        Args:
            input_ids: (batch, seq); this and the next four as in `BertEncoderModel.forward`.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq).
            position_ids: (batch, seq).
            inputs_embeds: (batch, seq, hidden).
            labels: (batch, seq) token ids, -100 where nothing is to be predicted; (n,) with label_positions.
            next_sentence_label: (examples,) 0 where the second text follows the first, 1 where not, -100 at padding.
            num_items_in_batch: labels of the whole step, over micro-batches and processes, by which the summed loss of
                masked tokens is divided. None: the labels given here.
            num_pairs_in_batch: likewise for the next sentence.
            skip_logits: leave the scores of the vocabulary out, in training much of what the memory is taken for; the loss is
                the same.
            **kwargs: label_positions (n,), flat indices into (batch * seq) of the labels: only there are the vocabulary's
                scores computed; may be padded with 0 where labels are -100. And further arguments of
                `BertEncoderModel.forward`.

        Returns:
            See `BertEncoderForPreTrainingOutput`.
        """
        label_positions = kwargs.pop(LABEL_POSITIONS, None)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_positions=label_positions,
            return_dict=True,
            **kwargs,
        )
        prediction_logits, mlm_loss = scores_and_loss(
            self.lm_head, outputs.last_hidden_state, labels, num_items_in_batch, skip_logits=skip_logits
        )
        seq_relationship_logits = self.next_sentence_head(outputs.pooler_output)
        next_sentence_loss = None
        if next_sentence_label is not None:
            next_sentence_loss = cross_entropy(seq_relationship_logits, next_sentence_label, num_pairs_in_batch)
        terms = [term for term in (mlm_loss, next_sentence_loss) if term is not None]
        return BertEncoderForPreTrainingOutput(
            loss=sum(terms[1:], terms[0]) if terms else None,
            prediction_logits=prediction_logits,
            seq_relationship_logits=seq_relationship_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            mlm_loss=mlm_loss,
            next_sentence_loss=next_sentence_loss,
        )


class BertEncoderForMaskedLM(BertEncoderPreTrainedModel):
    """Masked tokens alone; there is no pooler."""

    _tied_weights_keys = {"lm_head.decoder.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__(config)
        self.model = BertEncoderModel(config, add_pooling_layer=False)
        self.lm_head = BertEncoderLMHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Predict masked tokens.

        Args:
            input_ids: (batch, seq); all arguments as in `BertEncoderForPreTraining.forward`.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq).
            position_ids: (batch, seq).
            inputs_embeds: (batch, seq, hidden).
            labels: (batch, seq), or (n,) with label_positions.
            num_items_in_batch: labels of the whole step.
            skip_logits: leave the scores out.
            **kwargs: label_positions (n,), and further arguments of `BertEncoderModel.forward`.

        Returns:
            loss (with labels), logits (batch, seq, vocab) or (n, vocab) unless skipped, hidden_states and attentions if asked
            for.
        """
        label_positions = kwargs.pop(LABEL_POSITIONS, None)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_positions=label_positions,
            return_dict=True,
            **kwargs,
        )
        logits, loss = scores_and_loss(
            self.lm_head, outputs.last_hidden_state, labels, num_items_in_batch, skip_logits=skip_logits
        )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class BertEncoderForNextSentencePrediction(BertEncoderPreTrainedModel):
    """Whether the second text of a pair follows the first."""

    def __init__(self, config: BertEncoderConfig) -> None:
        super().__init__(config)
        self.model = BertEncoderModel(config)
        self.next_sentence_head = Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> NextSentencePredictorOutput:
        """Judge pairs.

        Args:
            input_ids: (batch, seq); this and the next four as in `BertEncoderModel.forward`.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq).
            position_ids: (batch, seq).
            inputs_embeds: (batch, seq, hidden).
            labels: (examples,) 0 where the second text follows the first, 1 where not, -100 at padding.
            num_items_in_batch: pairs of the whole step, by which the summed loss is divided. None: those given here.
            **kwargs: further arguments of `BertEncoderModel.forward`.

        Returns:
            loss (with labels), logits (examples, 2), hidden_states and attentions if asked for.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.next_sentence_head(outputs.pooler_output)
        loss = None if labels is None else cross_entropy(logits, labels, num_items_in_batch)
        return NextSentencePredictorOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class BertEncoderForSequenceClassification(ForSequenceClassification, BertEncoderPreTrainedModel):
    """A class, several labels or numbers for every example, from one vector of each (`config.pooling`)."""

    base_model_class = BertEncoderModel
    has_pooler = True


class BertEncoderForTokenClassification(ForTokenClassification, BertEncoderPreTrainedModel):
    """A class for every token, from its last state."""

    base_model_class = BertEncoderModel
    has_pooler = True


class BertEncoderForQuestionAnswering(ForQuestionAnswering, BertEncoderPreTrainedModel):
    """Where in an example the answer begins and ends, from the last states."""

    base_model_class = BertEncoderModel
    has_pooler = True


class BertEncoderForMultipleChoice(ForMultipleChoice, BertEncoderPreTrainedModel):
    """Which of several texts is right, from one vector of each (`config.pooling`)."""

    base_model_class = BertEncoderModel
    has_pooler = True
