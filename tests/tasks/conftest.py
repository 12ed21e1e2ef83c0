"""A small tokenizer, and a made-up task that a tiny model can learn."""

import pytest

from bertkit.tasks.labelled_data import LabelledText
from bertkit.tokenization import TokenizerArguments, train_tokenizer

PRAISE_AND_BLAME = ["good", "great", "fine", "lovely", "bad", "awful", "poor", "dreadful"]
WORDS = [*PRAISE_AND_BLAME, "film", "actor", "story", "scene", "the", "a", "was", "is", "and", "very"]


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([WORDS * 3], TokenizerArguments(vocab_size=150, min_frequency=1), quiet=True)


@pytest.fixture
def examples():
    """Texts of many lengths with three labels."""
    texts = [" ".join(WORDS[(start + 5 * step) % len(WORDS)] for step in range(1 + start % 13)) for start in range(45)]
    return [
        LabelledText(text, None, ["no", "yes", "perhaps"][number % 3], f"row {number}")
        for number, text in enumerate(texts)
    ]
