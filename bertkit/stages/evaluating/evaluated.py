"""What `bertkit evaluate` is asked about: a checkpoint or a file of vectors, its recipe, and the text it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from jsonargparse import Namespace
    from transformers import PreTrainedTokenizerFast

    from bertkit.data.token_store import TokenStore

FINE_TUNED = "fine-tuned"
"""The kind of a checkpoint that has learned a task."""
TOKENIZER = "tokenizer"
"""The kind of a folder with a tokenizer and no model."""
_PARTS = ("train", "train_target", "eval", "eval_target", "eval_fraction")  # of a recipe's data; here there is one part


@dataclass
class Evaluated:
    """A checkpoint, or a file of vectors, and what is asked of it."""

    options: "Namespace"
    """The command line, as `bertkit evaluate` reads it."""
    folder: Path
    """The checkpoint's folder, or the file."""
    auto_class: str
    """Which head the checkpoint was saved with; AutoModel where it has none, AutoTokenizer for a tokenizer alone."""
    kind: str
    """The objective that such models are pretrained by, `FINE_TUNED`, `TOKENIZER`, `static`, `encoder` or `vectors`."""
    accelerator: "Accelerator"

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The checkpoint's tokenizer."""
        from bertkit.tokenization import load_tokenizer

        return load_tokenizer(self.folder)

    @property
    def quiet(self) -> bool:
        """No progress bar."""
        return self.options.quiet or not self.accelerator.is_main_process

    def recipe(self) -> dict[str, Any]:
        """Return the recipe that the checkpoint was trained with; nothing for one that bertkit did not train."""
        from bertkit.config import load_yaml

        path = self.folder / "recipe.yaml"
        recipe = load_yaml(path) if path.is_file() else {}
        for section, settings in recipe.items():
            if section in ("data", "task", "objective") and not isinstance(settings, dict):
                raise ConfigError(f"{path} is damaged: {section} is {settings!r} and no mapping of settings")
        return recipe

    def settings(self, arguments_class: type, section: str, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fields of `arguments_class` that the recipe or the command line's `data` section gives, the latter first.

        Raises:
            ConfigError: the command line gives one that this kind of checkpoint does not know.
        """
        known = [field.name for field in fields(arguments_class) if field.name not in without]
        chosen = {name: value for name, value in self.recipe().get(section, {}).items() if name in known}
        for name, value in vars(self.options.data).items() if section == "data" else ():
            if value is not None:
                if name not in known:
                    raise ConfigError(f"--data.{name} says nothing to this kind of checkpoint; leave it out")
                chosen[name] = value
        return chosen

    def model(self, auto_class: str) -> Any:
        """Load the checkpoint into a head, in evaluation mode, on the accelerator's device."""
        from bertkit.hub.checkpoints import load_checkpoint

        return load_checkpoint(self.folder, auto_class).to(self.accelerator.device)

    def data(self, data_class: type) -> Any:
        """Return the `data` section by which INPUT, running text or pairs, is read."""
        return data_class(
            **self.settings(data_class, "data", without=_PARTS),
            train=self.options.input,
            **({} if self.options.target is None else {"train_target": self.options.target}),
        )

    def store(self, data_class: type, source: str | None = None) -> "TokenStore":
        """Tokenize INPUT, or another source that is read in the same way."""
        from bertkit.data.splits import build_store

        data = self.data(data_class)
        if source is not None:
            data = replace(data, train=source)
        with self.accelerator.main_process_first():
            return build_store(data, self.tokenizer, quiet=self.quiet)
