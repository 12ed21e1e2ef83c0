"""`bertkit import`: somebody else's weights -> a checkpoint of bertkit, with the tokenizer that belongs to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bertkit.config import ConfigError, RecipeParser

if TYPE_CHECKING:
    from jsonargparse import Namespace

_CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags:
- bertkit
- elmo
---

# ELMo, imported by bertkit

The layers and the character network of `{weights}`, with the shape that `{options}` says. {parameters:,} parameters. There is
no output layer in such a file, so the model gives vectors and predicts no words.

```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this-folder", trust_remote_code=True)
model = AutoModel.from_pretrained("this-folder", trust_remote_code=True)  # no flag after `import bertkit.models`
batch = tokenizer(["Words stand between spaces , punctuation too ."], padding=True, return_tensors="pt")
layers = model(**batch, output_hidden_states=True).hidden_states  # (batch, words, {hidden_size}) each
```
"""


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("import", description="Make a checkpoint of weights that another program wrote.")
    parser.add_argument("format", type=Literal["elmo"], help="What the files are: elmo, AllenAI's ELMo.")
    parser.add_argument("options", type=str, help="The file of the model's shape; of an ELMo its options.json.")
    parser.add_argument("weights", type=str, help="The file of the weights; of an ELMo its .hdf5.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the checkpoint; it must be new.")
    parser.add_argument("--quiet", type=bool, default=False, help="No lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Import as the command line says.

    Raises:
        ValueError: whatever is wrong with the options or the files, as one line.
    """
    import_checkpoint(build_parser().read(arguments)[0])


def import_checkpoint(options: "Namespace") -> None:
    """Convert the files and write the checkpoint.

    Args:
        options: as `build_parser` reads them.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.hub.allenai_elmo import load_allenai_elmo
    from bertkit.training.checkpointing import written_aside

    folder = Path(options.output)
    if folder.exists():
        raise ConfigError(f"{folder} is there already; give a new folder as --output")
    disable_progress_bar()
    model, tokenizer = load_allenai_elmo(options.options, options.weights)
    card = _CARD.format(
        weights=Path(options.weights).name,
        options=Path(options.options).name,
        parameters=model.num_parameters(),
        hidden_size=model.config.hidden_size,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(folder) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "README.md").write_text(card, encoding="utf-8")
    if not options.quiet:
        print(f"a model of {model.num_parameters():,} parameters is in {folder}; AutoModel and AutoTokenizer load it")
