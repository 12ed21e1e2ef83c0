"""How far what onnxruntime computes of a graph is from what a checkpoint computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch

from bertkit.hub.native.comparing import is_of_example


class Expected(NamedTuple):
    """A batch, and a checkpoint's outputs."""

    batch: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """Load a graph to run on one core of the CPU.

    Args:
        path: of the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def largest_difference(graph: onnxruntime.InferenceSession, expected: Sequence[Expected], auto_class: str) -> float:
    """Compare all outputs on all batches, at padding excepted.

    Args:
        graph: whose outputs have the names of those expected, and their order.
        expected: what the checkpoint computes.
        auto_class: which head both have.
    """
    largest = 0.0
    for batch, outputs in expected:
        is_token = batch["attention_mask"].numpy() != 0
        computed = graph.run(list(outputs), {name: tensor.numpy() for name, tensor in batch.items()})
        for (name, ours), theirs in zip(outputs.items(), computed, strict=True):
            difference = np.abs(ours.numpy() - theirs)
            if not is_of_example(name, auto_class):
                difference = difference[is_token]
            largest = float(np.maximum(largest, difference.max()))  # not a number, if that is among them
    return largest
