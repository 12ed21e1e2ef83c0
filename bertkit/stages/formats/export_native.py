"""What `bertkit export --to native` writes: one of transformers' own classes, the tokenizer, and a short card."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.stages.formats.exported_card import card_metadata
from bertkit.stages.formats.exported_tokenizer import load_checkpoint_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from jsonargparse import Namespace

_CARD = """---
{metadata}---

# {native_class}, exported from bertkit

A model of bertkit, as transformers' own `{native_class}`: it needs no code but transformers'. {parameters:,} parameters. On a
padded batch of random tokens its outputs and those of the checkpoint differ by at most {single:.1e} in single precision and
{double:.1e} in double precision.{notes}

```python
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this-folder")
model = {auto_class}.from_pretrained("this-folder")
```
"""


def write(checkpoint: Path, folder: Path, options: "Namespace") -> str:
    """Write a checkpoint as one of transformers' own classes.

    Args:
        checkpoint: a checkpoint of bertkit.
        folder: an empty folder.
        options: of `bertkit export`.

    Returns:
        What was written, and how far it is from the checkpoint.

    Raises:
        ValueError: transformers has no class that computes the same, or tokenizers differ.
    """
    from bertkit.hub.native.exporting import export_native

    exported = export_native(checkpoint, folder, options.auto_class)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # A GPT-2 would add the embeddings of the tokens 0 and 1.
    tokenizer = load_checkpoint_tokenizer(checkpoint)
    write_tokenizer(
        tokenizer,
        folder,
        with_segments="type_vocab_size" in config,
        max_length=exported.max_length,
        padding_side=exported.padding_side,
    )
    card = _CARD.format(
        metadata=card_metadata(checkpoint, "transformers", exported.auto_class),
        native_class=exported.native_class,
        auto_class=exported.auto_class,
        parameters=exported.parameters,
        notes="".join(f" Note: {note}." for note in exported.notes),
        **exported.differences,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    loaded_by = (
        f"{exported.auto_class} and AutoTokenizer load" if tokenizer is not None else f"{exported.auto_class} loads"
    )
    return (
        f"{exported.native_class}, which {loaded_by} without bertkit; largest difference of the outputs on a padded batch "
        f"{exported.differences['single']:.1e} ({exported.differences['double']:.1e} in double precision)"
        + "".join(f"; {note}" for note in exported.notes)
        + ("" if tokenizer is not None else f"; {checkpoint} has no tokenizer, so none was written")
    )
