"""RNN language model: every token is predicted from a state that has read the tokens before it.

Papers: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1; Mikolov et al. 2010 (as a language model),
https://doi.org/10.21437/Interspeech.2010-343; Hochreiter & Schmidhuber 1997 (LSTM), https://doi.org/10.1162/neco.1997.9.8.1735;
Cho et al. 2014 (GRU), https://arxiv.org/abs/1406.1078; Zaremba et al. 2014, https://arxiv.org/abs/1409.2329, and Merity et al.
2018 (AWD-LSTM), https://arxiv.org/abs/1708.02182, for how to train it.

The first on the road. What it brings, the others keep: token embeddings, a stack of layers, a softmax over the vocabulary,
which may share the embeddings' matrix. What it cannot do, the others change: the state is one vector of fixed size for all that
was read, and step t waits for step t - 1. ELMo adds the other direction; rnn_seq2seq reads one sequence and writes another, and
lets the writer look back (attention); the Transformer leaves the recurrence out.
The cells are that history in small: rnn forgets within some ten steps; lstm and gru have gates that decide what stays.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .modeling_causal import next_token_labels
from .modeling_checks import check_pooling, check_probabilities, check_sizes, check_token_ids
from .modeling_dropout import Dropout
from .modeling_heads import (
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
)
from .modeling_linear import Linear
from .modeling_linear_cross_entropy import scores_and_loss
from .modeling_packed_rows import split_rows
from .modeling_padding import untrained_token
from .modeling_recurrent import CELLS, LockedDropout, RecurrentLayer, init_cell, states_of
from .modeling_state import StateCache

# Taken from **kwargs, because transformers' Trainer counts every argument of forward with "label" in its name among the
# labels a batch must have, and evaluates without a loss where one is absent.
SHIFT_LABELS = "shift_labels"

RNN_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 2, "hidden_dropout_prob": 0.1},
    "mini": {"hidden_size": 256, "num_hidden_layers": 2, "hidden_dropout_prob": 0.1},
    "small": {"hidden_size": 512, "num_hidden_layers": 2, "hidden_dropout_prob": 0.2},
    "base": {"hidden_size": 650, "num_hidden_layers": 2, "hidden_dropout_prob": 0.5},  # Zaremba et al., medium
    "large": {"hidden_size": 1500, "num_hidden_layers": 2, "hidden_dropout_prob": 0.65},  # Zaremba et al., large
    "awd": {  # Merity et al. for the Penn Treebank
        "embedding_size": 400,
        "hidden_size": 400,
        "hidden_sizes": (1150, 1150, 400),
        "num_hidden_layers": 3,
        "embedding_dropout_prob": 0.1,
        "input_dropout_prob": 0.4,
        "hidden_dropout_prob": 0.25,
        "output_dropout_prob": 0.4,
        "weight_dropout_prob": 0.5,
    },
}


@strict
class RnnConfig(PreTrainedConfig):
    """Shape and dropout of a recurrent language model; the defaults are the medium LSTM of Zaremba et al."""

    model_type = "bertkit-rnn"

    vocab_size: int = 30522
    """Number of token ids."""
    cell_type: str = "lstm"
    """"rnn" (Elman's, with tanh), "gru", "lstm", "peephole_lstm" (the gates see the cell state) or "coupled_lstm" (the input
    gate is 1 minus the forget gate)."""
    embedding_size: int | None = None
    """Width of the token embeddings; hidden_size if not given."""
    hidden_size: int = 650
    """Width of the hidden states, of the last layer's where they differ."""
    hidden_sizes: list[int] | tuple[int, ...] | None = None
    """Width of every layer where they differ; the last is hidden_size."""
    num_hidden_layers: int = 2
    """Number of layers."""
    embedding_dropout_prob: float | int = 0.0
    """Share of the token ids whose embedding is dropped wherever they stand in the batch."""
    input_dropout_prob: float | int | None = None
    """Dropout after the embeddings, the same units in all steps of a row; hidden_dropout_prob if not given."""
    hidden_dropout_prob: float | int = 0.5
    """Dropout between layers, the same units in all steps of a row."""
    output_dropout_prob: float | int | None = None
    """Dropout after the last layer, the same units in all steps of a row; hidden_dropout_prob if not given."""
    weight_dropout_prob: float | int = 0.0
    """Dropout of the weights from state to state, the same weights in all steps of a batch."""
    classifier_dropout: float | int | None = None
    """Dropout before a task head; hidden_dropout_prob if not given."""
    pooling: str = "concat"
    """What of an example a task head reads: "concat", its last state and the maximum and mean of all, joined, as in ULMFiT; or
    one of them, "last", "max" or "mean"."""
    initializer_range: float | int = 0.05
    """Standard deviation of fresh embeddings and output layers; recurrent weights are even between ± 1 / sqrt(width)."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and is not trained as an input, unless it is bos or eos as well."""
    bos_token_id: int | None = None
    """Token id that a text starts with, and generation from nothing."""
    eos_token_id: int | list[int] | None = None
    """Token id that a text ends with, and generation."""
    use_cache: bool = True
    """Return the state to go on from."""
    tie_word_embeddings: bool = True
    """Use the token embeddings as the output layer, behind a projection where hidden_size is not embedding_size."""

    @property
    def embedding_width(self) -> int:
        """Width of the token embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def layer_widths(self) -> list[int]:
        """Width of every layer."""
        return list(self.hidden_sizes or [self.hidden_size] * self.num_hidden_layers)

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        if self.cell_type not in CELLS:
            raise ValueError(f"unknown cell_type {self.cell_type!r}; choose from {', '.join(CELLS)}")
        check_sizes(self, "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
        widths = self.layer_widths
        if len(widths) != self.num_hidden_layers or widths[-1] != self.hidden_size or min(widths) < 1:
            raise ValueError(
                f"hidden_sizes is {self.hidden_sizes}; it must have num_hidden_layers ({self.num_hidden_layers}) widths, the "
                f"last of which is hidden_size ({self.hidden_size})"
            )
        check_probabilities(self, "embedding_dropout_prob", "hidden_dropout_prob", "weight_dropout_prob")
        check_probabilities(self, "input_dropout_prob", "output_dropout_prob", "classifier_dropout")
        check_pooling(self)
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id")


class RnnEmbeddings(nn.Module):
    """Token embeddings; in training whole tokens are dropped."""

    def __init__(self, config: RnnConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.embedding_width, padding_idx=untrained_token(config)
        )
        self.word_dropout = Dropout(config.embedding_dropout_prob)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed (batch, seq) to (batch, seq, embedding)."""
        embedded = self.word_embeddings(input_ids)
        if not self.training or self.word_dropout.p == 0:
            return embedded
        kept = self.word_dropout(embedded.new_ones(self.word_embeddings.num_embeddings))  # (vocab,)
        return embedded * kept[input_ids].unsqueeze(-1)


class RnnLMHead(nn.Module):
    """Hidden states to scores of the vocabulary."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        width = config.embedding_width if config.tie_word_embeddings else config.hidden_size
        is_projected = width != config.hidden_size
        self.projection = nn.Linear(config.hidden_size, width) if is_projected else nn.Identity()
        self.decoder: nn.Linear = Linear(width, config.vocab_size)

    def transform(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden) to what the decoder reads."""
        return self.projection(hidden_states)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden) to (..., vocab)."""
        return self.decoder(self.transform(hidden_states))


class RnnPreTrainedModel(PreTrainedModel):
    """What all RNN classes share: config, fresh weights, names of the parts."""

    config: RnnConfig
    config_class = RnnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True
    state_class = StateCache  # what may be carried from batch to batch, and put together from the tensors it gives
    _no_split_modules = ["RnnEmbeddings", "RecurrentLayer"]  # noqa: RUF012 (transformers reads a list)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _input_embed_layer = "word_embeddings"
    _can_record_outputs = {"hidden_states": RecurrentLayer}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 (the base model leaves it out on purpose)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not init_cell(module):
            super()._init_weights(module)
        if isinstance(module, nn.Linear) and module is not self.get_output_embeddings():
            init.xavier_uniform_(module.weight)

    def get_output_embeddings(self) -> nn.Linear | None:
        """Return the output layer, or None in a class without one."""
        lm_head = getattr(self, "lm_head", None)
        return None if lm_head is None else lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer, bias included."""
        self.lm_head.decoder = new_embeddings


class RnnModel(RnnPreTrainedModel):
    """Embeddings and recurrent layers, dropout after each."""

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)

        def or_hidden(probability: float | None) -> float:
            return config.hidden_dropout_prob if probability is None else probability

        self.embeddings = RnnEmbeddings(config)
        widths = [config.embedding_width, *config.layer_widths]
        self.layers = nn.ModuleList(
            RecurrentLayer(
                config.cell_type,
                widths[index],
                widths[index + 1],
                dropout=config.hidden_dropout_prob if index else or_hidden(config.input_dropout_prob),
                weight_dropout=config.weight_dropout_prob,
            )
            for index in range(config.num_hidden_layers)
        )
        self.dropout = LockedDropout(or_hidden(config.output_dropout_prob))
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Read rows of one example each, packed rows, or what comes next in rows whose state is given.

        Padding may stand on either side and is not read. With a mask or with positions a GPU has to wait for the lengths, so
        leave out those that say nothing.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, seq) 1 at tokens, 0 at padding; more columns on its left are of tokens read before.
            position_ids: (batch, seq) or (1, seq) positions in the example. An example starts from zeros at every 0 that is not
                padding. None: every row is one example.
            past_key_values: the state of the rows so far; it is replaced by the new one. A row goes on from it if its first
                position is not 0, or if there are no positions.
            inputs_embeds: (batch, seq, embedding) token embeddings, instead of input_ids.
            use_cache: return the state. None: `config.use_cache`.
            **kwargs: output_hidden_states, return_dict; others are not used.

        Returns:
            last_hidden_state (batch, seq, hidden); past_key_values with use_cache, the state after each row's last token;
            hidden_states if asked for, of the embeddings' and each layer's width.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or the state of another kind of model.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        hidden_states = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        batch, seq, _ = hidden_states.shape
        rows = split_rows(batch, seq, attention_mask, position_ids)
        states = None
        if past_key_values is not None:
            states = past_key_values.states(len(self.layers), states_of(self.config.cell_type))
        if states is not None and rows is None and position_ids is not None:
            continues = position_ids.expand(batch, seq)[:, :1] != 0
            states = [tuple(part.where(continues, 0) for part in state) for state in states]
        new_states = []
        for index, layer in enumerate(self.layers):
            hidden_states, *state = layer(hidden_states, rows, *(states[index] if states is not None else ()))
            new_states.append(tuple(state))
        if use_cache is None:
            use_cache = self.config.use_cache
        if use_cache:
            past_key_values = StateCache() if past_key_values is None else past_key_values
            past_key_values.replace(new_states, seen_tokens=seq)
        return BaseModelOutputWithPast(
            last_hidden_state=self.dropout(hidden_states).contiguous(),  # torch's kernels put the steps first
            past_key_values=past_key_values if use_cache else None,
        )


class RnnForCausalLM(RnnPreTrainedModel, GenerationMixin):
    """The next token, by the token embeddings as output layer; generates."""

    _tied_weights_keys = {"lm_head.decoder.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)
        self.model = RnnModel(config)
        self.lm_head = RnnLMHead(config)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generate() leaves the cache to forward, which makes a state

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
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
            input_ids: (batch, seq); this and the next four as in `RnnModel.forward`.
            attention_mask: (batch, seq).
            position_ids: (batch, seq).
            past_key_values: state.
            inputs_embeds: (batch, seq, embedding).
            labels: (batch, seq) the tokens themselves, -100 where nothing is to be predicted; they are shifted here, and never
                across examples nor into padding.
            use_cache: return the state. None: `config.use_cache`.
            logits_to_keep: how many of the last positions' scores are wanted, or which positions'. 0: all, as labels need.
            num_items_in_batch: labels of the whole step, over micro-batches and processes, by which the summed loss is divided.
                None: the labels given here.
            skip_logits: leave the scores out, in training most of what the memory is taken for; the loss is the same.
            **kwargs: shift_labels (batch, seq), labels that are already where they are predicted, instead of labels. And
                further arguments of `RnnModel.forward`.

        Returns:
            loss (with labels), logits (batch, seq or those kept, vocab) unless skipped, past_key_values with use_cache,
            hidden_states if asked for.
        """
        shift_labels = kwargs.pop(SHIFT_LABELS, None)
        if labels is not None and shift_labels is None:
            shift_labels = next_token_labels(labels, attention_mask, position_ids)
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
        )


class RnnForSequenceClassification(ForSequenceClassification, RnnPreTrainedModel):
    """A class, several labels or numbers for every example, from one vector of each (`config.pooling`)."""

    base_model_class = RnnModel


class RnnForTokenClassification(ForTokenClassification, RnnPreTrainedModel):
    """A class for every token, from the state that has just read it."""

    base_model_class = RnnModel


class RnnForQuestionAnswering(ForQuestionAnswering, RnnPreTrainedModel):
    """Where in an example the answer begins and ends, each token scored from the state that has just read it."""

    base_model_class = RnnModel


class RnnForMultipleChoice(ForMultipleChoice, RnnPreTrainedModel):
    """Which of several texts is right, from one vector of each (`config.pooling`)."""

    base_model_class = RnnModel
