"""A graph with weights of eight bits, whose products are of integers: what it saves and what it costs, measured."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from bertkit.hub.onnx.comparing import Expected, largest_difference, open_graph

_ROUNDS, _SECONDS_A_ROUND = 5, 0.1


@dataclass(frozen=True)
class QuantisedOnnx:
    """What was written, beside the graph it was written from."""

    sizes: tuple[int, int]
    """Bytes, before and after."""
    difference: float
    """Largest difference of the outputs from the checkpoint's."""
    largest: float
    """Largest of the checkpoint's outputs, in absolute value."""
    cpu_time: float
    """CPU time of a batch, in parts of that of the graph it was written from."""


def quantise_onnx(graph: Path, quantised: Path, expected: Sequence[Expected], auto_class: str) -> QuantisedOnnx:
    """Write a graph with weights in eight bits, a scale for each channel; activations get theirs when it runs.

    Args:
        graph: an exported graph.
        quantised: file to write.
        expected: batches with the checkpoint's outputs.
        auto_class: which head it has.
    """
    # Weights take seven of the bits: processors with AVX2 alone add up products of two in 16 bits, which eight overflow.
    logging.disable(logging.WARNING)  # it recommends a preparation that leaves these graphs as they are
    try:
        quantize_dynamic(graph, quantised, per_channel=True, weight_type=QuantType.QInt8, reduce_range=True)
    finally:
        logging.disable(logging.NOTSET)
    before, after = open_graph(graph), open_graph(quantised)
    return QuantisedOnnx(
        sizes=(size_of(graph), size_of(quantised)),
        difference=largest_difference(after, expected, auto_class),
        largest=max(float(tensor.abs().max()) for each in expected for tensor in each.outputs.values()),
        cpu_time=cpu_time(after, before, expected[-1]),
    )


def size_of(graph: Path) -> int:
    """Return the bytes of a graph, with those of the file of weights that a large one has beside it."""
    return sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))


def cpu_time(one: onnxruntime.InferenceSession, other: onnxruntime.InferenceSession, expected: Expected) -> float:
    """Measure the CPU time of one graph in parts of that of another, each running in turn: the median of five rounds.

    Args:
        one: a graph.
        other: a graph with the same inputs.
        expected: its batch is read.
    """
    batch = {name: tensor.numpy() for name, tensor in expected.batch.items()}

    def seconds(graph: onnxruntime.InferenceSession, times: int) -> float:
        start = time.process_time()
        for _ in range(times):
            graph.run(None, batch)
        return time.process_time() - start

    seconds(other, 1)
    times = max(1, round(_SECONDS_A_ROUND / max(seconds(one, 2) / 2, 1e-6)))
    return float(np.median([seconds(one, times) / max(seconds(other, times), 1e-9) for _ in range(_ROUNDS)]))
