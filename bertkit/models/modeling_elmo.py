"""ELMo: a forward and a backward LSTM language model, whose layers together are the word vectors of a text.

Paper: Peters et al. 2018, https://arxiv.org/abs/1802.05365; the language model: Jozefowicz et al. 2016,
https://arxiv.org/abs/1602.02410.

Kept from the LSTM language model (the rnn family): it reads in order and predicts the next token, by recurrence alone,
with a state of fixed size. Changed: a second one reads backwards and predicts the token before, so that every position
knows both sides, each from a network that never saw the other; token vectors and output layer are shared by the two; the
state is projected to be smaller than the cell, and clipped; a residual leads past every layer but the first; words may be
read by their characters; and what is used afterwards are the states of all layers, not the predictions.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .modeling_both_ways import RowsBothWays, split_rows_both_ways
from .modeling_causal import next_token_labels
from .modeling_characters import CharacterEncoder, Highway
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
from .modeling_losses import IGNORED
from .modeling_padding import untrained_token
from .modeling_projected_lstm import ProjectedLSTM
from .modeling_scalar_mix import ScalarMix
from .modeling_state import StateCache

TOKEN_INPUTS = ("tokens", "characters")
HIGHWAY_GATE_BIAS = -2.0  # fresh highway layers let most of their input pass (Srivastava et al. 2015)

# Taken from **kwargs, because transformers' Trainer counts every argument of forward with "label" in its name among the
# labels a batch must have, and evaluates without a loss where one is absent.
SHIFT_LABELS = "shift_labels"
BACKWARD_LABELS = "backward_labels"

ELMO_PRESETS = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "cell_size": 256},
    "small": {"num_hidden_layers": 2, "hidden_size": 256, "cell_size": 1024},
    "medium": {"num_hidden_layers": 2, "hidden_size": 512, "cell_size": 2048},
    "base": {"num_hidden_layers": 2, "hidden_size": 1024, "cell_size": 4096},
}


@strict
class ElmoConfig(PreTrainedConfig):
    """Shape, clipping and dropout of an ELMo; the defaults are those of the paper, but for WordPiece as input."""

    model_type = "bertkit-elmo"

    vocab_size: int = 30522
    """Number of token ids."""
    hidden_size: int = 1024
    """Width of the hidden states, both directions together; half of it is a direction's state and a token's vector."""
    cell_size: int = 4096
    """Width of a direction's cell state."""
    num_hidden_layers: int = 2
    """Number of layers, each with both directions."""
    residual: bool = True
    """Add to the output of every layer but the first its input."""
    cell_clip: float | int = 3.0
    """The cell state stays within ± this; 0 does not clip."""
    projection_clip: float | int = 3.0
    """The projected state stays within ± this; 0 does not clip."""
    token_input: str = "tokens"
    """What a token's vector comes from: "tokens", one learned vector an id, or "characters", the network of the paper over the
    bytes of the token, which the model looks up in a table of its own or is given."""
    max_characters: int = 50
    """Characters of a token, its two marks counted; longer ones are cut. This and the next four are for "characters"."""
    character_embedding_size: int = 16
    """Width of a character's vector."""
    character_filters: list[list[int]] = field(
        default_factory=lambda: [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]]
    )
    """Convolutions over the characters, each (width, number of filters)."""
    num_highway_layers: int = 2
    """Highway layers on the filters' outputs."""
    character_act: str = "relu"
    """Activation of the filters and in the highway layers, by its transformers name."""
    hidden_dropout_prob: float | int = 0.1
    """Dropout of the input of every layer and of what the output layer reads."""
    classifier_dropout: float | int | None = None
    """Dropout before a task head; hidden_dropout_prob if not given."""
    pooling: str = "mean"
    """What of an example a task head reads, of the learned mix of all layers: the "mean" over its tokens, the "max", the "last"
    token (whose backward half has read that token alone), or "concat", last, max and mean joined."""
    scalar_mix_layer_norm: bool = False
    """Normalise the layers before a task head mixes them, so that layers of unlike size weigh alike."""
    initializer_range: float | int = 0.1
    """Standard deviation of fresh token vectors; other weights start at a scale that follows their shape."""
    use_cache: bool = False
    """Return the state of both directions after the last token and start the next batch from it, if that is given, as AllenAI's
    program does. By default every example starts from zeros, so that no vector depends on other texts."""
    pad_token_id: int | None = 0
    """Token id of padding; its vector starts at zero and is not trained."""
    bos_token_id: int | None = None
    """Token id that begins a text; in a table of characters it is spelled by a mark of its own."""
    eos_token_id: int | None = None
    """Token id that ends a text; likewise."""
    tie_word_embeddings: bool = True
    """Use the token vectors as the output layer; with "characters" there are none, and the output layer is its own."""

    def validate_shape(self) -> None:
        """Check what no layer could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        sizes = ("vocab_size", "hidden_size", "cell_size", "num_hidden_layers", "character_embedding_size")
        check_sizes(self, *sizes)
        check_probabilities(self, "hidden_dropout_prob", "classifier_dropout")
        check_pooling(self)
        check_token_ids(self, "pad_token_id", "bos_token_id", "eos_token_id")
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}; it must be even, a half for each direction")
        for name in ("cell_clip", "projection_clip", "num_highway_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.token_input not in TOKEN_INPUTS:
            raise ValueError(f"unknown token_input {self.token_input!r}; choose from {', '.join(TOKEN_INPUTS)}")
        if self.character_act not in ACT2FN:
            raise ValueError(f"unknown character_act {self.character_act!r}; choose from {', '.join(ACT2FN)}")
        if not self.character_filters or any(len(pair) != 2 or min(pair) < 1 for pair in self.character_filters):
            raise ValueError(f"character_filters is {self.character_filters}; give pairs of a width and a number")
        widest = max(width for width, _ in self.character_filters)
        if self.max_characters < max(widest, 3):
            raise ValueError(f"max_characters is {self.max_characters}; it must be at least {max(widest, 3)}")


class ElmoEmbeddings(nn.Module):
    """A vector for every token, by its id or its characters; both directions read the same."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        size = config.hidden_size // 2
        if config.token_input == "characters":
            self.character_encoder = CharacterEncoder(config, size)
        else:
            self.word_embeddings = nn.Embedding(config.vocab_size, size, padding_idx=untrained_token(config))

    @property
    def encoder(self) -> nn.Module:
        """The part that maps ids to vectors."""
        return self.character_encoder if hasattr(self, "character_encoder") else self.word_embeddings

    def forward(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Embed ids, or take (batch, seq, hidden / 2) token vectors, and lay out both directions: (batch, seq, hidden)."""
        if inputs_embeds is None:
            inputs_embeds = self.encoder(input_ids)
        return torch.cat([inputs_embeds, inputs_embeds], dim=-1)


class ElmoLayer(GradientCheckpointingLayer):
    """A forward and a backward LSTM, neither of which sees the other."""

    def __init__(self, config: ElmoConfig, layer_idx: int) -> None:
        super().__init__()
        self.residual = config.residual and layer_idx > 0
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.lstm = ProjectedLSTM(
            input_size=config.hidden_size // 2,
            cell_size=config.cell_size,
            projection_size=config.hidden_size // 2,
            cell_clip=config.cell_clip,
            projection_clip=config.projection_clip,
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        sequences: RowsBothWays,
        state: tuple[torch.Tensor, ...] | None = None,
        use_cache: bool = False,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """Read both ways.

        Args:
            hidden_states: (batch, seq, hidden), the forward half first.
            sequences: where the examples are.
            state: h (batch, hidden) and c (batch, 2 * cell) of the rows; None: zeros.
            use_cache: return the state afterwards.

        Returns:
            (batch, seq, hidden), 0 plus the residual at padding; and the state, None if not asked for.
        """
        batch, seq, hidden = hidden_states.shape
        hidden_states = self.dropout(hidden_states)
        first_h, first_c = state if state is not None else (None, None)
        cell_size = self.lstm.weight_hr.shape[2]
        cells = torch.float32 if hidden_states.dtype in (torch.float16, torch.bfloat16) else hidden_states.dtype
        outputs, cell_states = self.lstm(
            sequences.take(hidden_states),
            sequences.first_state(first_h, hidden // 2, hidden_states),
            sequences.first_state(first_c, cell_size, hidden_states.new_empty(0, dtype=cells)),
            sequences.batch_sizes,
        )
        if use_cache:
            state = (sequences.last_state(outputs, first_h), sequences.last_state(cell_states, first_c))
        outputs = sequences.put(outputs, batch, seq)
        if self.residual:
            outputs = outputs + hidden_states
        return outputs, state if use_cache else None


class ElmoPreTrainedModel(PreTrainedModel):
    """What all ELMo classes share: config, fresh weights, names of the parts."""

    config: ElmoConfig
    config_class = ElmoConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True
    _no_split_modules = ["ElmoEmbeddings", "ElmoLayer"]  # noqa: RUF012 (transformers reads a list)
    _can_record_outputs = {"hidden_states": ElmoLayer}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ProjectedLSTM):
            for weight in (module.weight_ih, module.weight_hh, module.weight_hr):
                fan_out, fan_in = weight.shape[1:]
                init.normal_(weight, std=(2 / (fan_in + fan_out)) ** 0.5)
            directions, gates = module.weight_ih.shape[:2]
            bias = torch.zeros(directions, 4, gates // 4)
            bias[:, 1] = 1.0  # fresh cells remember
            init.copy_(module.bias, bias.flatten())
        elif isinstance(module, CharacterEncoder):
            init.copy_(module.characters, module.spell_by_number())
            init.uniform_(module.character_embeddings.weight, -1.0, 1.0)
            for part in (*module.convolutions, module.projection):
                init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
        elif isinstance(module, Highway):
            for part in (module.gate, module.transform):
                init.normal_(part.weight, std=part.in_features**-0.5)
            init.constant_(module.gate.bias, HIGHWAY_GATE_BIAS)
        elif isinstance(module, ScalarMix):
            module.init_weights()

    def get_input_embeddings(self) -> nn.Module:
        """Return the part that maps ids to vectors: an embedding, or the character encoder."""
        base: Any = self.base_model
        return base.embeddings.encoder

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token vectors.

        Raises:
            ValueError: the model reads characters and has no token vectors.
        """
        if self.config.token_input == "characters":
            raise ValueError("a model with token_input 'characters' has no token vectors that could be replaced")
        base: Any = self.base_model
        base.embeddings.word_embeddings = value

    def get_output_embeddings(self) -> nn.Linear | None:
        """Return the output layer of the language models, or None in a class without one."""
        return getattr(self, "lm_head", None)

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output layer of the language models, bias included."""
        self.lm_head = new_embeddings

    def resize_token_embeddings(  # type: ignore[override]
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Change the size of the vocabulary; arguments as transformers has them.

        Returns:
            What `get_input_embeddings` gives afterwards.

        Raises:
            ValueError: the model reads characters and would change its size.
        """
        if self.config.token_input != "characters":
            return super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        wanted = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        if wanted + -wanted % (pad_to_multiple_of or 1) != self.config.vocab_size:
            raise ValueError(
                f"a model with token_input 'characters' keeps its vocab_size {self.config.vocab_size}; new words need no "
                "ids, give their characters as (batch, seq, max_characters)"
            )
        return self.get_input_embeddings()

    def read_vocabulary(self, words: list[str]) -> None:
        """Write the table by which a model with token_input "characters" spells its token ids.

        Args:
            words: the word, or piece of one, of every token id; ids beyond are spelled by their numbers.

        Raises:
            ValueError: the model does not read characters, or its vocabulary is smaller.
        """
        if self.config.token_input != "characters":
            raise ValueError(f"a model with token_input {self.config.token_input!r} spells no words")
        if len(words) > self.config.vocab_size:
            raise ValueError(f"{len(words)} words were given for a vocab_size of {self.config.vocab_size}")
        encoder: Any = self.get_input_embeddings()
        unnamed = [str(token_id) for token_id in range(len(words), self.config.vocab_size)]
        encoder.characters.copy_(encoder.spell([*words, *unnamed]))


class ElmoModel(ElmoPreTrainedModel):
    """Token vectors and the layers above them."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        self.embeddings = ElmoEmbeddings(config)
        self.layers = nn.ModuleList(ElmoLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Read rows of one example each, or packed rows, in both directions.

        Args:
            input_ids: (batch, seq) token ids; or (batch, seq, max_characters) characters, in a model that reads these.
            attention_mask: (batch, seq) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            position_ids: (batch, seq) or (1, seq) positions in the example. An example starts at every 0 that is not
                padding, and nothing crosses examples. None: every row is one example.
            inputs_embeds: (batch, seq, hidden / 2) token vectors, instead of input_ids.
            past_key_values: state of every row that its first example goes on from, unless its position_ids start at 0:
                the forward direction at its first token, the backward direction at its last. None: all from zeros.
            use_cache: return the state after the last example of every row. None: as the config says.
            **kwargs: output_hidden_states, return_dict; what other models of transformers take (token_type_ids) is not used.

        Returns:
            last_hidden_state (batch, seq, hidden), the forward half first, of no meaning at padding; past_key_values if
            asked for; hidden_states if asked for: the token vectors twice, then every layer.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or characters in a model that reads none.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        if input_ids is not None and input_ids.dim() == 3 and self.config.token_input != "characters":
            raise ValueError(
                "this model reads token ids (batch, seq), and was given characters (batch, seq, characters)"
            )
        hidden_states = self.embeddings(input_ids, inputs_embeds)  # (batch, seq, hidden)
        batch, seq, _ = hidden_states.shape
        if position_ids is not None:
            position_ids = position_ids.expand(batch, seq)
        sequences = split_rows_both_ways(batch, seq, hidden_states.device, attention_mask, position_ids)
        states = past_key_values.states(len(self.layers), per_layer=2) if past_key_values is not None else None
        new_states = []
        for index, layer in enumerate(self.layers):
            hidden_states, state = layer(hidden_states, sequences, states[index] if states else None, use_cache)
            new_states.append(state)
        if use_cache:
            past_key_values = StateCache() if past_key_values is None else past_key_values
            past_key_values.replace(new_states, seen_tokens=seq)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states, past_key_values=past_key_values if use_cache else None
        )


@dataclass
class ElmoForPreTrainingOutput(ModelOutput):
    """Output of `ElmoForPreTraining`."""

    loss: torch.Tensor | None = None
    """Sum of the two terms, in nats."""
    forward_logits: torch.Tensor | None = None
    """(batch, seq, vocab): the token after each position; None if skipped."""
    backward_logits: torch.Tensor | None = None
    """(batch, seq, vocab): the token before each position; None if skipped."""
    past_key_values: StateCache | None = None
    """State of both directions after every row, if asked for."""
    hidden_states: tuple[torch.Tensor, ...] | None = None
    """One (batch, seq, hidden) for the token vectors, twice, and one for every layer."""
    forward_loss: torch.Tensor | None = None
    """Term of the forward language model, in nats."""
    backward_loss: torch.Tensor | None = None
    """Term of the backward language model, in nats."""


def neighbour_labels(
    labels: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say for every position which token comes after it and which before it in its own example.

    Args:
        labels: (batch, seq) the tokens themselves, -100 where one is not to be predicted.
        attention_mask: (batch, seq) 1 at tokens, 0 at padding.
        position_ids: (batch, seq) or (1, seq) positions that restart at 0 with every example; None where a row is one example.

    Returns:
        The tokens after and the tokens before, (batch, seq) each, -100 where there is none.

    >>> after, before = neighbour_labels(torch.tensor([[5, 6, 7, 8]]), position_ids=torch.tensor([[0, 1, 0, 1]]))
    >>> after.tolist(), before.tolist()
    ([[6, -100, 8, -100]], [[-100, 5, -100, 7]])
    """
    after = next_token_labels(labels, attention_mask, position_ids)
    goes_on = next_token_labels(torch.zeros_like(labels), attention_mask, position_ids)[:, :-1] != IGNORED
    before = F.pad(labels[:, :-1].where(goes_on, IGNORED), (1, 0), value=IGNORED)
    return after, before


class ElmoForPreTraining(ElmoPreTrainedModel):
    """Both language models: the token after, from what stands before, and the token before, from what stands after."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        if config.token_input == "characters":
            self._tied_weights_keys = {}
        self.loss_type = "ForCausalLM"  # by which transformers' Trainer knows that a row has one label less than tokens
        self.model = ElmoModel(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.lm_head = Linear(config.hidden_size // 2, config.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: StateCache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        num_backward_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> ElmoForPreTrainingOutput:
        """Predict the next and the previous tokens.

        Args:
            input_ids: (batch, seq); this and the next four as in `ElmoModel.forward`.
            attention_mask: (batch, seq).
            position_ids: (batch, seq).
            inputs_embeds: (batch, seq, hidden / 2).
            past_key_values: state of every row.
            labels: (batch, seq) the tokens themselves, -100 where one is not to be predicted. Both directions shift them,
                within each example.
            use_cache: return the state. None: as the config says.
            num_items_in_batch: labels of the forward direction in the whole step, over micro-batches and processes, by which
                its summed loss is divided. None: the labels given here.
            num_backward_items_in_batch: likewise backwards. None: num_items_in_batch, if given.
            skip_logits: leave the scores out, in training most of what the memory is taken for; the loss is the same.
            **kwargs: shift_labels and backward_labels (batch, seq), instead of labels: what is predicted at each position, the
                token after it and the token before it, -100 for nothing. And further arguments of `ElmoModel.forward`.

        Returns:
            See `ElmoForPreTrainingOutput`; the losses if there are labels of their direction.
        """
        after, before = kwargs.pop(SHIFT_LABELS, None), kwargs.pop(BACKWARD_LABELS, None)
        if labels is not None:
            after, before = neighbour_labels(labels, attention_mask, position_ids)
        if num_backward_items_in_batch is None:
            num_backward_items_in_batch = num_items_in_batch
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        halves = self.dropout(outputs.last_hidden_state).chunk(2, dim=-1)  # (batch, seq, hidden / 2) each
        forward_logits, forward_loss = scores_and_loss(
            self.lm_head, halves[0], after, num_items_in_batch, skip_logits=skip_logits
        )
        backward_logits, backward_loss = scores_and_loss(
            self.lm_head, halves[1], before, num_backward_items_in_batch, skip_logits=skip_logits
        )
        terms = [term for term in (forward_loss, backward_loss) if term is not None]
        return ElmoForPreTrainingOutput(
            loss=sum(terms[1:], terms[0]) if terms else None,
            forward_logits=forward_logits,
            backward_logits=backward_logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            forward_loss=forward_loss,
            backward_loss=backward_loss,
        )


class ElmoForSequenceClassification(ForSequenceClassification, ElmoPreTrainedModel):
    """A class, several labels or numbers for every example, from one vector of each, made of the learned mix of all layers."""

    base_model_class = ElmoModel
    mixes_layers = True


class ElmoForTokenClassification(ForTokenClassification, ElmoPreTrainedModel):
    """A class for every token, from the learned mix of all layers."""

    base_model_class = ElmoModel
    mixes_layers = True


class ElmoForQuestionAnswering(ForQuestionAnswering, ElmoPreTrainedModel):
    """Where in an example the answer begins and ends, from the learned mix of all layers."""

    base_model_class = ElmoModel
    mixes_layers = True


class ElmoForMultipleChoice(ForMultipleChoice, ElmoPreTrainedModel):
    """Which of several texts is right, from one vector of each, made of the learned mix of all layers."""

    base_model_class = ElmoModel
    mixes_layers = True
