"""LSTMs with a projected and clipped state, the two directions of a layer side by side, with their gradient by hand.

Papers: Sak et al. 2014, https://arxiv.org/abs/1402.1128 (the projection); Jozefowicz et al. 2016,
https://arxiv.org/abs/1602.02410 (with clipping, as a language model). At step t, for an input x:

    i, f, o = sigmoid(W x_t + R h_{t-1} + b)    g = tanh(likewise)
    c_t = clip(f * c_{t-1} + i * g)
    h_t = clip(P (o * tanh(c_t)))

`nn.LSTM(proj_size=...)` computes the same without the clipping. It has no fused kernel on CPUs, where autograd then records
every small operation; here the recurrence keeps only what cannot be done for all steps at once, forwards and backwards.
"""

from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

REDUCED = (torch.float16, torch.bfloat16)


class ProjectedLSTMFunction(torch.autograd.Function):
    """The recurrence over sequences in the layout of `PackedSequence`: all first steps, all second steps, and so on.

    The sequences stand in the order of their lengths, the longest first, so that step t has the first batch_sizes[t] of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        cell: torch.Tensor,
        weight_ih: torch.Tensor,
        weight_hh: torch.Tensor,
        bias: torch.Tensor,
        weight_hr: torch.Tensor,
        batch_sizes: list[int],
        cell_clip: float,
        projection_clip: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the recurrence; see `projected_lstm` for the arguments."""
        size = weight_hr.shape[2]
        with torch.autocast(inputs.device.type, enabled=False):
            # The inputs' share of all gates in one product; step by step it becomes the gates.
            gates = torch.baddbmm(bias.unsqueeze(1), inputs, weight_ih.mT)  # (directions, tokens, 4 * cell)
            # What adds up over many steps is kept in full precision.
            dtype = torch.float32 if inputs.dtype in REDUCED else inputs.dtype
            cells = inputs.new_empty(*gates.shape[:2], size, dtype=dtype)  # (directions, tokens, cell)
            tanh_cells = torch.empty_like(cells)
            outputs = inputs.new_empty(*gates.shape[:2], weight_hr.shape[1])  # (directions, tokens, projection)
            last_hidden, last_cell = hidden, cell
            recurrent, projection = weight_hh.mT, weight_hr.mT
            steps = (tensor.split(batch_sizes, dim=1) for tensor in (gates, cells, tanh_cells, outputs))
            for gate, new_cell, tanh_cell, new_hidden in zip(*steps, strict=True):
                sequences = gate.shape[1]
                gate.baddbmm_(last_hidden[:, :sequences], recurrent)
                gate[..., : 2 * size].sigmoid_()
                input_gate, forget_gate, candidate, output_gate = gate.chunk(4, dim=-1)
                candidate.tanh_()
                output_gate.sigmoid_()
                torch.mul(forget_gate, last_cell[:, :sequences], out=new_cell)
                new_cell.addcmul_(input_gate.to(dtype), candidate.to(dtype))
                if cell_clip:
                    new_cell.clamp_(-cell_clip, cell_clip)
                torch.tanh(new_cell, out=tanh_cell)
                torch.bmm((output_gate * tanh_cell).to(inputs.dtype), projection, out=new_hidden)
                if projection_clip:
                    new_hidden.clamp_(-projection_clip, projection_clip)
                last_hidden, last_cell = new_hidden, new_cell
        ctx.save_for_backward(inputs, hidden, cell, weight_ih, weight_hh, weight_hr, gates, cells, tanh_cells, outputs)
        ctx.batch_sizes, ctx.cell_clip, ctx.projection_clip = batch_sizes, cell_clip, projection_clip
        ctx.mark_non_differentiable(cells)
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: torch.Tensor, _: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Walk back through the steps; everything that is not recurrent is computed for all steps before or after."""
        inputs, hidden, cell, weight_ih, weight_hh, weight_hr, gates, cells, tanh_cells, outputs = ctx.saved_tensors
        batch_sizes, dtype = ctx.batch_sizes, cells.dtype
        size = weight_hr.shape[2]
        with torch.autocast(inputs.device.type, enabled=False):
            input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
            # Derivatives of c_t by the gates before their activation, of h_t's input by c_t, and of c_t by c_{t-1}.
            grad_gates = torch.empty_like(gates)
            by_input, by_forget, by_candidate, by_output = grad_gates.chunk(4, dim=-1)
            torch.mul(input_gate * candidate, 1 - input_gate, out=by_input)
            torch.mul(_shifted(cell, cells, batch_sizes) * forget_gate, 1 - forget_gate, out=by_forget)
            torch.mul(input_gate, 1 - candidate.square(), out=by_candidate)
            projected = output_gate * tanh_cells  # (directions, tokens, cell) what the projection was applied to
            torch.mul(projected, 1 - output_gate, out=by_output)
            by_cell = output_gate - projected * tanh_cells
            keep = forget_gate
            if ctx.cell_clip:
                inside = cells.abs() < ctx.cell_clip  # a clipped value has no gradient
                grad_gates[..., : 3 * size].unflatten(-1, (3, size)).mul_(inside.unsqueeze(-2))
                keep = forget_gate * inside
            grad_hidden = grad_outputs.clone()  # (directions, tokens, projection)
            open_outputs = outputs.abs() < ctx.projection_clip if ctx.projection_clip else None

            from_hidden = grad_outputs.new_zeros(hidden.shape[0], 0, hidden.shape[2])
            from_cell = cells.new_zeros(cell.shape[0], 0, size)
            ends = list(accumulate(batch_sizes))
            for end, sequences in zip(reversed(ends), reversed(batch_sizes), strict=True):
                step = slice(end - sequences, end)
                later = from_hidden.shape[1]  # sequences that go on after this step
                grad_h = grad_hidden[:, step]
                grad_h[:, :later] += from_hidden
                if open_outputs is not None:
                    grad_h.mul_(open_outputs[:, step])
                grad_projected = torch.bmm(grad_h, weight_hr)  # (directions, sequences, cell)
                grad_c = by_cell[:, step] * grad_projected
                grad_c[:, :later] += from_cell
                by_gate = grad_gates[:, step].unflatten(-1, (4, size))
                by_gate[:, :, :3].mul_(grad_c.unsqueeze(2))
                by_gate[:, :, 3].mul_(grad_projected)
                from_cell = grad_c.mul_(keep[:, step])
                from_hidden = torch.bmm(grad_gates[:, step], weight_hh)

            needs = ctx.needs_input_grad
            grads = grad_gates.mT  # (directions, 4 * cell, tokens)
            return (
                torch.bmm(grad_gates, weight_ih) if needs[0] else None,
                from_hidden if needs[1] else None,
                from_cell.to(cell.dtype) if needs[2] else None,
                torch.bmm(grads, inputs) if needs[3] else None,
                torch.bmm(grads, _shifted(hidden, outputs, batch_sizes)) if needs[4] else None,
                grad_gates.sum(dim=1, dtype=dtype).to(inputs.dtype) if needs[5] else None,
                torch.bmm(grad_hidden.mT, projected.to(inputs.dtype)) if needs[6] else None,
                *(None, None, None),
            )


def _shifted(first: torch.Tensor, states: torch.Tensor, batch_sizes: list[int]) -> torch.Tensor:
    """Put at every step the state of the step before: (directions, tokens, width), `first` at the first step."""
    before = [step[:, :size] for step, size in zip(states.split(batch_sizes, dim=1), batch_sizes[1:], strict=False)]
    return torch.cat([first.to(states.dtype), *before], dim=1)


@torch.compiler.disable  # a graph would hold every step
def projected_lstm(
    inputs: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias: torch.Tensor,
    weight_hr: torch.Tensor,
    *,
    batch_sizes: list[int],
    cell_clip: float = 0.0,
    projection_clip: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one or more independent LSTMs ("directions") over as many sets of sequences of the same lengths.

    The gates stand in the order of `nn.LSTM`: input, forget, candidate, output.

    Args:
        inputs: (directions, tokens, input) in the layout of `PackedSequence`.
        hidden: (directions, sequences, projection) h before the first step.
        cell: (directions, sequences, cell) c before the first step.
        weight_ih: (directions, 4 * cell, input).
        weight_hh: (directions, 4 * cell, projection).
        bias: (directions, 4 * cell).
        weight_hr: (directions, projection, cell).
        batch_sizes: sequences that have a first step, a second, ...; they never grow.
        cell_clip: c stays within ± this; 0 does not clip.
        projection_clip: likewise h.

    Returns:
        h (directions, tokens, projection) and, without a gradient, c (directions, tokens, cell) after every step. Under
        autocast h has its dtype; c has float32 at least.
    """
    device = inputs.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_ih.dtype
    tensors = [tensor.to(dtype) for tensor in (inputs, hidden)]
    weights = [tensor.to(dtype) for tensor in (weight_ih, weight_hh, bias, weight_hr)]
    return ProjectedLSTMFunction.apply(*tensors, cell, *weights, batch_sizes, cell_clip, projection_clip)


class ProjectedLSTM(nn.Module):
    """Weights of the LSTMs of a layer, one a direction; `directions` is the first axis of all but the bias.

    Args:
        input_size: width of the inputs.
        cell_size: width of c.
        projection_size: width of h.
        directions: how many LSTMs.
        cell_clip: c stays within ± this; 0 does not clip.
        projection_clip: likewise h.
    """

    def __init__(
        self,
        *,
        input_size: int,
        cell_size: int,
        projection_size: int,
        directions: int = 2,
        cell_clip: float = 0.0,
        projection_clip: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_size = cell_size  # as nn.LSTM has it, with a projection
        self.cell_clip = cell_clip
        self.projection_clip = projection_clip
        self.weight_ih = nn.Parameter(torch.empty(directions, 4 * cell_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(directions, 4 * cell_size, projection_size))
        self.bias = nn.Parameter(torch.empty(directions * 4 * cell_size))  # a vector, as optimizers do not decay these
        self.weight_hr = nn.Parameter(torch.empty(directions, projection_size, cell_size))

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, batch_sizes: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the LSTMs; arguments and returns as in `projected_lstm`."""
        return projected_lstm(
            inputs,
            hidden,
            cell,
            self.weight_ih,
            self.weight_hh,
            self.bias.view(len(self.weight_ih), -1),
            self.weight_hr,
            batch_sizes=batch_sizes,
            cell_clip=self.cell_clip,
            projection_clip=self.projection_clip,
        )
