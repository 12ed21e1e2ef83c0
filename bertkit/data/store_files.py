"""The files of a token store: arrays, each in a file of its own, and their sizes, which are written last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT_VERSION = 2
"""Counted up whenever the files, or what is written to them for the same text, change."""

METADATA_FILE = "metadata.json"


@dataclass(frozen=True, kw_only=True)
class StoreMetadata:
    """The sizes of a store and what it was made from."""

    num_documents: int
    num_sentences: int
    num_tokens: int

    num_words: int
    """Words between white space, in the sentences before they were tokenized."""

    num_bytes: int
    """UTF-8 bytes of the sentences before they were tokenized."""

    num_normalised_bytes: int
    """Sum of `TokenStore.sentence_bytes`."""

    num_unknown: int
    """Tokens that are the tokenizer's unknown token."""

    vocab_size: int

    sources: list[str]
    """Files and datasets as they were named when the store was built."""

    made_from: dict[str, Any]
    """Everything that decides what is in the store: fingerprints, settings and the format version."""


def array_forms(metadata: StoreMetadata) -> dict[str, tuple[np.dtype, int]]:
    """Return the type and length of each array of a store."""
    offsets = np.dtype("<i8")
    return {
        "token_ids": (token_dtype(metadata.vocab_size), metadata.num_tokens),
        "sentence_starts": (offsets, metadata.num_sentences + 1),
        "document_starts": (offsets, metadata.num_documents + 1),
        "sentence_bytes": (np.dtype("<u4"), metadata.num_sentences),
        "token_counts": (offsets, metadata.vocab_size),
    }


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest type that holds the ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
