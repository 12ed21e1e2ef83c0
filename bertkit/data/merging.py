"""Token stores that several jobs built of parts of a corpus, joined to one."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bertkit.data.errors import DataError
from bertkit.data.store_files import METADATA_FILE, sync
from bertkit.data.token_store import TokenStore

_AT_ONCE = 2**22  # numbers copied at a time: memory stays flat


def merge_stores(parts: Sequence[str | Path], folder: str | Path, *, quiet: bool = False) -> TokenStore:
    """Join stores, in the order given, to the store that one job would have built of the parts one after the other.

    Args:
        parts: folders of the stores, all made by the same tokenizer and cut into sentences in the same way.
        folder: where the joined store goes; must not exist.
        quiet: no progress bar.

    Raises:
        DataError: no parts, a part that is no store or was made otherwise than the first, or a folder that exists.
    """
    stores = [TokenStore.open(part) for part in parts]
    folder = Path(folder)
    if not stores:
        raise DataError("there are no stores to merge; name two or more")
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it, or name another folder to merge into")
    first = stores[0].metadata
    for store in stores[1:]:
        for name, value in first.made_from.items():
            if name != "documents" and store.metadata.made_from.get(name) != value:
                raise DataError(
                    f"{store.path} differs from {stores[0].path} in its {name}, so they make no one store; build both with the "
                    "same tokenizer and settings"
                )
    aside = folder.with_name(f".{folder.name}.merging")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        total = sum(store.metadata.num_tokens for store in stores)
        with tqdm(desc="Merging", total=total, unit=" tokens", unit_scale=True, disable=quiet) as bar:
            _join(stores, aside, bar)
        sizes = [name for name in asdict(first) if name.startswith("num_")]
        metadata = replace(
            first,
            **{name: sum(getattr(store.metadata, name) for store in stores) for name in sizes},
            sources=[source for store in stores for source in store.metadata.sources],
            made_from={**first.made_from, "documents": [store.metadata.made_from["documents"] for store in stores]},
        )
        text = json.dumps(asdict(metadata), indent=2, ensure_ascii=False) + "\n"
        (aside / METADATA_FILE).write_text(text, encoding="utf-8")
        for path in [*aside.iterdir(), aside]:
            sync(path)
        aside.replace(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return TokenStore.open(folder)


def _join(stores: Sequence[TokenStore], folder: Path, bar: tqdm) -> None:
    """Write the arrays of the joined store: ids behind ids, offsets moved by the tokens before them, counts added."""
    with (folder / "token_ids.bin").open("wb") as file:
        for store in stores:
            for start in range(0, len(store.token_ids), _AT_ONCE):
                some = store.token_ids[start : start + _AT_ONCE]
                file.write(some.tobytes())
                bar.update(len(some))
    with (folder / "sentence_bytes.bin").open("wb") as file:
        for store in stores:
            for start in range(0, len(store.sentence_bytes), _AT_ONCE):
                file.write(store.sentence_bytes[start : start + _AT_ONCE].tobytes())
    for name in ("sentence_starts", "document_starts"):
        with (folder / f"{name}.bin").open("wb") as file:
            file.write(np.zeros(1, dtype="<i8").tobytes())
            before = 0
            for store in stores:
                ends = getattr(store, name)[1:]
                for start in range(0, len(ends), _AT_ONCE):
                    file.write((ends[start : start + _AT_ONCE] + before).astype("<i8").tobytes())
                before += store.metadata.num_tokens
    counts = sum(store.token_counts.astype("<i8") for store in stores)
    (folder / "token_counts.bin").write_bytes(np.asarray(counts).tobytes())
