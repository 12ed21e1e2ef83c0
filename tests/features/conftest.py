"""A tokenizer for the made-up texts, and a checkpoint of each family."""

import pytest

from bertkit.tokenization import TokenizerArguments, save_tokenizer, train_tokenizer
from tests.features.made_up import ragged_texts, small_model


@pytest.fixture(scope="session")
def tokenizer():
    arguments = TokenizerArguments(vocab_size=200, min_frequency=1)
    return train_tokenizer([ragged_texts(20, seed=1)], arguments, quiet=True)


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory, tokenizer):
    """Return a function: family -> the folder of a small base model."""
    folders = {}

    def folder(family):
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            small_model(family, len(tokenizer)).save_pretrained(folders[family])
            save_tokenizer(tokenizer, folders[family])
        return folders[family]

    return folder
