"""A tiny pretrained checkpoint, and a made-up task that it can learn: is there more praise than blame?"""

import random

import pytest
import torch

from bertkit.models import build_config, build_model
from bertkit.tokenization import TokenizerArguments, save_tokenizer, train_tokenizer

PRAISE = ["good", "great", "fine", "lovely", "brave"]
BLAME = ["bad", "awful", "poor", "dreadful", "dull"]
NEUTRAL = ["film", "actor", "story", "scene", "the", "a", "was", "is", "and", "very"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Save a tiny BERT with its tokenizer, as pretraining would."""
    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(
        [(PRAISE + BLAME + NEUTRAL) * 3], TokenizerArguments(vocab_size=150, min_frequency=1), quiet=True
    )
    torch.manual_seed(0)
    config = build_config(
        "bert",
        "tiny",
        vocab_size=len(tokenizer),
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    build_model(config, "AutoModelForPreTraining").save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    """Write train, eval and test files of `label text` lines; return their paths by part."""
    folder, generator = tmp_path_factory.mktemp("reviews"), random.Random(0)
    paths = {}
    for part, count in (("train", 120), ("eval", 30), ("test", 25)):
        lines = []
        for _ in range(count):
            label = generator.choice(["pos", "neg"])
            words = generator.choices(PRAISE if label == "pos" else BLAME, k=2) + generator.choices(NEUTRAL, k=6)
            generator.shuffle(words)
            lines.append(f"{label} {' '.join(words[: generator.randint(7, 8)])}\n")
        paths[part] = folder / f"{part}.txt"
        paths[part].write_text("".join(lines))
    return paths
