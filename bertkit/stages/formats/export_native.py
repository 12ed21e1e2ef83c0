"""What `bertkit export --to native` writes: one of transformers' own classes, the tokenizer, and a short card."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from transformers import PreTrainedTokenizerBase

    from bertkit.hub.native.exporting import Exported

_CARRIED_OVER = ("language", "license", "datasets", "metrics")  # of the checkpoint's own card
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
    with_tokenizer = _write_tokenizer(checkpoint, folder)
    metadata = _metadata(checkpoint, exported)
    card = _CARD.format(
        metadata=metadata,
        native_class=exported.native_class,
        auto_class=exported.auto_class,
        parameters=exported.parameters,
        notes="".join(f" Note: {note}." for note in exported.notes),
        **exported.differences,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    loaded_by = f"{exported.auto_class} and AutoTokenizer load" if with_tokenizer else f"{exported.auto_class} loads"
    return (
        f"{exported.native_class}, which {loaded_by} without bertkit; largest difference of the outputs on a padded batch "
        f"{exported.differences['single']:.1e} ({exported.differences['double']:.1e} in double precision)"
        + "".join(f"; {note}" for note in exported.notes)
        + ("" if with_tokenizer else f"; {checkpoint} has no tokenizer, so none was written")
    )


def _write_tokenizer(checkpoint: Path, folder: Path) -> bool:
    """Write the checkpoint's tokenizer, and make sure that what plain AutoTokenizer loads gives the same ids."""
    import json

    from transformers import AutoTokenizer

    from bertkit.tokenization import load_tokenizer, save_tokenizer

    if not (checkpoint / "tokenizer.json").is_file():
        return False
    tokenizer: Any = load_tokenizer(checkpoint)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "type_vocab_size" not in config:  # a GPT-2 would add the embeddings of the tokens 0 and 1
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    save_tokenizer(tokenizer, folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    for texts in _probes(tokenizer):
        ours, theirs = (dict(candidate(*texts)) for candidate in (tokenizer, loaded))
        if ours != theirs:
            raise ConfigError(
                f"the tokenizer of {checkpoint} gives other ids when AutoTokenizer loads it beside the exported model (for "
                f"{texts[0][:60]!r}); save it as a PreTrainedTokenizerFast"
            )
    return True


def _probes(tokenizer: "PreTrainedTokenizerBase") -> list[tuple[str, ...]]:
    """Make texts and pairs of a tokenizer's own vocabulary, and some that no vocabulary has."""
    ids = range(0, len(tokenizer), max(1, len(tokenizer) // 256))
    words = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    return [(words,), (words.upper(), words[:100]), ("Ünïcödé, 漢字 and 한국어: naïve — 'quotes' 1,234.5 🙂\n\ttabs",)]


def _metadata(checkpoint: Path, exported: "Exported") -> str:
    """Return the head of the card, as YAML; what the checkpoint's own card says of the data stays."""
    import yaml

    from bertkit.hub.cards.model_card import PIPELINE_TAGS

    metadata: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": PIPELINE_TAGS.get(exported.auto_class)}
    card = checkpoint / "README.md"
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    own = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    if isinstance(own, dict):
        metadata |= {name: own[name] for name in _CARRIED_OVER if name in own}
    metadata["tags"] = ["bertkit"]
    return yaml.safe_dump(
        {name: value for name, value in metadata.items() if value}, sort_keys=False, allow_unicode=True
    )
