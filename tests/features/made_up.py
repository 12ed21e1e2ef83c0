"""Made-up texts of unlike lengths, and small models of every family that reads one text."""

import random

import torch

from bertkit.models import FAMILIES, build_config, build_model

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "tree",
    "house",
    "and",
    "then",
    "slowly",
    "again",
]
FAMILIES_OF_ONE_TEXT = [name for name, family in FAMILIES.items() if not family.config_class().is_encoder_decoder]
_SIZES = {
    "hidden_size": 32,
    "embedding_size": 24,
    "cell_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def ragged_texts(count, longest=30, seed=0):
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, longest))) for _ in range(count)]


def small_model(family, vocab_size, **settings):
    """A base model with weights large enough for every part to show."""
    torch.manual_seed(0)
    fields = FAMILIES[family].config_class.__annotations__
    sizes = {name: value for name, value in {**_SIZES, **settings}.items() if name in fields}
    return build_model(build_config(family, vocab_size=vocab_size, **sizes, initializer_range=0.2), "AutoModel").eval()
