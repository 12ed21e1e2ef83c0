"""A small corpus of made-up lengths, and a tokenizer that is only its special tokens."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

VOCAB_SIZE = 1000


class SpecialTokens(SimpleNamespace):
    """What an objective asks of a tokenizer; every third token continues a word."""

    def __len__(self):
        return VOCAB_SIZE

    def convert_ids_to_tokens(self, ids):
        return [f"##{i}" if i > 4 and i % 3 == 0 else f"{i}" for i in ids]


@pytest.fixture
def tokenizer():
    return SpecialTokens(
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        bos_token_id=None, eos_token_id=None, pad_token_id=0, cls_token_id=2, sep_token_id=3, mask_token_id=4,
        all_special_ids=[0, 1, 2, 3, 4], name_or_path="made-up",
    )  # fmt: skip


class Corpus(SimpleNamespace):
    """What an objective asks of a TokenStore, and itself alone, as a store is."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def corpus(sentences_per_document, mean_sentence=25, seed=0):
    """Return a store-like corpus whose tokens are random, with a given number of sentences in each document."""
    random = np.random.default_rng(seed)
    sentences = np.maximum(random.poisson(mean_sentence, int(np.sum(sentences_per_document))), 1)
    sentence_starts = np.concatenate([[0], np.cumsum(sentences)])
    document_starts = sentence_starts[np.concatenate([[0], np.cumsum(sentences_per_document)])]
    sizes = {"num_documents": len(sentences_per_document), "num_sentences": len(sentences)}
    token_ids = random.integers(5, VOCAB_SIZE, sentence_starts[-1]).astype(np.uint16)
    return Corpus(
        path=Path("made-up"),
        metadata=SimpleNamespace(sources=["made up"], **sizes),
        token_ids=token_ids,
        token_counts=np.bincount(token_ids, minlength=VOCAB_SIZE),
        sentence_bytes=random.integers(1, 100, len(sentences)).astype(np.uint32),
        sentence_starts=sentence_starts,
        document_starts=document_starts,
        bytes_per_token=4.0,
        unigram_entropy=lambda ends=0: 6.9,
    )


@pytest.fixture(scope="session")
def make_corpus():
    return corpus


@pytest.fixture(scope="session")
def corpora():
    return {
        "books": corpus(np.random.default_rng(1).integers(50, 300, 300)),
        "paragraphs": corpus(np.random.default_rng(2).integers(2, 9, 6000)),
        "lines": corpus(np.ones(30_000, dtype=int)),
    }
