"""Checkpoints as a user names them, a folder or a name on the Hub, loaded into bertkit's classes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What is read of a repository on the Hub: vocabularies too, of tokenizers older than tokenizer.json.
_FILES = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "recipe.yaml"]


def checkpoint_folder(name: str) -> Path:
    """Return the folder of a checkpoint, downloaded if it lies on the Hub.

    Args:
        name: a checkpoint's folder, or its name on the Hub; after an @ may follow the revision, as in owner/name@tokens-12M.

    Raises:
        ConfigError: there is no such checkpoint, or the folder holds a run and not a checkpoint.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return local_checkpoint(name)
    # A misspelt path is no name on the Hub, whose look-up takes long without a connection.
    if (
        folder.is_absolute()
        or name.startswith(".")
        or len(folder.parts) > 2
        or (name.count("/") and folder.parent.is_dir())
    ):
        raise ConfigError(f"there is no checkpoint folder {name}")
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"there is no folder {name}, and no checkpoint of that name came from the Hub: {reason}"
        ) from error


def local_checkpoint(name: str | Path) -> Path:
    """Return the folder of a checkpoint that lies here.

    Args:
        name: the folder.

    Raises:
        ConfigError: there is no such folder, or it holds a run and not a checkpoint.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"there is no checkpoint folder {name}")
    if (folder / "config.json").is_file():
        return folder
    checkpoints = sorted(path.parent for pattern in ("", "*/") for path in folder.glob(f"{pattern}best/config.json"))
    instead = f"; it is a run's, name a checkpoint of it, as {checkpoints[0]}" if checkpoints else ""
    raise ConfigError(f"{name} has no config.json, so it is no checkpoint{instead}")


def saved_auto_class(folder: Path) -> str | None:
    """Return the Auto class whose model a checkpoint holds ("AutoModelForMaskedLM"), None for one that is not known.

    Args:
        folder: a checkpoint folder.
    """
    from bertkit.hub.native import ARCHITECTURES
    from bertkit.hub.native.loading import native_auto_class
    from bertkit.models import FAMILIES

    config = read_config(folder)
    if native := ARCHITECTURES.get(config.get("model_type", "")):
        return native_auto_class(native, config)
    names = {cls.__name__: name for family in FAMILIES.values() for name, cls in family.auto_classes.items()}
    return names.get((config.get("architectures") or [""])[0])


def saved_family(folder: Path) -> str | None:
    """Return the family of bertkit that a checkpoint's model is of, None for one that is of none.

    Args:
        folder: a checkpoint folder.
    """
    from bertkit.hub.native import ARCHITECTURES
    from bertkit.models import FAMILIES

    names = {family.config_class.model_type: name for name, family in FAMILIES.items()}
    natives = {model_type: architecture.family for model_type, architecture in ARCHITECTURES.items()}
    return {**names, **natives}.get(read_config(folder).get("model_type", ""))


def load_checkpoint(folder: Path, auto_class: str, **settings: Any) -> "PreTrainedModel":
    """Load a checkpoint of bertkit, or of an architecture of transformers that computes the same, into a class of bertkit.

    Args:
        folder: a checkpoint folder.
        auto_class: which head, by its Auto class.
        settings: fields of the configuration that shall differ from the checkpoint's, as dropout, or the weights' dtype.

    Returns:
        The model, in evaluation mode; parts without weights in the checkpoint are drawn from torch's random stream.

    Raises:
        ConfigError: the architecture is neither a family of bertkit nor the counterpart of one, or a file is damaged.
    """
    from safetensors import SafetensorError

    from bertkit.hub.native import ARCHITECTURES
    from bertkit.hub.native.loading import load_native
    from bertkit.models import FAMILIES, load_model

    model_type = read_config(folder).get("model_type")
    known = [*(family.config_class.model_type for family in FAMILIES.values()), *ARCHITECTURES]
    if model_type not in known:
        raise ConfigError(f"{folder} holds a model of type {model_type!r}; what can be read is {', '.join(known)}")
    try:
        if model_type in ARCHITECTURES:
            return load_native(folder, auto_class, **settings)
        return load_model(folder, auto_class, **settings)
    except SafetensorError as error:
        raise ConfigError(
            f"the weights in {folder} are damaged ({error}); copy or train the checkpoint again"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json, and nothing that it names.

    Args:
        folder: a checkpoint folder.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}; copy or train the checkpoint again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged: it holds {type(content).__name__} and no mapping")
    return content
