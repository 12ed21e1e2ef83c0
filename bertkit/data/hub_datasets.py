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
        DataError: a folder with a script, or a dataset of several configurations of which none is named.
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
    return load(path, data_dir=config or _only_configuration(path), revision=_PARQUET_COPY, **settings)


def _only_configuration(path: str) -> str | None:
    """Return the folder of the parquet copy of a dataset's only configuration, None where the copy has no folders."""
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(path, repo_type="dataset", revision=_PARQUET_COPY)
    folders = sorted({file.split("/")[0] for file in files if "/" in file})
    if len(folders) > 1:
        raise DataError(
            f"the dataset {path} has the configurations {', '.join(folders)}; name one, as hub:{path}:{folders[0]}"
        )
    return folders[0] if folders else None
