"""What is no longer the recipe of the checkpoint that a run goes on from: said, for the run's end depends on it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bertkit.data.health import Finding

_OF_NO_CONSEQUENCE = (
    *("output_dir", "quiet", "training.resume_from_checkpoint"),
    *("training.push_to_hub", "training.hub_private", "training.hub_checkpoint", "training.hub_license"),
)


def check_recipe(checkpoint: Path, resolved: str) -> list[Finding]:
    """Compare the recipe that a run goes on by with that of its checkpoint.

    Args:
        checkpoint: where the run goes on from; one that holds no recipe is compared with none.
        resolved: the recipe, as YAML.
    """
    path = checkpoint / "recipe.yaml"
    if not path.is_file():
        return []
    now, before = (_flat(yaml.safe_load(text)) for text in (resolved, path.read_text(encoding="utf-8")))
    changed = [
        f"{key} {_shown(now.get(key))} (was {_shown(before.get(key))})"
        for key in {**now, **before}
        if key not in _OF_NO_CONSEQUENCE
        and now.get(key) != before.get(key)
        and (key, now.get(key)) != ("training.learning_rate", "find")  # the checkpoint's was found, and is kept
    ]
    if not changed:
        return []
    return [
        Finding(
            "warning", "recipe", f"not that of {checkpoint}: {', '.join(changed)}", "the run goes on by the new one"
        )
    ]


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of nested sections by their dotted names.

    >>> _flat({"model": {"family": "bert"}, "quiet": False})
    {'model.family': 'bert', 'quiet': False}
    """
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
