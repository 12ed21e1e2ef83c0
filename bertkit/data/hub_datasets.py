"""Datasets of the library `datasets`, also those of the Hub that were made for versions of it that ran scripts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertkit.data.errors import DataError

_PARQUET_COPY = "refs/convert/parquet"
"""The branch on which the Hub keeps a dataset as parquet files, in a folder for each configuration."""


def open_dataset(load: Callable[..., Any], path: str, config: str | None, **settings: Any) -> Any:
    """Call a loader of `datasets`; of a dataset with a script, which the library no longer runs, for the Hub's parquet copy.

    Args:
        load: `datasets.load_dataset` or `load_dataset_builder`.
        path: a name on the Hub, or a folder.
        config: the configuration, where one is named.
        settings: what else the loader takes.

    Raises:
        DataError: a folder with a script.
    """
    try:
        return load(path, config, **settings)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        if Path(path).is_dir():
            raise DataError(
                f"the dataset {path} is read by a script, which `datasets` no longer runs; write it as parquet files"
            ) from error
    return load(path, data_dir=config, revision=_PARQUET_COPY, **settings)
