"""TokenStore: a corpus tokenized once, on disk, memory-mapped, with the boundaries of its sentences and documents.

Building reads the documents as a stream, encodes them chunk by chunk, and writes what comes back in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import Documents
from bertkit.data.encoding import EncoderSpec, cut_into_chunks, encode_in_order
from bertkit.data.errors import DataError
from bertkit.data.store_files import FORMAT_VERSION, METADATA_FILE, StoreMetadata, array_forms, sync
from bertkit.data.store_writer import StoreWriter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        spec = EncoderSpec.of(tokenizer, arguments)
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
        with _writing_to(stores):
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
            with _writing_to(stores):
                building.mkdir()
                writer = StoreWriter(building, tokenizer, spec)
            num_workers = arguments.num_workers or _num_cores()
            with (
                _writing_to(stores),
                writer,
                closing(encode_in_order(cut_into_chunks(documents), spec, num_workers)) as encoded_chunks,
                tqdm(desc="Tokenizing", total=documents.num_bytes, unit="B", unit_scale=True, disable=quiet) as bar,
            ):
                for encoded in encoded_chunks:
                    writer.append(encoded)
                    bar.update(encoded.num_bytes if bar.total is None else documents.bytes_read - bar.n)
            with _writing_to(stores):
                writer.finish(documents.sources, made_from)
                return _publish(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)  # gone already where the store was published

    def check_made_by(self, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments) -> None:
        """Make sure that a tokenizer is the one the store was made by.

        Raises:
            DataError: it is another.
        """
        if self.metadata.made_from["tokenizer"] != EncoderSpec.of(tokenizer, arguments).fingerprint:
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
        for name, (dtype, length) in array_forms(metadata).items():
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


@contextmanager
def _writing_to(stores: Path) -> Iterator[None]:
    """Turn what goes wrong while a store is written into one line; what goes wrong while text is read is one already."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to {stores}, which keeps tokenized text: {error.strerror or error}; make room there, or name "
            "another folder by data.cache_dir or the environment variable BERTKIT_CACHE"
        ) from error


def _cache_dir(arguments: DataArguments) -> Path:
    return Path(arguments.cache_dir or os.environ.get("BERTKIT_CACHE") or "~/.cache/bertkit").expanduser()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(message: str, quiet: bool) -> None:
    if not quiet:
        print(message, file=sys.stderr)
