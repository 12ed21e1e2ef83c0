"""Which heads a checkpoint holds the weights of, and so may be exported with."""

from pathlib import Path

from bertkit.hub.checkpoints import saved_auto_class
from bertkit.hub.native.architecture import BASE

# What a checkpoint may be exported as beside what it was saved as, because it has the weights.
_CONTAINED = {"AutoModelForPreTraining": ("AutoModelForMaskedLM", "AutoModelForNextSentencePrediction")}


def contained_head(folder: Path, auto_class: str | None = None) -> str:
    """Return the head that a checkpoint is exported with, by its Auto class.

    Args:
        folder: a checkpoint folder.
        auto_class: what was asked for; None: the head it was saved with. "AutoModel" leaves the head out.

    Raises:
        ValueError: the checkpoint has no weights of it, or does not say what it holds.
    """
    saved = saved_auto_class(folder)
    if saved is None:
        raise ValueError(f"{folder} does not say what class its model is of; save it again with save_pretrained")
    auto_class = auto_class or saved
    contained = (saved, BASE, *_CONTAINED.get(saved, ()))
    if auto_class not in contained:
        raise ValueError(
            f"{folder} holds an {saved} and no weights of an {auto_class}; choose from {', '.join(dict.fromkeys(contained))}"
        )
    return auto_class
