"""What a checkpoint of a verb holds beside the model and the state: tokenizer, recipe and model card."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from bertkit.hub.model_card import ModelCard
    from bertkit.training.checkpointing import TrainerState


def extras_writer(tokenizer: "PreTrainedTokenizerBase", card: "ModelCard") -> "Callable[[Path, TrainerState], None]":
    """Return the function by which the Trainer writes them into a checkpoint's folder.

    Args:
        tokenizer: what the model's inputs come from.
        card: knows the recipe, too.
    """
    from bertkit.tokenization import save_tokenizer

    def write_extras(folder: Path, state: "TrainerState") -> None:
        save_tokenizer(tokenizer, folder)
        (folder / "recipe.yaml").write_text(card.recipe, encoding="utf-8")
        (folder / "README.md").write_text(card.render(state), encoding="utf-8")

    return write_extras
