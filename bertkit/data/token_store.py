"""TokenStore: a corpus tokenized once, on disk, memory-mapped, with the boundaries of its sentences and documents.

Building reads the documents as a stream, cuts the stream into chunks of about a megabyte, has worker processes split
and encode the chunks, and writes what comes back in order. So a few chunks are in memory, however large the corpus is.
Workers start anew (spawn) and import this module only, so it imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from bertkit.data.arguments import DataArguments, SentenceMode
from bertkit.data.documents import END_OF_DOCUMENT, DataError, Documents
from bertkit.data.sentences import cut_paragraph, normalise, split_sentences

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_VERSION = 2
"""Counted up whenever the files, or what is written to them for the same text, change."""

CHUNK_CHARACTERS = 1 << 20
"""Characters of text that a worker encodes at a time."""

MAX_PARAGRAPH_CHARACTERS = 100_000
"""A longer paragraph is cut at a space: tokenizing takes a hundred times the memory of the longest sentence."""

_SMALL_CORPUS_CHUNKS = 4  # up to here, starting workers takes longer than they save
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


class TokenStore:
    """A tokenized corpus; the arrays are memory-mapped, read-only, and hold no special tokens.

    Build one by `TokenStore.build`, open one by `TokenStore.open`.

    Args:
        path: folder of the store.
        metadata: its sizes.
        token_ids: (tokens,) uint16, or uint32 where the vocabulary has more than 65,536 entries.
        sentence_starts: (sentences + 1,) int64 token offsets, the last one the number of tokens.
        document_starts: (documents + 1,) int64 token offsets, each the start of a sentence, the last one the number of
            tokens.
        sentence_bytes: (sentences,) uint32, UTF-8 bytes of each sentence, normalised, and one for the space behind it: the
            same for every tokenizer.
        token_counts: (vocab,) int64, how often each token occurs.
    """

    def __init__(
        self,
        path: Path,
        metadata: StoreMetadata,
        *,
        token_ids: np.ndarray,
        sentence_starts: np.ndarray,
        document_starts: np.ndarray,
        sentence_bytes: np.ndarray,
        token_counts: np.ndarray,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.token_ids = token_ids
        self.sentence_starts = sentence_starts
        self.document_starts = document_starts
        self.sentence_bytes = sentence_bytes
        self.token_counts = token_counts

    def __repr__(self) -> str:
        sizes = self.metadata
        return (
            f"TokenStore({sizes.num_documents:,} documents, {sizes.num_sentences:,} sentences, "
            f"{sizes.num_tokens:,} tokens, {self.path})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore.open, (self.path,)  # another process maps the same files; the arrays are not sent

    @property
    def document_lengths(self) -> np.ndarray:
        """(documents,) int64, tokens of each document."""
        return np.diff(self.document_starts)

    @property
    def sentence_lengths(self) -> np.ndarray:
        """(sentences,) int64, tokens of each sentence."""
        return np.diff(self.sentence_starts)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of normalised text that a token stands for, on average."""
        return self.metadata.num_normalised_bytes / self.metadata.num_tokens

    def unigram_entropy(self, *, ends: int = 0) -> float:
        """Return the entropy of `token_counts` in nats: the loss of a model that knows only how frequent tokens are.

        Args:
            ends: how often a special token, which the store does not hold, must be predicted beside them.
        """
        return entropy(np.append(self.token_counts, ends))

    @classmethod
    def build(
        cls, documents: Documents, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments, *, quiet: bool = False
    ) -> TokenStore:
        """Tokenize the documents, or open the store that was made of the same text by the same tokenizer before.

        The store appears under its name when it is whole, so one that was interrupted is never taken for a whole one,
        and several processes may build the same at once. It is the same to the byte for any number of workers.

        Args:
            documents: the corpus.
            tokenizer: a fast tokenizer; text that spells a special token is encoded like any other text.
            arguments: how to split sentences, how many workers to use and which folder to keep stores in.
            quiet: whether to show no progress.

        Raises:
            DataError: if the corpus cannot be read or tokenized, or has no token.
        """
        spec = _EncoderSpec.of(tokenizer, arguments)
        made_from = {
            "documents": documents.fingerprint(),
            "tokenizer": spec.fingerprint,
            "unk_token_id": tokenizer.unk_token_id,
            "sentences": spec.mode,
            "splitter": [spec.language, version("sentencex")] if spec.mode == "split" else None,
            "format_version": FORMAT_VERSION,
        }
        key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
        stores = _cache_dir(arguments) / "stores"
        stores.mkdir(parents=True, exist_ok=True)
        folder = stores / key
        if folder.exists():
            try:
                store = cls.open(folder)
            except DataError as error:
                _say(f"{error}; it is built anew", quiet)
            else:
                _say(f"Reusing the tokenized text in {folder} ({store.metadata.num_tokens:,} tokens)", quiet)
                return store

        _remove_dead_builds(stores)
        building = stores / f"{key}.building-{socket.gethostname()}-{os.getpid()}"
        try:
            building.mkdir()
            writer = _StoreWriter(building, tokenizer, spec)
            num_workers = arguments.num_workers or _num_cores()
            with (
                writer,
                closing(_encode_in_order(_chunks(documents), spec, num_workers)) as encoded_chunks,
                tqdm(desc="Tokenizing", total=documents.num_bytes, unit="B", unit_scale=True, disable=quiet) as bar,
            ):
                for encoded in encoded_chunks:
                    writer.append(encoded)
                    bar.update(encoded.num_bytes if bar.total is None else documents.bytes_read - bar.n)
            writer.finish(documents.sources, made_from)
            return _publish(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)  # gone already where the store was published

    def check_made_by(self, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments) -> None:
        """Make sure that a tokenizer is the one the store was made by.

        Raises:
            DataError: it is another.
        """
        if self.metadata.made_from["tokenizer"] != _EncoderSpec.of(tokenizer, arguments).fingerprint:
            raise DataError(
                f"the token store {self.path} was made by another tokenizer than {tokenizer.name_or_path}; name that one, or "
                "build the store anew"
            )

    @classmethod
    def open(cls, path: str | Path) -> TokenStore:
        """Map the store in a folder.

        Raises:
            DataError: if there is none, if it is of another version, or if a file has not the size it should have.
        """
        path = Path(path)
        try:
            written = json.loads((path / METADATA_FILE).read_text(encoding="utf-8"))
            format_version = written["made_from"]["format_version"]
            metadata = StoreMetadata(**written) if format_version == FORMAT_VERSION else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no token store: its {METADATA_FILE} cannot be read ({error!r})") from None
        if metadata is None:
            raise DataError(f"the token store {path} has format {format_version}, not {FORMAT_VERSION}; build it anew")
        arrays = {}
        for name, (dtype, length) in _array_forms(metadata).items():
            file = path / f"{name}.bin"
            size = file.stat().st_size if file.is_file() else 0
            if size != dtype.itemsize * length:
                raise DataError(
                    f"the token store {path} is damaged: {file.name} has {size} bytes, not {dtype.itemsize * length}; "
                    "delete the folder and build it anew"
                )
            arrays[name] = np.memmap(file, dtype, "r", shape=(length,))
        return cls(path, metadata, **arrays)


def entropy(counts: np.ndarray) -> float:
    """Return the entropy of a distribution in nats.

    Args:
        counts: (kinds,) how often each occurs; not all 0.

    >>> round(entropy(np.array([2, 0, 2])), 4)
    0.6931
    """
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _array_forms(metadata: StoreMetadata) -> dict[str, tuple[np.dtype, int]]:
    """Return the type and length of each array of a store."""
    offsets = np.dtype("<i8")
    return {
        "token_ids": (_token_dtype(metadata.vocab_size), metadata.num_tokens),
        "sentence_starts": (offsets, metadata.num_sentences + 1),
        "document_starts": (offsets, metadata.num_documents + 1),
        "sentence_bytes": (np.dtype("<u4"), metadata.num_sentences),
        "token_counts": (offsets, metadata.vocab_size),
    }


def _token_dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class _Chunk(NamedTuple):
    """About a megabyte of text, cut without regard to documents."""

    paragraphs: list[str]

    document_ends: list[int]
    """How many of the paragraphs lie before the end of each document that ends here."""


class _EncodedChunk(NamedTuple):
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


class _EncoderSpec(NamedTuple):
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
    def of(cls, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments) -> _EncoderSpec:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(f"{type(tokenizer).__name__} is no fast tokenizer; load one that has a tokenizer.json")
        backend = Tokenizer.from_str(backend.to_str())  # a copy
        backend.no_truncation()
        backend.no_padding()
        vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        return cls(backend.to_str(), vocab_size, arguments.sentences, arguments.language)


class _Encoder:
    """Splits and encodes chunks."""

    def __init__(self, spec: _EncoderSpec) -> None:
        self._tokenizer = Tokenizer.from_str(spec.tokenizer_json)
        self._tokenizer.encode_special_tokens = True  # a "[MASK]" in the text is text
        self._dtype = _token_dtype(spec.vocab_size)
        self._mode = spec.mode
        self._language = spec.language

    def encode(self, chunk: _Chunk) -> _EncodedChunk:
        sentences: list[str] = []
        document_ends = []  # in sentences
        start = 0
        for end in chunk.document_ends:
            sentences += split_sentences(chunk.paragraphs[start:end], mode=self._mode, language=self._language)
            document_ends.append(len(sentences))
            start = end
        sentences += split_sentences(chunk.paragraphs[start:], mode=self._mode, language=self._language)
        try:
            encodings = self._tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
        except Exception as error:  # tokenizers has no narrower class
            raise DataError(f"the tokenizer cannot encode the text near {sentences[0][:60]!r}: {error}") from None
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        ends = lengths.cumsum()
        num_tokens = int(lengths.sum())
        flat_ids = chain.from_iterable(encoding.ids for encoding in encodings)
        kept = sentences if lengths.all() else [s for s, length in zip(sentences, lengths, strict=True) if length]
        num_words = np.fromiter((len(sentence.split()) for sentence in kept), np.int64, len(kept))
        sentence_bytes = np.fromiter((len(normalise(sentence).encode()) + 1 for sentence in kept), "<u4", len(kept))
        return _EncodedChunk(
            token_ids=np.fromiter(flat_ids, self._dtype, num_tokens),
            sentence_ends=ends[lengths > 0],
            document_ends=np.concatenate([[0], ends])[document_ends],
            sentence_bytes=sentence_bytes,
            num_words=int(num_words.sum()),
            num_bytes=len("".join(kept).encode()),
        )


def _chunks(documents: Documents) -> Iterator[_Chunk]:
    """Cut the corpus into chunks; where the cuts lie depends on the text alone."""
    chunk = _Chunk([], [])
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
                chunk = _Chunk([], [])
                num_characters = 0
    yield chunk


def _encode_in_order(chunks: Iterator[_Chunk], spec: _EncoderSpec, num_workers: int) -> Generator[_EncodedChunk]:
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
    in_flight: deque[Future[_EncodedChunk]] = deque()
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


def _start_worker(spec: _EncoderSpec) -> None:
    """Prepare this worker process."""
    global _worker_encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process answers it
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_encoder = _Encoder(spec)


def _encode_in_worker(chunk: _Chunk) -> _EncodedChunk:
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


class _StoreWriter:
    """Writes encoded chunks to the files of a store.

    Args:
        folder: an empty folder.
        tokenizer: names the special tokens, none of which may occur.
        spec: tells the vocabulary's size.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, spec: _EncoderSpec) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._vocab_size = spec.vocab_size
        self._forbidden_ids = [id for id in tokenizer.all_special_ids if id != tokenizer.unk_token_id]
        self._token_counts = np.zeros(spec.vocab_size, dtype="<i8")
        self._num_tokens = self._num_sentences = self._num_documents = self._num_words = self._num_bytes = 0
        self._num_normalised_bytes = 0
        self._last_document_end = 0

    def __enter__(self) -> _StoreWriter:
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

    def append(self, encoded: _EncodedChunk) -> None:
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


def _publish(building: Path, folder: Path) -> TokenStore:
    """Give a finished store its name, unless another process was faster, and open the one that has it."""
    try:
        os.replace(building, folder)
    except OSError:
        if not folder.exists():
            raise
        try:
            return TokenStore.open(folder)
        except DataError:  # a damaged store is in the way
            shutil.rmtree(folder)
            os.replace(building, folder)
    sync(folder.parent)
    return TokenStore.open(folder)


def _remove_dead_builds(stores: Path) -> None:
    """Remove what builds left behind that were killed on this machine."""
    for leftover in stores.glob(f"*.building-{socket.gethostname()}-*"):
        pid = int(leftover.name.rpartition("-")[2])
        if pid == os.getpid() or not _is_running(pid):
            shutil.rmtree(leftover, ignore_errors=True)  # another process may be removing it, too


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is another user's
        return True
    return True


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cache_dir(arguments: DataArguments) -> Path:
    return Path(arguments.cache_dir or os.environ.get("BERTKIT_CACHE") or "~/.cache/bertkit").expanduser()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(message: str, quiet: bool) -> None:
    if not quiet:
        print(message, file=sys.stderr)
