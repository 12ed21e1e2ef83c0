"""Vectors in one file, which is whole or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

OUTPUT_FORMS = (".parquet", ".npz", ".safetensors")


def save_features(features: np.ndarray, path: str | Path) -> None:
    """Write vectors to a file whose ending says in which form.

    Args:
        features: (texts, features) float32 or float16.
        path: .parquet has a row a text, `row` (its number, from 0) and `features` (a list of fixed size); .npz and
            .safetensors have one array, `features`. Missing folders are made.

    Raises:
        ValueError: another ending, or a place that cannot be written to; a file that was there is as it was.
    """
    path = Path(path)
    form = output_form(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{form}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_array(features, aside, form)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot write {path}: {reason}; give an --output that can be written to") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write_array(features: np.ndarray, path: Path, form: str) -> None:
    if form == ".npz":
        np.savez(path, features=features)
    elif form == ".safetensors":
        from safetensors.numpy import save_file

        save_file({"features": np.ascontiguousarray(features)}, path)
    else:
        import pyarrow
        import pyarrow.parquet

        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
        rows = pyarrow.array(np.arange(len(features)))
        pyarrow.parquet.write_table(pyarrow.table({"row": rows, "features": vectors}), path)


def output_form(path: str | Path) -> str:
    """Return the ending of a file of vectors, in lower case.

    Raises:
        ValueError: it is none of those that `save_features` writes.
    """
    form = Path(path).suffix.lower()
    if form not in OUTPUT_FORMS:
        raise ValueError(
            f"{path}: vectors are not written as {form or 'a file without ending'!r}; give {', '.join(OUTPUT_FORMS)}"
        )
    return form
