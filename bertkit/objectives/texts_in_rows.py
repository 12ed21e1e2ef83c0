"""What the objectives share that predict texts, each between the tokens that begin and end it, in rows."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bertkit.data.health import Finding
from bertkit.data.token_store import TokenStore


def document_bounds(store: TokenStore, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say where the documents begin and end that spans are cut from.

    Args:
        store: the corpus.
        starts: (spans,) token offset of each span in it.

    Returns:
        The token offsets of their documents' beginnings and ends, (spans,) each.
    """
    document = np.searchsorted(store.document_starts, starts, side="right") - 1
    return store.document_starts[document], store.document_starts[document + 1]


class TextsInRows:
    """The part of an objective that does not depend on what is predicted from what."""

    bos_token_id: int
    eos_token_id: int

    @property
    def config_settings(self) -> dict[str, Any]:
        """Which tokens begin and end a text."""
        return {"bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id}

    def num_tokens(self, batch: Mapping[str, Any]) -> int:
        """Return the real tokens of a batch, special ones included."""
        return int(batch["attention_mask"].sum())

    def checks(self, store: TokenStore) -> list[Finding]:
        """Return nothing: any text will do."""
        return []

    def bits_of_a_nat(self, store: TokenStore) -> float:
        """Return what a nat a token, the ends of documents among them, is in bits a byte of the text."""
        tokens = len(store.token_ids)
        return (tokens + store.metadata.num_documents) / (tokens * store.bytes_per_token) / math.log(2)

    def loss_floor(self, store: TokenStore) -> float:
        """Return the unigram entropy of the text and the ends of its documents, in nats."""
        return store.unigram_entropy(ends=store.metadata.num_documents)
