"""Vectors of words in memory, and the files that word2vec and GloVe keep them in.

Three forms, each also compressed by gzip where the file's name ends in `.gz`:

- `word2vec`: a first line `words width`, then a line `word number number ...` each (Mikolov et al. 2013);
- `word2vec_binary`: the same first line, then each word, a space, and its numbers as little-endian float32;
- `glove`: the lines of the first form without its first line (Pennington et al. 2014).

Reading needs no word of the form, and no gensim: what is wrong with a file is said with the line it stands in.
"""

import gzip
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast, get_args

import numpy as np

from bertkit.data.errors import DataError, read_errors

logger = logging.getLogger(__name__)

VectorForm: TypeAlias = Literal["word2vec", "word2vec_binary", "glove"]

_ROWS_AT_ONCE = 4096  # rows that are held beside the matrix while a file is read or written
_LONGEST_WORD = 4096  # bytes; a binary file whose next space is further away is none, or is damaged
_SPACES = frozenset(" \t\r\n\v\f")
_TEXT = frozenset(b"\t\r") | frozenset(range(0x20, 0x7F))


class WordVectors:
    """Words and their vectors.

    Args:
        words: distinct words, by convention the most frequent first.
        vectors: (words, width) float32.

    Raises:
        ValueError: a word stands there twice, or there are not as many vectors as words.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray) -> None:
        self.words = list(words)
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.index = {word: row for row, word in enumerate(self.words)}
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise ValueError(f"{len(self.words)} words need as many vectors, and these are {self.vectors.shape}")
        if len(self.index) < len(self.words):
            twice = next(word for row, word in enumerate(self.words) if self.index[word] != row)
            raise ValueError(f"the word {twice!r} is there twice; give each one vector")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def __getitem__(self, word: str) -> np.ndarray:
        """Return the (width,) vector of exactly this word."""
        return self.vectors[self.index[word]]

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.vectors.shape[1]

    def row_of(self, word: str) -> int | None:
        """Return the row of a word, or else of the word in lower case; None where neither is known.

        Args:
            word: as a text, a test set or a vocabulary spells it.

        >>> vectors = WordVectors(["us", "US", "paris"], np.eye(3))
        >>> [vectors.row_of(word) for word in ("US", "us", "Paris", "Rome")]
        [1, 0, 2, None]
        """
        row = self.index.get(word)
        return self.index.get(word.lower()) if row is None else row

    def normalised(self) -> np.ndarray:
        """Return the vectors (words, width) at length 1, zero vectors as they are: their products are cosines."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.where(lengths == 0, 1, lengths)

    def save(self, path: str | Path, form: VectorForm = "word2vec") -> None:
        """Write a file that `load` reads back to the bit, and gensim and other programs read, too.

        Args:
            path: the file; one that ends in .gz is compressed.
            form: word2vec, word2vec_binary or glove.

        Raises:
            ValueError: another form, a word that holds white space, or a number that is not finite.
        """
        if form not in get_args(VectorForm):
            raise ValueError(f"unknown form of vectors {form!r}; choose from {', '.join(get_args(VectorForm))}")
        for word in self.words:
            if not word or not _SPACES.isdisjoint(word):
                raise ValueError(f"the word {word!r} is empty or holds white space, which no form of vectors can say")
        if not np.isfinite(self.vectors).all():
            raise ValueError(f"some vectors hold numbers that are not finite; {path} is not written")
        with _writing(Path(path)) as file:
            if form != "glove":
                file.write(f"{len(self)} {self.width}\n".encode())
            for row in _lines(self, binary=form == "word2vec_binary"):
                file.write(row)

    @classmethod
    def load(cls, path: str | Path) -> "WordVectors":
        """Read a file of vectors in any of the three forms, which its beginning tells.

        A word that stands there more than once has its first vector.

        Args:
            path: the file; one that begins as gzip does is decompressed.

        Raises:
            DataError: it cannot be read, or is no such file; with the line where something is wrong.
        """
        path = Path(path)
        with read_errors(path), _reading(path) as file:
            first = file.readline()
            header = _header(first)
            if header is None:
                lines = _text_rows(path, _chain(first, file), width=None, first_line=1)
                words, vectors = _collect(path, lines, None)
            else:
                count, width = header
                if not width:
                    raise DataError(f"{path}, line 1: vectors of 0 numbers; write the file anew")
                binary = _is_binary(file, width)
                rows = _binary_rows(path, file, count, width) if binary else _text_rows(path, file, width, first_line=2)
                words, vectors = _collect(path, rows, count)
        return cls(words, vectors)


_Rows: TypeAlias = Iterator[tuple[bytes, np.ndarray]]


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, through gzip where its name says so."""
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
        yield cast("BinaryIO", file)


@contextmanager
def _reading(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read, through gzip where its first bytes say so."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if compressed else path.open("rb") as file:
        yield io.BufferedReader(cast("io.RawIOBase", file), 1 << 20)


def _lines(vectors: WordVectors, *, binary: bool) -> Iterator[bytes]:
    numbers = " ".join(["%.9g"] * vectors.width)  # nine digits tell any float32 from its neighbours
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = vectors.vectors[start : start + _ROWS_AT_ONCE]
        words = vectors.words[start : start + _ROWS_AT_ONCE]
        if binary:
            for word, row in zip(words, rows.astype("<f4"), strict=True):
                yield word.encode() + b" " + row.tobytes() + b"\n"
        else:
            for word, row in zip(words, rows.tolist(), strict=True):
                yield f"{word} {numbers % tuple(row)}\n".encode()


def _header(line: bytes) -> tuple[int, int] | None:
    """Return (words, width) of a first line that says them; None for one that is a word's.

    >>> _header(b"3 50\\n"), _header(b"the 0.5\\n"), _header(b"the 1 2\\n")
    ((3, 50), None, None)
    """
    parts = line.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _is_binary(file: io.BufferedReader, width: int) -> bool:
    """Tell from what lies behind the first line whether numbers are written as bytes or as text."""
    some = file.peek(1 << 16)
    numbers = some.lstrip(b"\n").partition(b" ")[2].partition(b"\n")[0][: 4 * width]
    return bool(some) and not all(byte in _TEXT for byte in numbers or b"\0")


def _chain(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    if first:
        yield first
    yield from file


def _text_rows(path: Path, lines: Iterable[bytes], width: int | None, *, first_line: int) -> _Rows:
    for number, line in enumerate(lines, first_line):
        line = line.rstrip(b" \r\n")
        if not line:
            continue
        if width is None:
            width = len(line.split(b" ")) - 1
            if not width:
                raise DataError(f"{path}, line {number}: {_shown(line)} has no numbers; this is no file of vectors")
        word, *numbers = line.rsplit(b" ", width)  # from the right: some files hold words with spaces
        try:
            row = np.array(numbers, dtype=np.float32) if len(numbers) == width else None
        except ValueError:
            row = None
        if row is None or not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: a word and {width} numbers should stand here, not {_shown(line)}")
        yield word, row


def _binary_rows(path: Path, file: BinaryIO, count: int, width: int) -> _Rows:
    size = 4 * width
    held, start = b"", 0
    for row in range(count):
        while (space := held.find(b" ", start)) < 0 or len(held) < space + 1 + size:
            more = file.read(max(1 << 22, size))
            if not more or (space < 0 and len(held) - start > _LONGEST_WORD):
                raise DataError(
                    f"{path} breaks off in word {row + 1:,} of the {count:,} that its first line says; copy it again"
                )
            held, start = held[start:] + more, 0
        numbers = np.frombuffer(held, "<f4", width, space + 1)
        if not np.isfinite(numbers).all():
            raise DataError(f"{path}: the vector of word {row + 1:,} holds a number that is not finite; copy it again")
        yield held[start:space].lstrip(b"\n"), numbers
        start = space + 1 + size
    if held[start:].strip(b"\n") or file.read(1).strip(b"\n"):
        raise DataError(f"{path} holds more than the {count:,} words that its first line says; write it anew")


def _collect(path: Path, rows: _Rows, count: int | None) -> tuple[list[str], np.ndarray]:
    """Return the words and their (words, width) vectors, each word once."""
    words: dict[str, None] = {}
    blocks: list[np.ndarray] = []
    block: list[np.ndarray] = []
    read = 0
    for written, row in rows:
        read += 1
        try:
            word = written.decode()
        except UnicodeDecodeError:
            raise DataError(f"{path}: word {read:,}, {_shown(written)}, is not UTF-8; write the file anew") from None
        if word in words:
            continue
        words[word] = None
        block.append(row)
        if len(block) == _ROWS_AT_ONCE:
            blocks.append(np.stack(block))
            block = []
    if count is not None and read != count:
        raise DataError(f"{path}: its first line says {count:,} words, and it holds {read:,}; copy or write it again")
    if not words:
        raise DataError(f"{path} holds no vectors; give a file of word2vec's or GloVe's")
    if len(words) < read:
        logger.warning("%s holds %d words more than once; the first vector of each counts", path, read - len(words))
    return list(words), np.concatenate([*blocks, *([np.stack(block)] if block else [])])


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
