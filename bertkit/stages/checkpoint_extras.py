"""What a checkpoint of a verb holds beside the model and the state: tokenizer, recipe and model card."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from bertkit.hub.cards.model_card import ModelCard
    from bertkit.training.checkpointing import TrainerState


def extras_writer(tokenizer: "PreTrainedTokenizerBase", card: "ModelCard") -> "Callable[[Path, TrainerState], None]":
    """Return the function by which the Trainer writes them into a checkpoint's folder.

    Args:
        tokenizer: what the model's inputs come from.
        card: knows the recipe, too.
    """
    from bertkit.hub.cards.logged_losses import LoggedLosses
    from bertkit.tokenization import save_tokenizer
    from bertkit.training.run_log import FILE_NAME as LOG

    def write_extras(folder: Path, state: "TrainerState") -> None:
        save_tokenizer(tokenizer, folder)
        recipe = _as_trained(card.recipe, state)
        (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
        losses = LoggedLosses.read(folder.parent / LOG, up_to=state.global_step)
        text = replace(card, recipe=recipe).render(state, losses, has_picture=losses.draw(folder))
        (folder / "README.md").write_text(text, encoding="utf-8")

    return write_extras


def _as_trained(recipe: str, state: "TrainerState") -> str:
    """Return a recipe with the learning rate that was found, where it says to find one."""
    import yaml

    content = yaml.safe_load(recipe)
    if state.found_learning_rate is None or content["training"]["learning_rate"] != "find":
        return recipe
    content["training"]["learning_rate"] = state.found_learning_rate
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
