"""Compares a checkpoint of AllenAI's ELMo with the vectors that AllenAI's own program gave for some texts.

    bertkit import elmo FOLDER/options.json FOLDER/lm_weights.hdf5 --output elmo
    python examples/golden_elmo.py elmo FOLDER

FOLDER is AllenNLP's test fixture `elmo` (`lm_embeddings_sentences.json` and `lm_embeddings_0.hdf5` to `_2.hdf5`): three texts
of ten sentences, and the top layer's vectors. That program goes on from the state that the sentence before has left; what
comes out without a state, as everywhere in bertkit, is compared, too.
"""

import argparse
import json
from pathlib import Path

import h5py
import torch
from transformers import AutoModel, AutoTokenizer

import bertkit.models  # noqa: F401  (the Auto classes know its architectures)


def main() -> None:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("fixture", type=Path)
    arguments = parser.parse_args()
    with_state, without_state = largest_differences(arguments.checkpoint, arguments.fixture)
    print(f"maximum difference with the state handed on: {with_state:.1e}; without: {without_state:.1e}")


def largest_differences(checkpoint: Path, fixture: Path) -> tuple[float, float]:
    """Return by how much the checkpoint's vectors differ from the fixture's at most, with the state handed on and without.

    Raises:
        ValueError: a sentence has another number of words than vectors.
    """
    model, tokenizer = AutoModel.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    texts = json.loads((fixture / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))
    golden = [read_vectors(fixture / f"lm_embeddings_{number}.hdf5") for number in range(len(texts))]
    state, with_state, without_state = None, 0.0, 0.0
    for number, sentences in enumerate(zip(*texts, strict=True)):  # sentence after sentence, a text a row
        inputs = tokenizer(list(sentences), padding=True, return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**inputs, past_key_values=state, use_cache=True)
            alone = model(**inputs).last_hidden_state
        state = outputs.past_key_values
        for row, vectors in enumerate(golden):
            expected = torch.cat([*vectors[number]], dim=-1)  # (words, hidden): forward and backward
            words = int(inputs["attention_mask"][row].sum()) - 2
            if words != len(expected):
                raise ValueError(f"sentence {number} of text {row} has {words} words and {len(expected)} vectors")
            inner = slice(1, 1 + words)  # without <S> and </S>
            with_state = max(with_state, (outputs.last_hidden_state[row, inner] - expected).abs().max().item())
            without_state = max(without_state, (alone[row, inner] - expected).abs().max().item())
    return with_state, without_state


def read_vectors(path: Path) -> list[torch.Tensor]:
    """Return the top layer's vectors of each sentence, (2 directions, words, hidden / 2)."""
    with h5py.File(path) as file:
        return [torch.from_numpy(file[str(number)][()]) for number in range(len(file))]


if __name__ == "__main__":
    main()
