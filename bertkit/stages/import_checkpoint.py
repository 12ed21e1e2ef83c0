"""`bertkit import`: somebody else's weights -> a checkpoint of bertkit, with the tokenizer that belongs to it."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bertkit.config import ConfigError, RecipeParser, choose

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Format(NamedTuple):
    """What can be imported."""

    module: str
    """Has a function `read(files, options)` that returns an `Imported`."""
    files: tuple[str, ...]
    """What is given, in this order."""


FORMATS = {
    "native": Format(
        "bertkit.stages.formats.import_native", ("a folder or Hub name of a BERT, GPT-2, OpenAI GPT or Marian",)
    ),
    "elmo": Format("bertkit.stages.formats.import_elmo", ("AllenAI's options.json", "its weights.hdf5")),
    "word2vec": Format(
        "bertkit.stages.formats.import_vectors", ("a file of vectors, text or binary, perhaps gzipped",)
    ),
    "glove": Format("bertkit.stages.formats.import_vectors", ("a file of vectors, perhaps gzipped",)),
}
"""Name -> what is read."""


@dataclass(frozen=True)
class Imported:
    """What becomes a checkpoint."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase | None"
    card: str
    """Text of the model card."""
    said: str = ""
    """What is printed beside its size."""


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("import", description="Make a checkpoint of weights that another program wrote.")
    formats = "; ".join(f"{name}: {' and '.join(form.files)}" for name, form in FORMATS.items())
    parser.add_argument("format", type=str, help=f"What the files are. {formats}.")
    parser.add_argument("files", type=str, nargs="+", help="The files, folder or Hub name of the format.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the checkpoint; it must be new.")
    parser.add_argument(
        "--auto_class",
        type=str | None,
        default=None,
        help="Of native: which head, by its Auto class; null is that of the checkpoint, AutoModel leaves it out.",
    )
    parser.add_argument(
        "--tokenizer",
        type=str | None,
        default=None,
        help="Of native: folder or Hub name of its tokenizer; null is that of the checkpoint, none imports the model alone.",
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Import as the command line says.

    Raises:
        ValueError: whatever is wrong with the options or the files, as one line.
    """
    import_checkpoint(build_parser().read(arguments)[0])


def import_checkpoint(options: "Namespace") -> None:
    """Convert the files and write the checkpoint, whole or not at all.

    Args:
        options: as `build_parser` reads them.
    """
    form = choose("format", options.format, FORMATS)
    if len(options.files) != len(form.files):
        raise ConfigError(
            f"bertkit import {options.format} takes {' and '.join(form.files)}, and was given {len(options.files)}: "
            f"{', '.join(options.files)}"
        )
    for name in ("auto_class", "tokenizer"):
        if options.format != "native" and options[name] is not None:
            raise ConfigError(f"--{name} is for bertkit import native; leave it out")
    folder = Path(options.output)
    if folder.exists():
        raise ConfigError(f"{folder} is there already; give a new folder as --output")

    from transformers.utils.logging import disable_progress_bar

    from bertkit.tokenization import save_tokenizer
    from bertkit.training.checkpointing import written_aside

    disable_progress_bar()
    imported: Imported = importlib.import_module(form.module).read(options.files, options)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(folder) as aside:
        imported.model.save_pretrained(aside)
        if imported.tokenizer is not None:
            save_tokenizer(imported.tokenizer, aside)
        (aside / "README.md").write_text(imported.card, encoding="utf-8")
    if not options.quiet:
        loaded_by = "AutoModel and AutoTokenizer load it" if imported.tokenizer is not None else "it has no tokenizer"
        print(f"a model of {imported.model.num_parameters():,} parameters is in {folder}; {loaded_by}{imported.said}")
