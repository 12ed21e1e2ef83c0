"""CPU time of a training step of every recurrent cell, as a multiple of nn.LSTM's at the same size.

    python benchmarks/recurrent_cells.py --hidden_sizes 256 512

One layer, forward and backward over (batch, seq, hidden), one thread; the cells take turns, and each one's best turn counts.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

from bertkit.models.modeling_lstm_variants import CoupledLstm, PeepholeLstm

CELLS: dict[str, Callable[[int], nn.Module]] = {
    "lstm (torch)": lambda size: nn.LSTM(size, size, batch_first=True),
    "peephole_lstm": lambda size: PeepholeLstm(size, size),
    "coupled_lstm": lambda size: CoupledLstm(size, size),
    "gru (torch)": lambda size: nn.GRU(size, size, batch_first=True),
    "rnn (torch)": lambda size: nn.RNN(size, size, batch_first=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden_sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seq_length", type=int, default=64)
    parser.add_argument("--turns", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"batch {arguments.batch_size}, {arguments.seq_length} steps, torch {torch.__version__}")
    for size in arguments.hidden_sizes:
        inputs = torch.randn(arguments.batch_size, arguments.seq_length, size, requires_grad=True)
        cells = {name: build(size) for name, build in CELLS.items()}
        seconds = dict.fromkeys(cells, float("inf"))
        for _ in range(arguments.turns):
            for name, cell in cells.items():
                seconds[name] = min(seconds[name], step_seconds(cell, inputs))
        reference = next(iter(seconds.values()))
        for name, best in seconds.items():
            print(f"hidden {size:5}  {name:14} {best * 1e3:7.1f} ms  {best / reference:5.2f}")


def step_seconds(cell: nn.Module, inputs: torch.Tensor) -> float:
    """Return the CPU-seconds of a forward and backward pass."""
    cell.zero_grad()
    inputs.grad = None
    started = time.process_time()
    outputs, _ = cell(inputs)
    outputs.sum().backward()
    return time.process_time() - started


if __name__ == "__main__":
    main()
