"""CPU time of a training step of every recurrent cell, as a multiple of nn.LSTM's at the same size.

    python benchmarks/recurrent_cells.py --hidden_sizes 256 512

One layer, forward and backward over (batch, seq, hidden), one thread; the cells take turns, and each one's best turn counts.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from turns import verdict

from bertkit.models.modeling_lstm_variants import CoupledLstm, PeepholeLstm

GOALS = {"peephole_lstm": 1.3, "coupled_lstm": 1.3}
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
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    milliseconds: dict[str, dict[str, float]] = {}
    for size in arguments.hidden_sizes:
        inputs = torch.randn(arguments.batch_size, arguments.seq_length, size, requires_grad=True)
        cells = {name: build(size) for name, build in CELLS.items()}
        seconds = dict.fromkeys(cells, float("inf"))
        for _ in range(arguments.turns):
            for name, cell in cells.items():
                seconds[name] = min(seconds[name], step_seconds(cell, inputs))
        milliseconds[str(size)] = {name: 1e3 * best for name, best in seconds.items()}
    result = {"rows": arguments.batch_size, "tokens": arguments.seq_length, "milliseconds": milliseconds}
    print(format_table(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def format_table(result: Mapping[str, Any]) -> str:
    """Lay the results out as a Markdown table."""
    rows = ["| cell | width | ms | beside nn.LSTM | goal, at most |", "|---|---:|---:|---:|---:|"]
    for size, cells in result["milliseconds"].items():
        reference = next(iter(cells.values()))
        for name, milliseconds in cells.items():
            ratio = milliseconds / reference
            goal = verdict(ratio, GOALS[name], at_most=True) if name in GOALS else ""
            rows.append(f"| {name} | {size} | {milliseconds:.1f} | **{ratio:.2f} ×** | {goal} |")
    return "\n".join(rows)


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
