"""Encoded chunks -> the files of a token store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertkit.data.encoding import EncodedChunk, EncoderSpec
from bertkit.data.errors import DataError
from bertkit.data.store_files import METADATA_FILE, StoreMetadata, sync

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class StoreWriter:
    """Writes encoded chunks to the files of a store.

    Args:
        folder: an empty folder.
        tokenizer: names the special tokens, none of which may occur.
        spec: tells the vocabulary's size.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, spec: EncoderSpec) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._vocab_size = spec.vocab_size
        self._forbidden_ids = [id for id in tokenizer.all_special_ids if id != tokenizer.unk_token_id]
        self._token_counts = np.zeros(spec.vocab_size, dtype="<i8")
        self._num_tokens = self._num_sentences = self._num_documents = self._num_words = self._num_bytes = 0
        self._num_normalised_bytes = 0
        self._last_document_end = 0

    def __enter__(self) -> StoreWriter:
        self._token_ids = (self._folder / "token_ids.bin").open("wb")
        self._sentence_starts = (self._folder / "sentence_starts.bin").open("wb")
        self._document_starts = (self._folder / "document_starts.bin").open("wb")
        self._sentence_bytes = (self._folder / "sentence_bytes.bin").open("wb")
        for file in (self._sentence_starts, self._document_starts):
            file.write(np.zeros(1, dtype="<i8").tobytes())
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._token_ids, self._sentence_starts, self._document_starts, self._sentence_bytes):
            file.close()

    def append(self, encoded: EncodedChunk) -> None:
        """Write a chunk behind those before it.

        Raises:
            DataError: the text holds a special token.
        """
        self._token_counts += np.bincount(encoded.token_ids, minlength=self._vocab_size)
        for forbidden_id in self._forbidden_ids:
            if self._token_counts[forbidden_id]:
                token = self._tokenizer.convert_ids_to_tokens(forbidden_id)
                raise DataError(f"the text holds {token}, which the tokenizer takes for its special token; remove it")
        # A document without tokens ends where the one before it ended.
        document_ends = np.unique(self._num_tokens + encoded.document_ends)
        document_ends = document_ends[document_ends > self._last_document_end].astype("<i8")
        if len(document_ends):
            self._last_document_end = int(document_ends[-1])
        self._token_ids.write(encoded.token_ids.tobytes())
        self._sentence_starts.write((self._num_tokens + encoded.sentence_ends).astype("<i8").tobytes())
        self._document_starts.write(document_ends.tobytes())
        self._sentence_bytes.write(encoded.sentence_bytes.tobytes())
        self._num_tokens += len(encoded.token_ids)
        self._num_sentences += len(encoded.sentence_ends)
        self._num_documents += len(document_ends)
        self._num_words += encoded.num_words
        self._num_bytes += encoded.num_bytes
        self._num_normalised_bytes += int(encoded.sentence_bytes.sum(dtype=np.int64))

    def finish(self, sources: list[str], made_from: dict[str, Any]) -> None:
        """Bring everything to the disk, the metadata last."""
        if self._num_tokens == 0:
            raise DataError(f"the tokenizer makes no token of the text in {', '.join(sources)}")
        (self._folder / "token_counts.bin").write_bytes(self._token_counts.tobytes())
        for file in self._folder.iterdir():
            sync(file)
        unk_token_id = self._tokenizer.unk_token_id
        metadata = StoreMetadata(
            num_documents=self._num_documents,
            num_sentences=self._num_sentences,
            num_tokens=self._num_tokens,
            num_words=self._num_words,
            num_bytes=self._num_bytes,
            num_normalised_bytes=self._num_normalised_bytes,
            num_unknown=0 if unk_token_id is None else int(self._token_counts[unk_token_id]),
            vocab_size=self._vocab_size,
            sources=sources,
            made_from=made_from,
        )
        path = self._folder / METADATA_FILE
        path.write_text(json.dumps(asdict(metadata), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(path)
        sync(self._folder)
