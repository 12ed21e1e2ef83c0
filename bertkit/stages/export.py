"""`bertkit export`: a checkpoint -> a folder that another program reads, without bertkit."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertkit.config import ConfigError, RecipeParser, choose

if TYPE_CHECKING:
    from jsonargparse import Namespace


class Target(NamedTuple):
    """What can be exported to."""

    module: str
    """Has a function `write(checkpoint, folder, options)`, which fills an empty folder and returns a line to print."""
    reads_it: str
    """Who reads it, for the help."""
    options: tuple[str, ...]
    """Which of `OPTIONS` it takes."""
    needs: tuple[str, ...] = ()
    """Packages that the extra of its name installs."""


TARGETS = {
    "native": Target(
        "bertkit.stages.formats.export_native",
        "transformers' own BERT, GPT-2, OpenAI GPT or Marian classes",
        ("auto_class",),
    ),
    "onnx": Target(
        "bertkit.stages.formats.export_onnx",
        "onnxruntime",
        ("auto_class", "int8"),
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "sentence-transformers": Target(
        "bertkit.stages.formats.export_sentence_transformers",
        "SentenceTransformer",
        ("pooling", "normalize"),
        ("sentence_transformers",),
    ),
}
"""Name -> what is written."""

OPTIONS: dict[str, tuple[Any, str]] = {
    "auto_class": (
        str | None,
        "Which head, by its Auto class; null is that of the checkpoint, AutoModel leaves it out.",
    ),
    "int8": (
        bool | None,
        "Write a graph with weights of eight bits too, and measure what it saves and what it costs.",
    ),
    "pooling": (
        str | None,
        "How a text's token states become its vector, as `bertkit features --pooling` says: mean (if null), cls, max or last.",
    ),
    "normalize": (bool | None, "Vectors of length 1."),
}
"""Options that not all targets take: type and help."""


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("export", description="Write a checkpoint as another program reads it.")
    parser.add_argument("checkpoint", type=str, help="Folder of the checkpoint, or its name on the Hub.")
    targets = "; ".join(f"{name}, for {target.reads_it}" for name, target in TARGETS.items())
    parser.add_argument("--to", type=str, required=True, help=f"What is written: {targets}.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the export; it must be new.")
    for option, (kind, meaning) in OPTIONS.items():
        of = ", ".join(name for name, target in TARGETS.items() if option in target.options)
        parser.add_argument(f"--{option}", type=kind, default=None, help=f"{meaning} (--to {of})")
    parser.add_argument("--quiet", type=bool, default=False, help="No lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Export as the command line says.

    Raises:
        ValueError: whatever is wrong with the options or the checkpoint, as one line.
    """
    export(build_parser().read(arguments)[0])


def export(options: "Namespace") -> None:
    """Write the export, whole or not at all.

    Args:
        options: as `build_parser` reads them.
    """
    target = choose("--to", options.to, TARGETS)
    for option in OPTIONS:
        if getattr(options, option) is not None and option not in target.options:
            raise ConfigError(f"--{option} says nothing to --to {options.to}; leave it out")
    missing = [package for package in target.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"--to {options.to} needs {', '.join(missing)}; pip install 'bertkit[{options.to}]'")
    folder = Path(options.output)
    if folder.exists():
        raise ConfigError(f"{folder} is there already; give a new folder as --output")

    from transformers.utils.logging import disable_progress_bar

    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.training.checkpointing import written_aside

    checkpoint = checkpoint_folder(options.checkpoint)
    disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(folder) as aside, _without_load_reports():
        said = importlib.import_module(target.module).write(checkpoint, aside, options)
    if not options.quiet:
        print(f"{folder}: {said}")


@contextmanager
def _without_load_reports() -> Iterator[None]:
    """Keep back transformers' tables of weights that are left out or missing: outputs are compared before anything is kept."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
