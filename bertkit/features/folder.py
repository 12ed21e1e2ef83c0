"""A folder of vectors, read where it lies: shards of an array, memory-mapped, which look like one.

`index.json` is written last. `features-00000.npy` and the following hold the vectors; where these are of words or tokens,
`offsets-00000.npy` says where those of each text of the shard begin and `words-00000.jsonl` what they are of, a list a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import datasets
    import pandas
    import pyarrow

INDEX_FILE = "index.json"
"""Sizes of the whole and of each shard; there once all shards are."""
STARTED_FILE = "made_from.json"
"""What the vectors are made from; there from the beginning."""


def array_file(folder: Path, name: str, shard: int) -> Path:
    """Return the file of an array of a shard.

    Args:
        folder: the folder of vectors.
        name: `features` or `offsets`.
        shard: its number.
    """
    return folder / f"{name}-{shard:05}.npy"


def words_file(folder: Path, shard: int) -> Path:
    """Return the file of the words of a shard.

    Args:
        folder: the folder of vectors.
        shard: its number.
    """
    return folder / f"words-{shard:05}.jsonl"


def read_array(path: Path) -> np.ndarray:
    """Map an array into memory; nothing is read before it is looked at.

    Args:
        path: a .npy file.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array if isinstance(array, np.ndarray) else np.asarray(array)


def open_features(folder: str | Path) -> Features:
    """Open a folder that `bertkit features` has written.

    Args:
        folder: the folder.

    Raises:
        ValueError: it is no such folder, or is not finished.
    """
    return Features(Path(folder).expanduser())


class Features:
    """Vectors in a folder, to be used like an array of numpy: `len`, `shape`, `dtype`, slices, lists of rows, `np.asarray`.

    A row is a text's vector, or a word's or token's, whichever the folder has; then `offsets`, `of_text` and `words`
    tell the texts apart. Memory is needed for what is taken out only, and for a slice within one shard not even for that.

    Args:
        folder: the folder.

    Raises:
        ValueError: see `open_features`.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / INDEX_FILE).is_file():
            if (folder / STARTED_FILE).is_file():
                raise ValueError(f"{folder} is not finished; start the `bertkit features` that began it again")
            raise ValueError(f"{folder} has no {INDEX_FILE}, so it is no folder of vectors")
        self.folder = folder
        self.index: dict[str, Any] = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        """What index.json says: shape, dtype, rows and texts of each shard, and what the vectors are made from."""
        self.shape = (int(self.index["shape"][0]), int(self.index["shape"][1]))
        self.dtype = np.dtype(self.index["dtype"])
        self._starts = np.concatenate([[0], np.cumsum(self.index["rows"], dtype=np.int64)])
        self._text_starts = np.concatenate([[0], np.cumsum(self.index["texts"], dtype=np.int64)])
        self.shards = [read_array(array_file(folder, "features", shard)) for shard in range(len(self.index["rows"]))]
        """The arrays, (rows of the shard, features) each."""

    @property
    def ndim(self) -> int:
        """Number of axes, as of an array."""
        return 2

    @property
    def num_texts(self) -> int:
        """Texts that the vectors are of."""
        return int(self._text_starts[-1])

    @property
    def is_ragged(self) -> bool:
        """Whether a text may have another number of vectors than one."""
        return bool(self.index["made_from"]["level"] != "text")

    @cached_property
    def offsets(self) -> np.ndarray:
        """(texts + 1,) int64: the vectors of text i are the rows `offsets[i]` to `offsets[i + 1]`, the latter excluded."""
        if not self.is_ragged:
            return np.arange(self.num_texts + 1)
        parts = [
            read_array(array_file(self.folder, "offsets", shard))[:-1] + start
            for shard, start in enumerate(self._starts[:-1])
        ]
        return np.concatenate([*parts, self._starts[-1:]])

    def of_text(self, number: int) -> np.ndarray:
        """Return the vectors of a text, (its words or tokens, features).

        Args:
            number: of the text, from 0.
        """
        first, last = self.offsets[range(self.num_texts)[number] + np.array([0, 1])]
        return self[int(first) : int(last)]

    def words(self) -> Iterator[list[str]]:
        """Yield what the vectors of each text are of, text by text.

        Raises:
            ValueError: the vectors are of texts.
        """
        if not self.is_ragged:
            raise ValueError(f"the vectors in {self.folder} are of texts and not of words")
        for shard in range(len(self.shards)):
            with words_file(self.folder, shard).open(encoding="utf-8") as file:
                yield from map(json.loads, file)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for shard in self.shards:
            yield from shard

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            rows, *columns = key
            taken = self[rows]
            return taken[(..., *columns)] if taken.ndim == 1 else taken[(slice(None), *columns)]
        if isinstance(key, int | np.integer):
            row = range(len(self))[int(key)]
            shard = int(np.searchsorted(self._starts, row, side="right")) - 1
            return self.shards[shard][row - self._starts[shard]]
        if isinstance(key, slice):
            first, last, step = key.indices(len(self))
            return self._stretch(first, last) if step == 1 else self._rows(np.arange(first, last, step))
        chosen = np.asarray(key)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask of shape {chosen.shape} for {len(self)} rows")
            chosen = np.flatnonzero(chosen)
        return self._rows(chosen.astype(np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self._stretch(0, len(self))
        return np.array(whole, dtype=dtype, copy=copy)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a column a number, a row a vector.

        Its index is the number of the text; of words and tokens, also the place in it, and the first column, `word`, says what
        the vector is of.
        """
        import pandas

        table = pandas.DataFrame(np.asarray(self))
        if not self.is_ragged:
            return table.rename_axis("text")
        counts = np.diff(self.offsets)
        texts = np.repeat(np.arange(self.num_texts), counts)
        places = np.arange(len(self)) - np.repeat(self.offsets[:-1], counts)
        table.index = pandas.MultiIndex.from_arrays([texts, places], names=["text", "place"])
        table.insert(0, "word", [word for words in self.words() for word in words])
        return table

    def to_dataset(self) -> datasets.Dataset:
        """Return a dataset with a row a text: `features`, and of words and tokens `words`.

        The vectors are not copied: Arrow reads the mapped files.
        """
        import datasets
        import pyarrow

        schema = None
        tables = []
        for shard in range(len(self.shards)):
            table = pyarrow.table(self._columns(shard), schema=schema)
            schema = table.schema
            tables.append(table)
        return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.concat_tables(tables)))

    def _columns(self, shard: int) -> dict[str, pyarrow.Array]:
        import pyarrow

        flat = pyarrow.array(self.shards[shard].reshape(-1))
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, self.shape[1])
        if not self.is_ragged:
            return {"features": vectors}
        offsets = read_array(array_file(self.folder, "offsets", shard))
        with words_file(self.folder, shard).open(encoding="utf-8") as file:
            words = pyarrow.array([json.loads(line) for line in file], type=pyarrow.list_(pyarrow.string()))
        return {
            "words": words,
            "features": pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets), vectors),
        }

    def _stretch(self, first: int, last: int) -> np.ndarray:
        """Return the rows from one on to before another, a view where one shard has them all."""
        parts = []
        for shard, start in zip(self.shards, self._starts, strict=False):
            if start < last and first < start + len(shard):
                parts.append(shard[max(first - start, 0) : last - start])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), dtype=self.dtype)

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in any order, from the end on where negative."""
        outside = rows[(rows < -len(self)) | (rows >= len(self))]
        if outside.size:
            raise IndexError(f"row {outside[0]} is out of range for {len(self)} rows")
        rows = np.where(rows < 0, rows + len(self), rows)
        taken = np.empty((*rows.shape, self.shape[1]), dtype=self.dtype)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            taken[here] = self.shards[shard][rows[here] - self._starts[shard]]
        return taken
