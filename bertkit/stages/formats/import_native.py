"""What `bertkit import native` reads: a checkpoint of transformers' own BERT, GPT-2, OpenAI GPT or Marian."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError
from bertkit.stages.import_checkpoint import Imported

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from transformers import PreTrainedTokenizerBase

_CARD = """---
library_name: transformers
{pipeline}tags:
- bertkit
---

# {name}, imported by bertkit

transformers' `{native_class}`, as a model of bertkit's family `{family}`. {parameters:,} parameters. On a padded batch of
random tokens the outputs of both differ by at most {single:.1e} in single precision and {double:.1e} in double precision.

## Loading

{loading}
"""


def read(files: Sequence[str], options: "Namespace") -> Imported:
    """Read a checkpoint, and compare the model with what transformers makes of it.

    Args:
        files: the folder of the checkpoint, or its name on the Hub.
        options: of `bertkit import`.

    Raises:
        ValueError: another architecture, a setting that the family does not have, a tokenizer that is not fast, or another
            result.
    """
    from bertkit.hub.cards.model_card import PIPELINE_TAGS, loading
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.hub.native.importing import import_native
    from bertkit.tokenization import pad_on

    (name,) = files
    folder = checkpoint_folder(name)
    tokenizer = _tokenizer(options.tokenizer, folder)
    model, native_class, differences = import_native(folder, options.auto_class)
    config: Any = model.config
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} has {len(tokenizer):,} tokens, but the model of {name} knows "
            f"{config.vocab_size:,}; give the one it was trained with as --tokenizer"
        )
    auto_class = _auto_class(model)
    if tokenizer is not None and auto_class == "AutoModelForCausalLM":
        pad_on(tokenizer, "left")  # our positions follow the mask, and what is generated the last token
    tag = PIPELINE_TAGS.get(auto_class)
    card = _CARD.format(
        name=folder.name if folder == Path(name).expanduser() else name,
        native_class=native_class.__name__,
        pipeline=f"pipeline_tag: {tag}\n" if tag else "",
        loading=loading(auto_class, tag),
        family=config.model_type.removeprefix("bertkit-"),
        parameters=model.num_parameters(),
        **differences,
    )
    said = (
        f"; largest difference of its outputs from transformers' {native_class.__name__} on a padded batch "
        f"{differences['single']:.1e} ({differences['double']:.1e} in double precision)"
    )
    return Imported(model, tokenizer, card, said)


def _auto_class(model: Any) -> str:
    from bertkit.models import FAMILIES, family_of

    classes = FAMILIES[str(family_of(model.config))].auto_classes
    return next(name for name, model_class in classes.items() if model_class is type(model))


def _tokenizer(wanted: str | None, folder: Path) -> "PreTrainedTokenizerBase | None":
    from bertkit.tokenization import load_tokenizer, pad_by_end

    if wanted == "none":
        return None
    try:
        tokenizer = load_tokenizer(wanted or folder)
    except ValueError as error:
        raise ConfigError(
            f"{error}; or give --tokenizer a folder of a fast one with the same ids, or --tokenizer none for the model alone"
        ) from error
    pad_by_end(tokenizer)  # many tasks pad
    return tokenizer
