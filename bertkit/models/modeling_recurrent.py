"""Bricks of the recurrent families: the cells, fresh weights for them, and the layer that runs one over rows.

Dropout stands where AWD-LSTM has it (Merity et al. 2018, https://arxiv.org/abs/1708.02182): one mask for all steps of a row, so
that a unit is there for the whole text or not at all (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287), and DropConnect
on the weights from state to state.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .modeling_dropout import Dropout
from .modeling_lstm_variants import CoupledLstm, Lstm, LstmVariant, PeepholeLstm
from .modeling_packed_rows import PackedRows
from .modeling_state import LayerState

TORCH_CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": Lstm}
CELLS: dict[str, Any] = {**TORCH_CELLS, "peephole_lstm": PeepholeLstm, "coupled_lstm": CoupledLstm}


def states_of(cell_type: str) -> int:
    """Return of how many tensors a cell's state is: h, and of all kinds of LSTM c."""
    return 2 if cell_type.endswith("lstm") else 1


def build_cell(cell_type: str, input_size: int, hidden_size: int, *, bidirectional: bool = False) -> nn.Module:
    """Make one recurrent layer of torch's kind, batch first.

    Args:
        cell_type: a name in `CELLS`; bidirectional only those in `TORCH_CELLS`.
        input_size: width of the inputs.
        hidden_size: width of the state, in each direction.
        bidirectional: a second direction reads from the end.
    """
    if cell_type in TORCH_CELLS:
        return TORCH_CELLS[cell_type](input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
    assert not bidirectional
    return CELLS[cell_type](input_size, hidden_size)


def init_cell(cell: nn.Module) -> bool:
    """Draw fresh weights: even between ± 1 / sqrt(hidden), as torch does, with biases of 0 but for forget gates.

    An LSTM starts by remembering: its forget gates have a bias of 1 (Gers et al. 2000, https://doi.org/10.1162/089976600300015015;
    Jozefowicz et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15.html).

    Args:
        cell: any module; weights that were loaded are left alone.

    Returns:
        Whether it is a recurrent cell, so that nothing is left to do.
    """
    if not isinstance(cell, (nn.RNNBase, LstmVariant)):
        return False
    size = cell.hidden_size
    forget_gates = {nn.LSTM: 1, PeepholeLstm: 1, CoupledLstm: 0}
    forget_gate = size * next((gate for kind, gate in forget_gates.items() if isinstance(cell, kind)), -1)
    for name, parameter in cell.named_parameters(recurse=False):
        if name.startswith("weight"):
            init.uniform_(parameter, -1 / math.sqrt(size), 1 / math.sqrt(size))
        elif name.startswith("bias_ih") and forget_gate >= 0:
            bias = torch.zeros_like(parameter)
            bias[forget_gate : forget_gate + size] = 1
            init.copy_(parameter, bias)
        else:
            init.zeros_(parameter)
    return True


class LockedDropout(Dropout):
    """Dropout with one mask for all steps of a row."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Drop units of (batch, seq, width)."""
        if not self.training or self.p == 0:
            return hidden_states
        return hidden_states * super().forward(torch.ones_like(hidden_states[:, :1]))


class RecurrentLayer(GradientCheckpointingLayer):
    """A cell run over rows, with dropout on what goes in and on the weights from state to state.

    Args:
        cell_type: a name in `CELLS`.
        input_size: width of the inputs.
        hidden_size: width of the state.
        dropout: probability of dropping a unit of the inputs, in all steps of a row.
        weight_dropout: probability of dropping a weight from state to state, in all steps and rows.
    """

    cell: Any
    make_cell: Callable[..., nn.Module] = staticmethod(build_cell)

    def __init__(
        self, cell_type: str, input_size: int, hidden_size: int, *, dropout: float = 0.0, weight_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = LockedDropout(dropout)
        self.weight_dropout = Dropout(weight_dropout)
        self.cell = self.make_cell(cell_type, input_size, hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, sequences: PackedRows | None = None, *state: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run all steps of all rows.

        Args:
            hidden_states: (batch, seq, input); pass all by position, as checkpointing and output capturing need it.
            sequences: where the examples of padded or packed rows are; None where every row is one.
            state: h (batch, hidden), and of an LSTM c, before the first step. None given: zeros.

        Returns:
            (batch, seq, hidden), and the state after each row's last token.
        """
        hidden_states = self.dropout(hidden_states)
        if sequences is None:
            outputs, new_state = self._run(hidden_states, state)
            return outputs, *new_state
        batch, seq, _ = hidden_states.shape
        packed, ends = self._run(sequences.take(hidden_states), sequences.first_state(state))
        return sequences.put(packed, batch, seq), *sequences.last_state(ends, state)

    def _run(self, inputs: torch.Tensor | PackedSequence, state: LayerState) -> tuple[Any, LayerState]:
        """Run the cell, which wants the state with a dimension for layers in front, and an LSTM's as a pair."""
        steps = inputs.data if isinstance(inputs, PackedSequence) else inputs
        first = [part.to(steps.dtype).unsqueeze(0).contiguous() for part in state]
        arguments = (inputs, None if not first else first[0] if len(first) == 1 else tuple(first))
        if self.training and self.weight_dropout.p:
            weights = {"weight_hh_l0": self.weight_dropout(self.cell.weight_hh_l0)}
            outputs, last = torch.func.functional_call(self.cell, weights, arguments)
        else:
            outputs, last = self.cell(*arguments)
        return outputs, tuple(part.squeeze(0) for part in (last if isinstance(last, tuple) else (last,)))
