"""Sequence to sequence with RNNs: one reads the source, another writes the target, looking back by attention.

Papers: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, and Cho et al. 2014, https://arxiv.org/abs/1406.1078 (one vector
between the two: attention_type "none"); Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473 ("additive"); Luong et al. 2015,
https://arxiv.org/abs/1508.04025 ("dot", "general").

Kept from the RNN language model: cells, embeddings, the softmax over the vocabulary. Changed: there are two networks, so that
output need not be as long as input nor in its order; the encoder, like ELMo, reads both ways. Without attention all of the
source must fit the vector that the decoder starts from. With attention the decoder weighs the encoder's states anew for every
token:

    additive      score(s, h) = v · tanh(W s + U h), asked with the state before the step; what is found goes into the step
    dot           score(s, h) = s · h, asked with the state after the step; what is found goes into the output alone
    general       score(s, h) = s · U h, likewise
    in all        weights = softmax over the source of the scores, context = Σ weights h

The Transformer keeps encoder, decoder and attention (the dot product, scaled) and drops the recurrence that they were made for.
Left out here: Luong's input feeding, which would make dot and general as sequential as additive is, and Bahdanau's maxout.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.generation import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
)
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .modeling_checks import check_probabilities, check_sizes, check_token_ids
from .modeling_dropout import Dropout
from .modeling_packed_rows import PackedRows, split_rows
from .modeling_padding import untrained_token
from .modeling_recurrent import TORCH_CELLS, LockedDropout, RecurrentLayer, build_cell, init_cell, states_of
from .modeling_rnn import RnnLMHead
from .modeling_seq2seq import EncoderDecoder, ForConditionalGeneration
from .modeling_state import LayerState, StateCache

ATTENTION_TYPES = ("none", "additive", "dot", "general")

RNN_SEQ2SEQ_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"embedding_size": 128, "hidden_size": 128, "num_hidden_layers": 1, "hidden_dropout_prob": 0.1},
    "small": {"embedding_size": 256, "hidden_size": 256, "num_hidden_layers": 1, "hidden_dropout_prob": 0.3},
    "base": {"embedding_size": 256, "hidden_size": 512, "num_hidden_layers": 1, "hidden_dropout_prob": 0.5},
    "large": {  # Bahdanau et al., with 1000 units in each direction
        "embedding_size": 620,
        "hidden_size": 1000,
        "encoder_hidden_size": 2000,
        "num_hidden_layers": 1,
        "hidden_dropout_prob": 0.5,
    },
}


@strict
class RnnSeq2SeqConfig(PreTrainedConfig):
    """Shape, attention and dropout of a recurrent encoder-decoder."""

    model_type = "bertkit-rnn_seq2seq"

    vocab_size: int = 30000
    """Number of token ids, of source and target together."""
    cell_type: str = "gru"
    """"rnn" (Elman's, with tanh), "gru" or "lstm"."""
    attention_type: str = "additive"
    """"none", "additive" (Bahdanau et al.), "dot" or "general" (Luong et al.)."""
    embedding_size: int = 256
    """Width of the token embeddings."""
    hidden_size: int = 512
    """Width of the decoder's states and of what the output layer reads."""
    encoder_hidden_size: int | None = None
    """Width of the encoder's states, of both directions together; hidden_size if not given."""
    bidirectional: bool = True
    """Let half of the encoder read from the end."""
    num_hidden_layers: int = 1
    """Layers of the encoder."""
    decoder_layers: int | None = None
    """Layers of the decoder; num_hidden_layers if not given."""
    hidden_dropout_prob: float | int = 0.5
    """Dropout after the embeddings, between layers (the same units in all steps of a row) and before the output layer."""
    label_smoothing: float | int = 0.0
    """Share of each label's weight that is spread over the vocabulary in training; evaluation never smooths."""
    initializer_range: float | int = 0.05
    """Standard deviation of fresh embeddings and output layers; linear layers start uniform as Glorot and Bengio 2010 propose,
    recurrent weights even between ± 1 / sqrt(width)."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and is not trained as an input."""
    bos_token_id: int | None = None
    """Token id that a text starts with."""
    eos_token_id: int | list[int] | None = None
    """Token id that a text ends with, and generation."""
    decoder_start_token_id: int | None = None
    """Token id that the decoder reads first; bos_token_id if not given."""
    use_cache: bool = True
    """Return the decoder's state to go on from, outside of training."""
    share_encoder_decoder_embeddings: bool = True
    """Use the same embeddings for source and target tokens."""
    tie_word_embeddings: bool = True
    """Use the embeddings of the target tokens as the output layer, behind a projection where hidden_size is not
    embedding_size."""

    def __post_init__(self, **kwargs: Any) -> None:
        self.is_encoder_decoder = True
        if self.decoder_layers is None:
            self.decoder_layers = self.num_hidden_layers
        super().__post_init__(**kwargs)

    @property
    def embedding_width(self) -> int:
        """Width of the token embeddings."""
        return self.embedding_size

    @property
    def encoder_width(self) -> int:
        """Width of the encoder's states, of both directions together."""
        return self.encoder_hidden_size or self.hidden_size

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        for name, choices in (("cell_type", TORCH_CELLS), ("attention_type", ATTENTION_TYPES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(choices)}")
        check_sizes(self, "vocab_size", "embedding_size", "hidden_size", "encoder_hidden_size")
        check_sizes(self, "num_hidden_layers", "decoder_layers")
        if self.bidirectional and self.encoder_width % 2:
            raise ValueError(
                f"the encoder's width is {self.encoder_width}; with two directions it must be even (encoder_hidden_size, or "
                "hidden_size if that is not given)"
            )
        if self.attention_type == "dot" and self.encoder_width != self.hidden_size:
            raise ValueError(
                f"attention_type 'dot' compares states of encoder and decoder, but encoder_hidden_size "
                f"{self.encoder_hidden_size} is not hidden_size {self.hidden_size}; make them equal, or take 'general'"
            )
        check_probabilities(self, "hidden_dropout_prob", "label_smoothing")
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


class AttentionScore(nn.Linear):
    """Additive attention's last product, with one vector."""

    def forward(self, energies: torch.Tensor) -> torch.Tensor:
        """Map (batch, source, hidden) to (batch, source, 1)."""
        # Copied, because a product with one vector rounds by where in memory that lies, and loaded weights lie anywhere.
        return F.linear(energies, self.weight.clone())


class RnnSeq2SeqAttention(nn.Module):
    """Scores of the source's states for a state of the decoder, by `config.attention_type`; and what is found."""

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__()
        is_additive = config.attention_type == "additive"
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=False) if is_additive else None
        self.score = AttentionScore(config.hidden_size, 1, bias=False) if is_additive else None

    def forward(
        self, states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, source_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            states: (batch, hidden) of one step if additive, else (batch, seq, hidden).
            keys: (batch, source, hidden) what `key_layer` made of the encoder's states, once for all steps.
            values: (batch, source, encoder) the encoder's states.
            source_mask: (batch, source) False at padding. None: nothing is padded.

        Returns:
            The contexts (batch, seq, encoder) and the weights (batch, seq, source), with seq 1 if additive.
        """
        if self.query is not None and self.score is not None:
            energies = (self.query(states).unsqueeze(1) + keys).tanh()  # (batch, source, hidden)
            scores = self.score(energies).transpose(1, 2)  # (batch, 1, source)
        else:
            scores = states @ keys.transpose(1, 2)  # (batch, seq, source)
        if source_mask is not None:
            scores = scores.masked_fill(~source_mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return weights.to(values.dtype) @ values, weights


def key_layer(config: RnnSeq2SeqConfig) -> nn.Module:
    """Return what makes keys of the encoder's states: Bahdanau's U with a bias, Luong's without, or nothing."""
    if config.attention_type in ("none", "dot"):
        return nn.Identity()
    return nn.Linear(config.encoder_width, config.hidden_size, bias=config.attention_type == "additive")


def cell_step(cell_type: str, share: torch.Tensor, recurrent: torch.Tensor, state: LayerState) -> LayerState:
    """Take one step as torch's cells do.

    Args:
        cell_type: a name in `TORCH_CELLS`.
        share: (batch, gates * hidden) of the inputs and their bias in the gates, in torch's order.
        recurrent: likewise of the state.
        state: h (batch, hidden), and of an LSTM c.

    Returns:
        The new state.
    """
    if cell_type == "rnn":
        return ((share + recurrent).tanh(),)
    if cell_type == "gru":
        size = state[0].shape[1]
        reset, update = (share[:, : 2 * size] + recurrent[:, : 2 * size]).sigmoid().chunk(2, dim=1)
        new = torch.addcmul(share[:, 2 * size :], reset, recurrent[:, 2 * size :]).tanh()
        return (torch.lerp(new, state[0].to(new.dtype), update),)
    input_gate, forget_gate, candidate, output_gate = (share + recurrent).chunk(4, dim=1)
    cell = forget_gate.sigmoid() * state[1] + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell


class Steps:
    """What makes of torch's cell one that is called with a function, which takes its steps.

    The function runs inside the cell's forward, because accelerate has weights that are offloaded there, and only there.
    """

    def forward(self, take: Callable[..., tuple[torch.Tensor, ...]], *inputs: Any) -> tuple[torch.Tensor, ...]:
        """Return `take(cell, *inputs)`."""
        return take(self, *inputs)


_STEPPED_CELLS: dict[str, Any] = {
    name: type(f"Stepped{cell.__name__}", (Steps, cell), {}) for name, cell in TORCH_CELLS.items()
}


def stepped_cell(cell_type: str, input_size: int, hidden_size: int) -> nn.Module:
    """Make the cell of `build_cell`, called with a function that takes its steps."""
    return _STEPPED_CELLS[cell_type](input_size, hidden_size, batch_first=True)


class RnnSeq2SeqEncoderLayer(GradientCheckpointingLayer):
    """A cell in one direction or both."""

    def __init__(self, config: RnnSeq2SeqConfig, input_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = LockedDropout(dropout)
        size = config.encoder_width // 2 if config.bidirectional else config.encoder_width
        self.cell = build_cell(config.cell_type, input_size, size, bidirectional=config.bidirectional)

    def forward(self, hidden_states: torch.Tensor, sequences: PackedRows | None = None) -> torch.Tensor:
        """Map (batch, source, input) to (batch, source, encoder); 0 at padding, if there is any."""
        hidden_states = self.dropout(hidden_states)
        if sequences is None:
            return self.cell(hidden_states)[0]
        batch, seq, _ = hidden_states.shape
        return sequences.put(self.cell(sequences.take(hidden_states))[0], batch, seq)


class ContextLayer(RecurrentLayer):
    """A decoder's first layer that reads the same vector of the source in every step."""

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config.cell_type, config.embedding_size + config.encoder_width, config.hidden_size)

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, sequences: PackedRows | None, context: torch.Tensor, *state: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run all steps; context is (batch, encoder), the others are as in `RecurrentLayer`."""
        seq = hidden_states.shape[1]
        inputs = torch.cat([hidden_states, context.unsqueeze(1).expand(-1, seq, -1)], dim=-1)
        return super().forward(inputs, sequences, *state)


class AttentiveLayer(RecurrentLayer):
    """A decoder's first layer that looks at the source before every step."""

    make_cell = staticmethod(stepped_cell)

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config.cell_type, config.embedding_size + config.encoder_width, config.hidden_size)
        self.cell_type = config.cell_type
        self.attention = RnnSeq2SeqAttention(config)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        is_token: torch.Tensor | None,
        keys: torch.Tensor,
        values: torch.Tensor,
        source_mask: torch.Tensor | None,
        *state: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Run all steps.

        Args:
            hidden_states: (batch, seq, embedding).
            is_token: (batch, seq) False at padding, which leaves the state as it is. None: nothing is padded.
            keys: (batch, source, hidden).
            values: (batch, source, encoder).
            source_mask: (batch, source) False at padding, or None.
            state: h (batch, hidden), and of an LSTM c.

        Returns:
            (batch, seq, hidden), the contexts (batch, seq, encoder), the weights (batch, seq, source), and the last state.
        """
        return self.cell(self._take_steps, hidden_states, is_token, keys, values, source_mask, *state)

    def _take_steps(
        self,
        cell: Any,
        hidden_states: torch.Tensor,
        is_token: torch.Tensor | None,
        keys: torch.Tensor,
        values: torch.Tensor,
        source_mask: torch.Tensor | None,
        *state: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Run all steps with the weights of the cell; arguments and results are those of `forward`."""
        sizes = [hidden_states.shape[-1], values.shape[-1]]
        by_embedding, by_context = cell.weight_ih_l0.split(sizes, dim=1)
        shares = F.linear(hidden_states, by_embedding, cell.bias_ih_l0)  # of all steps at once
        outputs, contexts, weights = [], [], []
        for step, share in enumerate(shares.unbind(1)):
            context, weight = self.attention(state[0], keys, values, source_mask)
            recurrent = F.linear(state[0], cell.weight_hh_l0, cell.bias_hh_l0)
            new = cell_step(self.cell_type, share + F.linear(context.squeeze(1), by_context), recurrent, state)
            if is_token is not None:
                here = is_token[:, step, None]
                new = tuple(part.where(here, old.to(part.dtype)) for part, old in zip(new, state, strict=True))
            state = new
            outputs.append(state[0])
            contexts.append(context)
            weights.append(weight)
        return torch.stack(outputs, dim=1), torch.cat(contexts, dim=1), torch.cat(weights, dim=1), *state


class RnnSeq2SeqEmbeddings(nn.Module):
    """Token embeddings, with dropout."""

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=untrained_token(config)
        )
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Embed (batch, seq) ids, or take (batch, seq, embedding) token embeddings, to (batch, seq, embedding)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either ids or embeddings, and not both, to each of encoder and decoder")
        return self.dropout(self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds)


class RnnSeq2SeqPreTrainedModel(PreTrainedModel):
    """What all classes share: config, fresh weights, names of the parts."""

    config: RnnSeq2SeqConfig
    config_class = RnnSeq2SeqConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True
    _no_split_modules = ["RnnSeq2SeqEncoderLayer", "RecurrentLayer", "ContextLayer", "AttentiveLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _input_embed_layer = "word_embeddings"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 (the base model leaves it out on purpose)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not init_cell(module):
            super()._init_weights(module)
        if isinstance(module, nn.Linear) and module is not self.get_output_embeddings():
            init.xavier_uniform_(module.weight)


class RnnSeq2SeqEncoder(RnnSeq2SeqPreTrainedModel):
    """Embeddings of the source and recurrent layers."""

    _can_record_outputs = {"hidden_states": RnnSeq2SeqEncoderLayer}  # noqa: RUF012

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config)
        self.embeddings = RnnSeq2SeqEmbeddings(config)
        widths = [config.embedding_size] + [config.encoder_width] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(
            RnnSeq2SeqEncoderLayer(config, width, config.hidden_dropout_prob if index else 0.0)
            for index, width in enumerate(widths)
        )
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
            inputs_embeds: (batch, source, embedding) token embeddings, instead of input_ids.
            **kwargs: output_hidden_states, return_dict; others are not used.

        Returns:
            last_hidden_state (batch, source, encoder); hidden_states if asked for.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds.
        """
        hidden_states = self.embeddings(input_ids, inputs_embeds)
        batch, seq, _ = hidden_states.shape
        sequences = split_rows(batch, seq, attention_mask, None)
        for layer in self.layers:
            hidden_states = layer(hidden_states, sequences)
        return BaseModelOutput(last_hidden_state=hidden_states.contiguous())  # torch's kernels put the steps first


class RnnSeq2SeqDecoder(RnnSeq2SeqPreTrainedModel):
    """Embeddings of the target, a start from the encoder's last state, recurrent layers, and attention."""

    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": OutputRecorder(RecurrentLayer, num_hidden_layers_key="decoder_layers")
    }

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config)
        layers, hidden = config.decoder_layers or 0, config.hidden_size
        self.embeddings = RnnSeq2SeqEmbeddings(config)
        self.bridge = nn.Linear(config.encoder_width, layers * hidden)
        self.cell_bridge = nn.Linear(config.encoder_width, layers * hidden) if config.cell_type == "lstm" else None
        first: RecurrentLayer
        if config.attention_type == "none":
            first = ContextLayer(config)
        elif config.attention_type == "additive":
            first = AttentiveLayer(config)
        else:
            first = RecurrentLayer(config.cell_type, config.embedding_size, hidden)
        others = [
            RecurrentLayer(config.cell_type, hidden, hidden, dropout=config.hidden_dropout_prob)
            for _ in range(layers - 1)
        ]
        self.layers = nn.ModuleList([first, *others])
        self.key = key_layer(config)
        looks_after_the_step = config.attention_type in ("dot", "general")
        self.attention = RnnSeq2SeqAttention(config) if looks_after_the_step else None
        read = hidden + config.encoder_width + (0 if looks_after_the_step else config.embedding_size)
        self.readout = nn.Linear(read, hidden)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Read the target from left to right.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, past + seq) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            encoder_hidden_states: (batch, source, encoder).
            encoder_attention_mask: (batch, source) 1 at tokens, 0 at padding.
            past_key_values: state of the rows so far; it is replaced by the new one, and keeps what is made of the source.
            inputs_embeds: (batch, seq, embedding) token embeddings, instead of input_ids.
            use_cache: return the state. None: `config.use_cache`, but not in training.
            **kwargs: output_hidden_states, output_attentions, return_dict; others are not used.

        Returns:
            last_hidden_state (batch, seq, hidden), what the output layer reads; past_key_values with use_cache; if asked for,
            hidden_states and, with attention, cross_attentions: one (batch, 1, seq, source).

        Raises:
            ValueError: no source, not exactly one of input_ids and inputs_embeds, or the state of another kind of model.
        """
        if encoder_hidden_states is None:
            raise ValueError("the decoder needs encoder_hidden_states, the encoder's last_hidden_state")
        source, source_mask = encoder_hidden_states, None
        if encoder_attention_mask is not None:
            source_mask = encoder_attention_mask != 0  # (batch, source)
        embedded = self.embeddings(input_ids, inputs_embeds)  # (batch, seq, embedding)
        batch, seq, _ = embedded.shape
        rows = split_rows(batch, seq, attention_mask, None)
        states = memory = None
        if past_key_values is not None:
            states = past_key_values.states(len(self.layers), states_of(self.config.cell_type))
            memory = None if states is None else past_key_values.memory
        if states is None or memory is None:
            summary = self._summary(source, source_mask)
            states = self._first_states(summary) if states is None else states
            # What of the source is made once for all steps: the keys (batch, source, hidden), or its one vector.
            memory = summary if self.config.attention_type == "none" else self.key(source)
        first, weights = self.layers[0], None
        if isinstance(first, AttentiveLayer):
            is_token = None if rows is None or attention_mask is None else attention_mask[:, -seq:] != 0
            hidden_states, context, weights, *state = first(embedded, is_token, memory, source, source_mask, *states[0])
        elif isinstance(first, ContextLayer):
            hidden_states, *state = first(embedded, rows, memory, *states[0])
            context = memory.unsqueeze(1).expand(-1, seq, -1)
        else:
            hidden_states, *state = first(embedded, rows, *states[0])
        new_states = [tuple(state)]
        for layer, old in zip(self.layers[1:], states[1:], strict=True):
            hidden_states, *state = layer(hidden_states, rows, *old)
            new_states.append(tuple(state))
        if self.attention is None:
            parts = [hidden_states, context, embedded]
        else:
            context, weights = self.attention(hidden_states, memory, source, source_mask)
            parts = [hidden_states, context]
        outputs = self.dropout(self.readout(torch.cat(parts, dim=-1)).tanh())
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache:
            past_key_values = StateCache() if past_key_values is None else past_key_values
            past_key_values.replace(new_states, seen_tokens=seq)
            past_key_values.memory = memory
        if not kwargs.get("output_attentions", self.config.output_attentions):
            weights = None
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=outputs,
            past_key_values=past_key_values if use_cache else None,
            cross_attentions=None if weights is None else (weights.unsqueeze(1),),
        )

    def _summary(self, source: torch.Tensor, source_mask: torch.Tensor | None) -> torch.Tensor:
        """Take the last state of each of the encoder's directions: (batch, source, encoder) to (batch, encoder)."""
        if source_mask is None:
            first, last = source[:, 0], source[:, -1]
        else:
            places = torch.arange(source.shape[1], device=source.device)
            rows = torch.arange(source.shape[0], device=source.device)
            first = source[rows, source_mask.int().argmax(dim=1)]
            last = source[rows, (source_mask * places).argmax(dim=1)]
        if not self.config.bidirectional:
            return last
        half = source.shape[-1] // 2
        return torch.cat([last[:, :half], first[:, half:]], dim=-1)

    def _first_states(self, summary: torch.Tensor) -> list[LayerState]:
        """Make the layers' states before the first step of what the encoder ended with: (batch, encoder)."""
        hidden = self.bridge(summary).tanh().chunk(len(self.layers), dim=-1)
        if self.cell_bridge is None:
            return [(h,) for h in hidden]
        return list(zip(hidden, self.cell_bridge(summary).chunk(len(self.layers), dim=-1), strict=True))


class RnnSeq2SeqModel(EncoderDecoder, RnnSeq2SeqPreTrainedModel):
    """Encoder and decoder."""

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config)
        self.encoder = RnnSeq2SeqEncoder(config)
        self.decoder = RnnSeq2SeqDecoder(config)
        self.post_init()


class RnnSeq2SeqForConditionalGeneration(ForConditionalGeneration, RnnSeq2SeqPreTrainedModel, GenerationMixin):
    """The next token of the target, by its embeddings as output layer; generates."""

    _tied_weights_keys = {"lm_head.decoder.weight": "model.decoder.embeddings.word_embeddings.weight"}  # noqa: RUF012

    lm_head: RnnLMHead

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config)
        self.model = RnnSeq2SeqModel(config)
        self.lm_head = RnnLMHead(config)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generate() leaves the cache to forward, which makes a state

    def get_output_embeddings(self) -> nn.Linear:
        """Return the output layer."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer, bias included."""
        self.lm_head.decoder = new_embeddings
