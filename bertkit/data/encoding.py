"""Text -> token ids, a chunk of about a megabyte at a time, here or in worker processes.

A few chunks are in memory, however large the corpus is. Workers start anew (spawn) and import this module only, so it imports
neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from bertkit.data.arguments import DEFAULT_LANGUAGE, DataArguments, SentenceMode
from bertkit.data.documents import Documents
from bertkit.data.errors import DataError
from bertkit.data.readers import END_OF_DOCUMENT
from bertkit.data.sentences import cut_paragraph, normalise, split_sentences
from bertkit.data.store_files import token_dtype
from bertkit.data.word_ids import Encoded, WordIds, is_word_by_word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK_CHARACTERS = 1 << 20
"""Characters of text that a worker encodes at a time."""

MAX_PARAGRAPH_CHARACTERS = 100_000
"""A longer paragraph is cut at a space: tokenizing takes a hundred times the memory of the longest sentence."""

_SMALL_CORPUS_CHUNKS = 4  # up to here, starting workers takes longer than they save


class Chunk(NamedTuple):
    """About a megabyte of text, cut without regard to documents."""

    paragraphs: list[str]

    document_ends: list[int]
    """How many of the paragraphs lie before the end of each document that ends here."""


class EncodedChunk(NamedTuple):
    """The tokens of a chunk; empty sentences are left out."""

    token_ids: np.ndarray
    """(tokens,) uint16 or uint32."""

    sentence_ends: np.ndarray
    """(sentences,) int64 token offsets in the chunk."""

    document_ends: np.ndarray
    """(documents that end here,) int64 token offsets in the chunk."""

    sentence_bytes: np.ndarray
    """(sentences,) uint32."""

    num_words: int
    num_bytes: int


class EncoderSpec(NamedTuple):
    """What a worker has to know."""

    tokenizer_json: str
    vocab_size: int
    mode: SentenceMode
    language: str

    @property
    def fingerprint(self) -> str:
        """What tells the tokenizer from others."""
        return hashlib.sha256(self.tokenizer_json.encode()).hexdigest()

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments) -> EncoderSpec:
        """Take what matters of a tokenizer and of the settings.

        Raises:
            DataError: the tokenizer has no tokenizer.json.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(f"{type(tokenizer).__name__} is no fast tokenizer; load one that has a tokenizer.json")
        backend = Tokenizer.from_str(backend.to_str())  # a copy
        backend.no_truncation()
        backend.no_padding()
        vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        return cls(backend.to_str(), vocab_size, arguments.sentences, arguments.language or DEFAULT_LANGUAGE)


class _Encoder:
    """Splits and encodes chunks."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._tokenizer = Tokenizer.from_str(spec.tokenizer_json)
        self._tokenizer.encode_special_tokens = True  # a "[MASK]" in the text is text
        self._dtype = token_dtype(spec.vocab_size)
        self._word_ids = WordIds(self._tokenizer, self._dtype) if is_word_by_word(spec.tokenizer_json) else None
        self._mode = spec.mode
        self._language = spec.language

    def encode(self, chunk: Chunk) -> EncodedChunk:
        """Encode a chunk.

        Raises:
            DataError: the tokenizer fails.
        """
        sentences: list[str] = []
        document_ends = []  # in sentences
        start = 0
        for end in chunk.document_ends:
            sentences += split_sentences(chunk.paragraphs[start:end], mode=self._mode, language=self._language)
            document_ends.append(len(sentences))
            start = end
        sentences += split_sentences(chunk.paragraphs[start:], mode=self._mode, language=self._language)
        try:
            token_ids, lengths = self._encode(sentences)
        except Exception as error:  # tokenizers has no narrower class
            raise DataError(f"the tokenizer cannot encode the text near {sentences[0][:60]!r}: {error}") from None
        ends = lengths.cumsum()
        kept = sentences if lengths.all() else [s for s, length in zip(sentences, lengths, strict=True) if length]
        num_words = np.fromiter((len(sentence.split()) for sentence in kept), np.int64, len(kept))
        sentence_bytes = np.fromiter((len(normalise(sentence).encode()) + 1 for sentence in kept), "<u4", len(kept))
        return EncodedChunk(
            token_ids=token_ids,
            sentence_ends=ends[lengths > 0],
            document_ends=np.concatenate([[0], ends])[document_ends],
            sentence_bytes=sentence_bytes,
            num_words=int(num_words.sum()),
            num_bytes=len("".join(kept).encode()),
        )

    def _encode(self, sentences: list[str]) -> Encoded:
        encoded = None if self._word_ids is None else self._word_ids.encode(sentences)
        if encoded is not None:
            return encoded
        encodings = self._tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        flat_ids = chain.from_iterable(encoding.ids for encoding in encodings)
        return Encoded(np.fromiter(flat_ids, self._dtype, int(lengths.sum())), lengths)


def cut_into_chunks(documents: Documents) -> Iterator[Chunk]:
    """Cut the corpus into chunks; where the cuts lie depends on the text alone."""
    chunk = Chunk([], [])
    num_characters = 0
    for paragraph in documents.paragraphs():
        if paragraph is END_OF_DOCUMENT:
            chunk.document_ends.append(len(chunk.paragraphs))
            continue
        for piece in cut_paragraph(paragraph, max_characters=MAX_PARAGRAPH_CHARACTERS):
            chunk.paragraphs.append(piece)
            num_characters += len(piece)
            if num_characters >= CHUNK_CHARACTERS:
                yield chunk
                chunk = Chunk([], [])
                num_characters = 0
    yield chunk


def encode_in_order(chunks: Iterator[Chunk], spec: EncoderSpec, num_workers: int) -> Generator[EncodedChunk]:
    """Encode the chunks here if they are few, else in worker processes, a bounded number at a time."""
    first = list(islice(chunks, _SMALL_CORPUS_CHUNKS + 1))
    chunks = chain(first, chunks)
    if num_workers == 1 or len(first) <= _SMALL_CORPUS_CHUNKS:
        encoder = _Encoder(spec)
        for chunk in chunks:
            with _single_threaded_tokenizers():
                encoded = encoder.encode(chunk)
            yield encoded
        return
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), _start_worker, (spec,))
    in_flight: deque[Future[EncodedChunk]] = deque()
    try:
        for chunk in chunks:
            in_flight.append(pool.submit(_encode_in_worker, chunk))
            if len(in_flight) > 2 * num_workers:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a process that tokenizes was killed (out of memory?) or could not start (a script needs "
            "if __name__ == '__main__' around its calls); lower data.num_workers, 1 starts no process"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker_encoder: _Encoder  # set once in each worker


def _start_worker(spec: EncoderSpec) -> None:
    """Prepare this worker process."""
    global _worker_encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process answers it
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_encoder = _Encoder(spec)


def _encode_in_worker(chunk: Chunk) -> EncodedChunk:
    return _worker_encoder.encode(chunk)


def _exit_with_parent() -> None:
    """Wait for the end of the main process: if it is killed, nobody else ends its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _single_threaded_tokenizers() -> Iterator[None]:
    """Keep the tokenizer's threads from starting: after them, every fork of a data loader brings a warning."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
