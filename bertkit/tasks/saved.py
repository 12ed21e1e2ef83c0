"""Which task a checkpoint was fine-tuned for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertkit.config import ConfigError
from bertkit.tasks import TASKS


def saved_task(recipe: Mapping[str, Any], folder: Path, auto_class: str) -> str:
    """Return which of the `TASKS` a checkpoint was fine-tuned for.

    Args:
        recipe: the one it was trained with; empty where bertkit did not train it.
        folder: the checkpoint.
        auto_class: which head it has; empty for a bag of words, which keeps its recipe.

    Raises:
        ConfigError: none of the tasks has such a head.
    """
    name = recipe.get("task", {}).get("name")
    if name in TASKS:
        return str(name)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    problem = getattr(config, "problem_type", None) or "single_label_classification"
    for name, task in TASKS.items():
        if task.auto_class == auto_class and task.problem_type in (None, problem):
            return name
    raise ConfigError(f"{folder} has the head {auto_class}, which is for none of {', '.join(TASKS)}")
