"""Vectors in one file, which is whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

OUTPUT_FORMS = (".parquet", ".npz", ".safetensors")


def save_features(
    features: np.ndarray,
    path: str | Path,
    *,
    offsets: np.ndarray | None = None,
    words: Sequence[Sequence[str]] | None = None,
) -> None:
    """Write vectors to a file whose ending says in which form.

    Args:
        features: (texts, features) float32 or float16; or (all words, features), with `offsets`.
        path: .parquet has a row a text, `row` (its number, from 0) and `features` (a list of fixed size; of words a list of
            these, beside `words`); .npz and .safetensors have the array `features`, and of words `offsets`. Missing folders
            are made.
        offsets: (texts + 1,) int64 where the vectors of each text begin, if a text has several.
        words: what the vectors of each text are of; only parquet keeps it.

    Raises:
        ValueError: another ending, or a place that cannot be written to; a file that was there is as it was.
    """
    path = Path(path)
    form = output_form(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{form}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_arrays(features, offsets, words, aside, form)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot write {path}: {reason}; give an --output that can be written to") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write_arrays(
    features: np.ndarray,
    offsets: np.ndarray | None,
    words: Sequence[Sequence[str]] | None,
    path: Path,
    form: str,
) -> None:
    arrays: dict[str, Any] = {
        "features": np.ascontiguousarray(features),
        **({} if offsets is None else {"offsets": offsets}),
    }
    if form == ".npz":
        np.savez(path, **arrays)
    elif form == ".safetensors":
        from safetensors.numpy import save_file

        save_file(arrays, path)
    else:
        import pyarrow
        import pyarrow.parquet

        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
        if offsets is not None:
            vectors = pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets), vectors)
        columns = {"row": pyarrow.array(np.arange(len(vectors)))}
        if words is not None:
            columns["words"] = pyarrow.array(words, type=pyarrow.list_(pyarrow.string()))
        pyarrow.parquet.write_table(pyarrow.table({**columns, "features": vectors}), path)


def output_form(path: str | Path) -> str:
    """Return the ending of a file of vectors, in lower case; "" for a folder, which has none or ends in a slash.

    Args:
        path: a file or folder; it need not be there.

    Raises:
        ValueError: an ending that is none of those that `save_features` writes.

    >>> output_form("a/vectors.NPZ"), output_form("a/vectors"), output_form("a.b/")
    ('.npz', '', '')
    """
    form = "" if str(path).endswith(("/", os.sep)) else Path(path).suffix.lower()
    if form and form not in OUTPUT_FORMS:
        raise ValueError(
            f"{path}: vectors are not written as {form!r}; give {', '.join(OUTPUT_FORMS)}, or a folder, without ending"
        )
    return form
