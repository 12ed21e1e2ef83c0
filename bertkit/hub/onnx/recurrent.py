"""The recurrent families as a graph: the same weights, run over padded rows and not over sequences of their own.

Taking rows apart (`models/modeling_packed_rows.py`) makes steps whose number depends on the data, which no graph holds. ONNX's
own recurrent operators take the length of each row instead, so that padding on the right is not read. ELMo's LSTM, with its
projected and clipped state, is none of them; its steps are a loop inside the graph, in which a padded row keeps its state.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from bertkit.models.modeling_characters import CharacterEncoder
from bertkit.models.modeling_elmo import ElmoLayer, ElmoModel
from bertkit.models.modeling_recurrent import RecurrentLayer
from bertkit.models.modeling_rnn import RnnModel

# Our cell -> ONNX's operator, and which of our gates stands where ONNX wants one. Coupled gates have no input gate: it is
# 1 - forget, and 1 - sigmoid(x) is sigmoid(-x).
_OPERATORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "rnn": ("RNN", (0,)),
    "gru": ("GRU", (1, 0, 2)),  # reset, update, new -> update, reset, hidden
    "lstm": ("LSTM", (0, 3, 1, 2)),  # input, forget, candidate, output -> input, output, forget, cell
    "peephole_lstm": ("LSTM", (0, 3, 1, 2)),
    "coupled_lstm": ("LSTM", (0, 2, 0, 1)),  # forget, candidate, output -> (1 - forget), output, forget, cell
}
_PEEPHOLES = (0, 2, 1)  # input, forget, output -> input, output, forget


def over_padded_rows(model: PreTrainedModel, *, spelt: bool = False) -> PreTrainedModel | nn.Module:
    """Give a recurrent model a base that computes the same over rows padded on the right, and can be exported.

    Args:
        model: a model of bertkit in evaluation mode, with or without a head; its base is replaced.
        spelt: it is given words as their characters, and not token ids.

    Returns:
        The model; a base model's stand-in where it has no head; what is not recurrent comes back as it is.
    """
    base: Any = model.base_model
    if isinstance(base, RnnModel):
        padded: nn.Module = PaddedRnn(base)
    elif isinstance(base, ElmoModel):
        padded = PaddedElmo(base, spelt=spelt)
    else:
        return model
    if base is model:
        return padded
    setattr(model, model.base_model_prefix, padded)
    return model


class PaddedRnn(nn.Module):
    """`RnnModel` over rows padded on the right, from fresh states.

    Args:
        model: whose weights it has.
    """

    def __init__(self, model: RnnModel) -> None:
        super().__init__()
        self.embeddings = model.embeddings
        self.layers = nn.ModuleList(PaddedCell(layer, model.config.cell_type) for layer in model.layers)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPast:
        """Read (batch, seq) rows; last_hidden_state (batch, seq, hidden) is 0 at padding, and other arguments are not read."""
        lengths = (attention_mask != 0).sum(dim=1).int()
        states = self.embeddings(input_ids).transpose(0, 1)  # (seq, batch, embedding), the steps first as ONNX has them
        for layer in self.layers:
            states = layer(states, lengths)
        return BaseModelOutputWithPast(last_hidden_state=states.transpose(0, 1))


class PaddedCell(nn.Module):
    """A recurrent layer as ONNX's operator; only the exporter can run it.

    Args:
        layer: the `RecurrentLayer` whose weights it has.
        cell_type: the layer's, a name in `CELLS`.
    """

    weight_ih: torch.Tensor
    weight_hh: torch.Tensor
    bias: torch.Tensor
    peephole: torch.Tensor | None

    def __init__(self, layer: nn.Module, cell_type: str) -> None:
        super().__init__()
        assert isinstance(layer, RecurrentLayer)
        cell = layer.cell
        self.hidden_size = cell.hidden_size
        self.operator, gates = _OPERATORS[cell_type]

        def in_order(weight: torch.Tensor) -> torch.Tensor:
            parts = list(weight.detach().unflatten(0, (-1, cell.hidden_size)))
            taken = [parts[gate] for gate in gates]
            if cell_type == "coupled_lstm":
                taken[0] = -taken[0]
            return torch.cat(taken)[None]  # (directions, gates * hidden, ...)

        biases = [in_order(cell.bias_ih_l0)]
        biases.append(in_order(cell.bias_hh_l0) if hasattr(cell, "bias_hh_l0") else torch.zeros_like(biases[0]))
        self.register_buffer("weight_ih", in_order(cell.weight_ih_l0))
        self.register_buffer("weight_hh", in_order(cell.weight_hh_l0))
        self.register_buffer("bias", torch.cat(biases, dim=1))
        peephole = getattr(cell, "weight_peephole_l0", None)
        self.register_buffer(
            "peephole", None if peephole is None else peephole.detach()[list(_PEEPHOLES)].reshape(1, -1)
        )

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Map (seq, batch, input) to (seq, batch, hidden), 0 from each row's length (batch,) on."""
        inputs = [steps, self.weight_ih, self.weight_hh, self.bias, lengths]
        attributes: dict[str, Any] = {"hidden_size": self.hidden_size}
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1  # torch's form: the reset gate is on the product
        states = torch.onnx.ops.symbolic(
            self.operator,
            inputs if self.peephole is None else [*inputs, None, None, self.peephole],
            attributes,
            dtype=steps.dtype,
            shape=[steps.shape[0], 1, steps.shape[1], self.hidden_size],
        )
        return states.squeeze(1)


class PaddedElmo(nn.Module):
    """`ElmoModel` over rows padded on the right, from fresh states.

    Args:
        model: whose weights it has.
        spelt: it is given (batch, seq, max_characters) characters, and not token ids.
    """

    def __init__(self, model: ElmoModel, *, spelt: bool) -> None:
        super().__init__()
        encoder: Any = model.embeddings.encoder
        self.encoder = PaddedWords(encoder, spelt=spelt) if isinstance(encoder, CharacterEncoder) else encoder
        self.layers = nn.ModuleList(PaddedElmoLayer(layer) for layer in model.layers)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPast:
        """Read rows; last_hidden_state (batch, seq, hidden) and the hidden_states of all layers, other arguments unread."""
        vectors = self.encoder(input_ids)
        states = [torch.cat([vectors, vectors], dim=-1)]  # (batch, seq, hidden) each
        for layer in self.layers:
            states.append(layer(states[-1], attention_mask != 0))
        return BaseModelOutputWithPast(last_hidden_state=states[-1], hidden_states=tuple(states))


class PaddedWords(nn.Module):
    """A character encoder that reads every word of a batch, not each different one once.

    Args:
        encoder: whose weights it has.
        spelt: it is given characters, and not ids of its table.
    """

    def __init__(self, encoder: CharacterEncoder, *, spelt: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.spelt = spelt

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode (batch, seq) ids or (batch, seq, max_characters) characters to (batch, seq, output)."""
        characters = input_ids if self.spelt else self.encoder.characters.long()[input_ids]
        return self.encoder.encode_whole(characters.flatten(0, 1)).unflatten(0, input_ids.shape[:2])


class PaddedElmoLayer(nn.Module):
    """A forward and a backward LSTM whose steps are a loop in the graph.

    Args:
        layer: the `ElmoLayer` whose weights it has.
    """

    forward_weight: torch.Tensor
    backward_weight: torch.Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, ElmoLayer)
        self.residual = layer.residual
        self.lstm = layer.lstm
        # A matrix for each direction: weights of three dimensions have no scales of their own channels when quantised.
        for name, weight in zip(("forward_weight", "backward_weight"), layer.lstm.weight_ih, strict=True):
            self.register_buffer(name, weight.detach().t().contiguous())

    def forward(self, hidden_states: torch.Tensor, is_token: torch.Tensor) -> torch.Tensor:
        """Read (batch, seq, hidden) both ways, where (batch, seq) says that there is a token."""
        batch, lstm = hidden_states.shape[0], self.lstm
        forward, backward = hidden_states.chunk(2, dim=-1)
        by_input = torch.stack([forward @ self.forward_weight, backward.flip(1) @ self.backward_weight])
        by_input = by_input + lstm.bias.view(2, 1, 1, -1)  # (2, batch, seq, 4 * cell)
        by_input = by_input.permute(2, 0, 1, 3)  # (seq, 2, batch, 4 * cell)
        reads = torch.stack([is_token, is_token.flip(1)]).permute(2, 0, 1).unsqueeze(-1)  # (seq, 2, batch, 1)
        projection_size, cell_size = lstm.weight_hr.shape[1:]
        first_hidden = hidden_states.new_zeros(2, batch, projection_size)
        first_cell = hidden_states.new_zeros(2, batch, cell_size)
        outputs = scan(self._step(), (first_hidden, first_cell), (by_input, reads))[1]  # (seq, 2, batch, hidden / 2)
        forward, backward = outputs.transpose(0, 2).unbind(1)  # (batch, seq, hidden / 2) each
        read = torch.cat([forward, backward.flip(1)], dim=-1) * is_token.unsqueeze(-1)
        return read + hidden_states if self.residual else read

    def _step(self) -> Callable[..., Any]:
        lstm = self.lstm
        recurrent, projection = lstm.weight_hh.mT, lstm.weight_hr.mT

        def step(state: tuple[torch.Tensor, torch.Tensor], given: tuple[torch.Tensor, torch.Tensor]) -> Any:
            (hidden, cell), (by_input, reads) = state, given
            input_gate, forget_gate, candidate, output_gate = (by_input + hidden @ recurrent).chunk(4, dim=-1)
            new_cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
            if lstm.cell_clip:
                new_cell = new_cell.clamp(-lstm.cell_clip, lstm.cell_clip)
            new_hidden = (output_gate.sigmoid() * new_cell.tanh()) @ projection
            if lstm.projection_clip:
                new_hidden = new_hidden.clamp(-lstm.projection_clip, lstm.projection_clip)
            new_hidden, new_cell = torch.where(reads, new_hidden, hidden), torch.where(reads, new_cell, cell)
            return (new_hidden, new_cell), new_hidden.clone()

        return step
