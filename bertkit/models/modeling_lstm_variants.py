"""LSTMs that torch has no kernel for, with their gradient by hand: peephole and coupled gates, sequences of several lengths.

Papers: Gers & Schmidhuber 2000, https://doi.org/10.1109/IJCNN.2000.861302 (peepholes); Greff et al. 2017,
https://arxiv.org/abs/1503.04069 (both, compared). At step t, for an input x:

    peephole    i = sigmoid(W_i x_t + R_i h_{t-1} + p_i * c_{t-1} + b_i)      f likewise with p_f
                g = tanh(W_g x_t + R_g h_{t-1} + b_g)
                c_t = f * c_{t-1} + i * g
                o = sigmoid(W_o x_t + R_o h_{t-1} + p_o * c_t + b_o)
                h_t = o * tanh(c_t)
    coupled     the same without peepholes and with i = 1 - f: what enters makes room for itself

Autograd would record a dozen small operations a step. Here only what is recurrent is done step by step, one matrix product and
the gates, forwards and backwards, in buffers that are there before the first step; all else is done for all steps at once.
In float32 on CPUs the products are oneDNN's, as those of `nn.LSTM` are; see `Linear`.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from .modeling_linear import HAS_ONEDNN, laid_out, times

_FEWEST_ROWS = 2  # in a step; with less, or fewer multiplications for a gate, nothing is gained
_LEAST_WORK = 150_000
_through_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
_through_tanh = torch.ops.aten.tanh_backward.grad_input


def _is_quicker(inputs: torch.Tensor, weights: tuple[torch.Tensor, ...], batch_sizes: list[int]) -> bool:
    """Say whether oneDNN's products, which each take ten microseconds to start, pay."""
    return (
        HAS_ONEDNN
        and inputs.device.type == "cpu"
        and all(tensor.dtype == torch.float32 for tensor in (inputs, *weights))
        and all(type(weight) in (torch.Tensor, nn.Parameter) for weight in weights)  # neither sharded nor quantised
        and len(inputs) >= _FEWEST_ROWS * len(batch_sizes)
        and len(inputs) * weights[-1].shape[1] ** 2 >= _LEAST_WORK * len(batch_sizes)
        and not torch.compiler.is_compiling()
    )


def _candidate_doubled(weights: torch.Tensor, size: int) -> torch.Tensor:
    """Copy (gates * size, ...) with twice the candidate's rows."""
    doubled = weights.clone()
    doubled[-2 * size : -size] *= 2
    return doubled


class LstmRecurrence(torch.autograd.Function):
    """The recurrence over sequences in the layout of `PackedSequence`: all first steps, all second steps, and so on.

    The sequences stand in the order of their lengths, the longest first, so that step t has the first batch_sizes[t] of them.
    Gates stand in torch's order, (input,) forget, candidate, output; three of them are coupled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight_ih: torch.Tensor,
        bias: torch.Tensor,
        weight_hh: torch.Tensor,
        peephole: torch.Tensor | None,
        hidden: torch.Tensor,
        cell: torch.Tensor,
        batch_sizes: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run all steps.

        Args:
            ctx: keeps what the gradient needs.
            inputs: (tokens, input).
            weight_ih: (gates * hidden, input).
            bias: (gates * hidden).
            weight_hh: (gates * hidden, hidden).
            peephole: (3, hidden) of the input, forget and output gate, or None.
            hidden: (sequences, hidden) h before the first step.
            cell: (sequences, hidden) c before the first step, in full precision.
            batch_sizes: sequences that take part in each step.

        Returns:
            h of every step (tokens, hidden), and h and c after each sequence's last step (sequences, hidden).
        """
        size = hidden.shape[1]
        quick = _is_quicker(inputs, (weight_ih, bias, weight_hh), batch_sizes)
        with torch.autocast(inputs.device.type, enabled=False):
            # The inputs' share of all gates; step by step it becomes the gates.
            if quick:
                # The candidate is 2 sigmoid(2x) - 1, which is tanh(x) in a third of the time; its weights are doubled here.
                by_input, share, by_hidden = (_candidate_doubled(t, size) for t in (weight_ih, bias, weight_hh))
                gates = times(inputs, laid_out(by_input, len(inputs)), share)  # (tokens, gates * hidden)
                recurrent = laid_out(by_hidden, batch_sizes[0])
                minus_one = gates.new_tensor(-1.0)
            else:
                gates, recurrent = F.linear(inputs, weight_ih, bias), weight_hh.t()
            outputs = gates.new_empty(len(gates), size)
            cells = cell.new_empty(len(gates), size)
            tanh_cells = torch.empty_like(cells)
            if peephole is not None:
                to_input, to_forget, to_output = peephole.unbind()
            last_hidden, last_cell, ended = hidden, cell, []
            parts = gates.unflatten(1, (-1, size))  # (tokens, gates, hidden)
            tensors = (gates, gates[:, : -size if quick else -2 * size], *parts.unbind(1), cells, tanh_cells, outputs)
            steps = zip(*(tensor.split(batch_sizes) for tensor in tensors), strict=True)
            for gate, by_sigmoid, *first, candidate, output_gate, new_cell, tanh_cell, new_hidden in steps:
                if len(gate) < len(last_hidden):  # here sequences have ended
                    ended.append((last_hidden[len(gate) :], last_cell[len(gate) :]))
                    last_hidden, last_cell = last_hidden[: len(gate)], last_cell[: len(gate)]
                if quick:
                    gate.add_(times(last_hidden, recurrent, None))
                else:
                    gate.addmm_(last_hidden, recurrent)
                forget_gate = first[-1]
                if peephole is not None:
                    first[0].addcmul_(to_input, last_cell)
                    forget_gate.addcmul_(to_forget, last_cell)
                by_sigmoid.sigmoid_()
                if quick:
                    torch.add(minus_one, candidate, alpha=2, out=candidate)
                else:
                    candidate.tanh_()
                if len(first) == 1:
                    torch.lerp(candidate.to(cell.dtype), last_cell, forget_gate.to(cell.dtype), out=new_cell)
                else:
                    torch.mul(forget_gate, last_cell, out=new_cell).addcmul_(first[0], candidate)
                if peephole is not None:
                    output_gate.addcmul_(to_output, new_cell)
                output_gate.sigmoid_()
                if quick:
                    torch.add(new_cell, new_cell, out=tanh_cell).sigmoid_()
                    torch.add(minus_one, tanh_cell, alpha=2, out=tanh_cell)
                else:
                    torch.tanh(new_cell, out=tanh_cell)
                torch.mul(output_gate, tanh_cell, out=new_hidden)
                last_hidden, last_cell = new_hidden, new_cell
            final_hidden, final_cell = (
                torch.cat(parts) for parts in zip((last_hidden, last_cell), *reversed(ended), strict=True)
            )
        ctx.save_for_backward(inputs, weight_ih, weight_hh, peephole, hidden, cell, gates, outputs, cells, tanh_cells)
        ctx.batch_sizes, ctx.quick = batch_sizes, quick
        return outputs, final_hidden, final_cell

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_outputs: torch.Tensor, grad_hidden: torch.Tensor, grad_cell: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Walk back through the steps; everything that is not recurrent is computed for all steps before or after."""
        inputs, weight_ih, weight_hh, peephole, hidden, cell, gates, outputs, cells, tanh_cells = ctx.saved_tensors
        size, batch_sizes, dtype = hidden.shape[1], ctx.batch_sizes, gates.dtype
        with torch.autocast(gates.device.type, enabled=False):
            before = _shifted(cell, cells, batch_sizes)  # (tokens, hidden) c_{t-1}
            *first, candidate, output_gate = gates.unflatten(1, (-1, size)).unbind(1)
            forget_gate = first[-1]
            # Derivatives of c_t (of the output gate: of h_t) by the gates before their activation; step by step they are
            # multiplied by the gradient of c_t (of h_t).
            grads = torch.empty_like(gates)
            *by_first, by_candidate, by_output = grads.unflatten(1, (-1, size)).unbind(1)
            if len(first) == 1:
                input_gate = 1 - forget_gate
                torch.sub(before, candidate, out=by_first[0])
                _through_sigmoid(by_first[0], forget_gate, grad_input=by_first[0])
            else:
                input_gate = first[0]
                _through_sigmoid(candidate, input_gate, grad_input=by_first[0])
                _through_sigmoid(before.to(dtype), forget_gate, grad_input=by_first[1])
            _through_tanh(input_gate, candidate, grad_input=by_candidate)
            _through_sigmoid(tanh_cells.to(dtype), output_gate, grad_input=by_output)
            by_cell = torch.ops.aten.tanh_backward(output_gate.to(tanh_cells.dtype), tanh_cells)  # of h_t by c_t
            keep = forget_gate  # of c_t by c_{t-1}
            if peephole is not None:
                to_input, to_forget, to_output = peephole.unbind()
                by_cell.addcmul_(by_output, to_output)
                keep = torch.addcmul(forget_gate, by_first[0], to_input).addcmul_(by_first[1], to_forget)
            recurrent = laid_out(weight_hh.t().contiguous(), batch_sizes[0]) if ctx.quick else weight_hh
            grad_h, grad_c, grad_cell = grad_hidden[:0], grad_cell[:0], grad_cell.clone()
            tensors = (grads, grads.unflatten(1, (-1, size))[:, :-1], by_output, grad_outputs, by_cell, keep)
            steps = zip(*(reversed(tensor.split(batch_sizes)) for tensor in tensors), strict=True)
            for grad, but_output, of_output, grad_output, output_by_cell, kept in steps:
                if len(grad) > len(grad_h):  # here sequences end
                    grad_h = torch.cat([grad_h, grad_hidden[len(grad_h) : len(grad)]])
                    grad_c = grad_cell[: len(grad)]
                grad_h.add_(grad_output)
                of_output.mul_(grad_h)
                grad_c.addcmul_(grad_h, output_by_cell)
                but_output.mul_(grad_c.unsqueeze(1))
                grad_c.mul_(kept)
                grad_h = times(grad, recurrent, None) if ctx.quick else grad @ recurrent
            ones = grads.new_ones(len(grads))  # torch's sum over rows is slower than this product
            grad_peephole = None
            if peephole is not None:
                pairs = ((by_first[0], before), (by_first[1], before), (by_output, cells))
                sums = [ones.to(cells.dtype) @ (grad * seen) for grad, seen in pairs]
                grad_peephole = torch.stack(sums).to(peephole.dtype)
            shifted, for_inputs = _shifted(hidden, outputs, batch_sizes), ctx.needs_input_grad[0]
            if ctx.quick:
                grad_inputs = times(grads, weight_ih.t(), None) if for_inputs else None
                seen = torch.cat([inputs, shifted], dim=1)  # one product; this way round it is quicker
                grad_ih, grad_hh = times(seen.t(), grads.t(), None).t().split([inputs.shape[1], size], dim=1)
            else:
                grad_inputs = grads @ weight_ih if for_inputs else None
                grad_ih, grad_hh = grads.t() @ inputs, grads.t() @ shifted
        return grad_inputs, grad_ih, ones @ grads, grad_hh, grad_peephole, grad_h, grad_c, None


def _shifted(first: torch.Tensor, states: torch.Tensor, batch_sizes: list[int]) -> torch.Tensor:
    """Put at every step the state of the step before: (tokens, width), `first` at the first step."""
    if batch_sizes[0] == batch_sizes[-1]:
        return torch.cat([first, states[: -len(first)]])
    before = [step[:size] for step, size in zip(states.split(batch_sizes), batch_sizes[1:], strict=False)]
    return torch.cat([first, *before])


class LstmVariant(nn.Module):
    """One layer, called as a layer of `nn.LSTM(batch_first=True)` is; the parameters have the names they have there.

    Args:
        input_size: width of the inputs.
        hidden_size: width of the state.
    """

    num_gates: int
    weight_peephole_l0: torch.Tensor | None

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(self.num_gates * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(self.num_gates * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(self.num_gates * hidden_size))
        self.register_parameter("weight_peephole_l0", None)

    def reset_parameters(self) -> None:
        """Draw all weights evenly from ± 1 / sqrt(hidden_size), as torch does for its own."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def forward(
        self,
        inputs: torch.Tensor | PackedSequence,
        state: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor | PackedSequence, tuple[torch.Tensor, torch.Tensor]]:
        """Run the layer.

        Args:
            inputs: (batch, seq, input), or sequences of several lengths, sorted.
            state: h and c (1, batch, hidden) before the first step; None: zeros.

        Returns:
            h of every step, in the form of the inputs, and h and c (1, batch, hidden) after the last.
        """
        if isinstance(inputs, PackedSequence):
            steps, batch_sizes = inputs.data, inputs.batch_sizes.tolist()
        else:
            batch, seq, _ = inputs.shape
            steps, batch_sizes = inputs.transpose(0, 1).flatten(0, 1), [batch] * seq  # (seq * batch, input)
        device = steps.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight_ih_l0.dtype
        # What adds up over many steps is kept precise.
        precise = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        if state is None:
            hidden = steps.new_zeros(batch_sizes[0], self.hidden_size, dtype=dtype)
            cell = hidden.to(precise)
        else:
            hidden, cell = state[0][0].to(dtype), state[1][0].to(precise)
        weights = (tensor.to(dtype) for tensor in (self.weight_ih_l0, self.bias_ih_l0, self.weight_hh_l0))
        outputs, last_hidden, last_cell = LstmRecurrence.apply(
            steps.to(dtype), *weights, self.weight_peephole_l0, hidden, cell, batch_sizes
        )
        new_state = (last_hidden[None], last_cell.to(dtype)[None])
        if isinstance(inputs, PackedSequence):
            return PackedSequence(outputs, inputs.batch_sizes), new_state
        return outputs.view(seq, batch, self.hidden_size).transpose(0, 1), new_state


class PeepholeLstm(LstmVariant):
    """LSTM whose gates see the cell state, each unit its own."""

    num_gates = 4

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_peephole_l0 = nn.Parameter(torch.empty(3, hidden_size))  # of the input, forget and output gate
        self.reset_parameters()


class CoupledLstm(LstmVariant):
    """LSTM that forgets as much as it takes in."""

    num_gates = 3

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.reset_parameters()


def _has_no_kernel_under_autocast(inputs: torch.Tensor | PackedSequence) -> bool:
    """Return whether autocast would have oneDNN run an LSTM in half precision on a CPU for which it has none, and fail."""
    device = (inputs.data if isinstance(inputs, PackedSequence) else inputs).device.type
    if device != "cpu" or not torch.is_autocast_enabled("cpu") or not HAS_ONEDNN:
        return False
    return not _runs_in_half(torch.get_autocast_dtype("cpu"))


@cache
def _runs_in_half(dtype: torch.dtype) -> bool:
    """Return whether oneDNN computes in a half precision on this processor, as torch asks it."""
    is_bfloat16 = dtype == torch.bfloat16
    return bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported() if is_bfloat16 else torch.ops.mkldnn._is_mkldnn_fp16_supported()
    )


class Lstm(nn.LSTM):
    """`nn.LSTM` that is quicker on CPUs over sequences of several lengths, for which torch has no kernel but single steps."""

    weight_ih_l0: torch.Tensor
    weight_hh_l0: torch.Tensor
    bias_ih_l0: torch.Tensor
    bias_hh_l0: torch.Tensor

    def forward(self, inputs: Any, state: Any = None) -> Any:
        """Run the layers; arguments and results are those of `nn.LSTM`."""
        if _has_no_kernel_under_autocast(inputs):
            dtype = self.weight_ih_l0.dtype
            with torch.autocast("cpu", enabled=False):
                return self(inputs.to(dtype), None if state is None else tuple(part.to(dtype) for part in state))
        if not isinstance(inputs, PackedSequence) or not self._has_recurrence(inputs):
            return super().forward(inputs, state)
        batch_sizes = inputs.batch_sizes.tolist()
        weights = (self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0, self.weight_hh_l0)
        # Of one length they are a tensor, and that has a kernel.
        if batch_sizes[0] == batch_sizes[-1] or not _is_quicker(inputs.data, weights, batch_sizes):
            return super().forward(inputs, state)
        zeros = inputs.data.new_zeros(batch_sizes[0], self.hidden_size)
        hidden, cell = (zeros, zeros) if state is None else (part[0] for part in state)
        outputs, *last = LstmRecurrence.apply(inputs.data, *weights, None, hidden, cell, batch_sizes)
        return PackedSequence(outputs, inputs.batch_sizes), tuple(part[None] for part in last)

    def _has_recurrence(self, inputs: PackedSequence) -> bool:
        is_one_layer = self.num_layers == 1 and not self.bidirectional and not self.proj_size and self.bias
        return is_one_layer and inputs.sorted_indices is None and not torch.is_autocast_enabled("cpu")
