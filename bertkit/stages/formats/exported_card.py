"""The head of an exported checkpoint's card: what the Hub indexes."""

from pathlib import Path
from typing import Any

_CARRIED_OVER = ("language", "license", "datasets", "metrics")  # of the checkpoint's own card


def card_metadata(checkpoint: Path, library: str, auto_class: str, pipeline_tag: str | None = None) -> str:
    """Return the metadata as YAML; what the checkpoint's own card says of the data stays.

    Args:
        checkpoint: a checkpoint folder.
        library: what loads the export, as the Hub calls it.
        auto_class: which head was exported.
        pipeline_tag: what it is for, as the Hub calls it; None: what such heads are for.
    """
    import yaml

    from bertkit.hub.cards.model_card import PIPELINE_TAGS

    metadata: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": pipeline_tag or PIPELINE_TAGS.get(auto_class),
    }
    card = checkpoint / "README.md"
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    own = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    if isinstance(own, dict):
        metadata |= {name: own[name] for name in _CARRIED_OVER if name in own}
    metadata["tags"] = ["bertkit"]
    return yaml.safe_dump(
        {name: value for name, value in metadata.items() if value}, sort_keys=False, allow_unicode=True
    )
