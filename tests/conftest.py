"""What most tests share: a made-up corpus with something to learn, a tokenizer trained on it, and a cache of their own."""

import os
from pathlib import Path

import hypothesis
import pytest

from tests.corpus import write_corpus

# What a test claims is no matter of milliseconds, which others on the machine decide; nor of luck: a change is judged by the
# same inputs as the one before it. `make test-all` searches among new ones.
hypothesis.settings.register_profile("the same inputs", deadline=None, derandomize=True)
hypothesis.settings.register_profile("new inputs", deadline=None)
hypothesis.settings.load_profile("the same inputs")

# Before torch is imported: tiny tensors gain nothing from threads, and wait for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the tests' tokenized corpora out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real corpora, where there is one."""
    if "BERTKIT_DATA" not in os.environ:
        pytest.skip("BERTKIT_DATA is not set")
    return Path(os.environ["BERTKIT_DATA"]).resolve()


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory) -> Path:
    """The made-up corpus."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.txt")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory, corpus_file) -> Path:
    """A WordPiece tokenizer of 300 tokens for the corpus."""
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.tokenization import TokenizerArguments, save_tokenizer, train_tokenizer

    documents = load_documents(str(corpus_file), DataArguments(train=str(corpus_file)))
    tokenizer = train_tokenizer(documents, TokenizerArguments(vocab_size=300, min_frequency=1), quiet=True)
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def pretrain_options(corpus_file, tokenizer_folder):
    """Return a function: settings -> the command line of a pretraining that takes seconds; None leaves a setting out."""

    def options(output_dir, **settings):
        defaults = {
            "output_dir": output_dir,
            "tokenizer": tokenizer_folder,
            "data.train": corpus_file,
            "data.eval_fraction": 0.1,
            "objective.block_size": 64,
            "model.family": "bert",
            "model.num_hidden_layers": 1,
            "model.hidden_size": 32,
            "model.num_attention_heads": 2,
            "model.intermediate_size": 64,
            "training.train_batch_size": 8,
            "training.max_steps": 6,
            "training.learning_rate": 0.01,
            "quiet": "true",
        }
        chosen = {name: value for name, value in (defaults | settings).items() if value is not None}
        return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]

    return options
