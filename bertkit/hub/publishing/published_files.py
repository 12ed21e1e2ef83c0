"""What of a checkpoint goes to the Hub: weights, code, tokenizer, card and recipe, and nothing that is this machine's own."""

import contextlib
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from bertkit.config import ConfigError
from bertkit.hub.privacy import find_private, shareable_card, shareable_recipe, shareable_settings

WEIGHTS = ".safetensors"
PLACEHOLDER = "this-folder"
"""What model cards call the checkpoint that they belong to."""
_TEXTS = (".json", ".py", ".md", ".yaml", ".txt", ".jinja")
_BINARIES = (WEIGHTS, ".png", ".model")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "vectors.txt")
_NAMES = ("LICENSE", "NOTICE", "vectors.bin")
_LEFT_OUT = ("state", "__pycache__")
"""Folders that are never published: what a training goes on from, and what Python leaves behind."""
_OF_A_CHECKPOINT = (
    *("config.json", "generation_config.json", "adapter_config.json", "recipe.yaml"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.spm", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
    *("modeling_*.py", "configuration_*.py", "tokenization_*.py"),
)
"""What transformers, peft and bertkit read of a checkpoint besides its weights, by the name alone."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PIECE = 1_000_000  # bytes of text searched at once
_LONGEST_HEADER = 100_000_000  # bytes; the format allows no more


def published_files(folder: Path, *, name: str) -> tuple[dict[str, Path | bytes], list[str]]:
    """Choose the files of a checkpoint that are published, and take local paths out of recipe, card and settings.

    Args:
        folder: the checkpoint.
        name: of the repository, which the card then names.

    Returns:
        Path in the repository -> the file, or what takes its place; and the files that are left out besides the state.

    Raises:
        ConfigError: no safetensors weights, or a file that holds something private or that cannot be read.
    """
    chosen: dict[str, Path | bytes] = {}
    others: list[str] = []
    names = _names_on_the_hub(folder / "README.md")
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part in _LEFT_OUT or part.startswith(".") for part in parts):
            continue
        place = "/".join(parts)
        if path.suffix in (*_TEXTS, *_BINARIES) or path.name in _NAMES:
            chosen[place] = _shareable(path, folder, name, names)
            _refuse_private(path, chosen[place])
        else:
            others.append(place)
    if not any(place.endswith(WEIGHTS) for place in chosen):
        pickles = [place for place in others if place.endswith(PICKLES)]
        which = f", only {pickles[0]}, a pickle, whose loading can run code" if pickles else ""
        raise ConfigError(f"{folder} holds no {WEIGHTS} weights{which}; give a checkpoint as bertkit writes it")
    return chosen, others


def belongs_to_checkpoint(place: str) -> bool:
    """Return whether a file of a repository is read with a checkpoint, by its name; cards, licenses and a user's own are not.

    Args:
        place: path in the repository.

    >>> belongs_to_checkpoint("adapter/adapter_config.json"), belongs_to_checkpoint("onnx/config.json")
    (True, False)
    """
    name = place.removeprefix("adapter/")
    of_same_folder = (pattern for pattern in _OF_A_CHECKPOINT if pattern.count("/") == name.count("/"))
    return place.endswith((WEIGHTS, f"{WEIGHTS}.index.json")) or any(fnmatchcase(name, each) for each in of_same_folder)


def _names_on_the_hub(card: Path) -> list[str]:
    """Return the models and datasets of the Hub that a card names, which was written where the run found them there."""
    from huggingface_hub import metadata_load

    if not card.is_file():
        return []
    with _named_in_one_line(card):
        metadata = metadata_load(card) or {}
    given = [metadata.get(kind) or [] for kind in ("base_model", "datasets")]
    return [str(name) for names in given for name in (names if isinstance(names, list) else [names])]


def _shareable(path: Path, folder: Path, name: str, names: list[str]) -> Path | bytes:
    """Return a file, or its content without local paths if it had some."""
    with _named_in_one_line(path):
        if path.name == "recipe.yaml":
            return shareable_recipe(path.read_text(encoding="utf-8"), names=names).encode()
        if path.suffix == ".md":
            card = path.read_text(encoding="utf-8").replace(PLACEHOLDER, name)
            return shareable_card(card, folder=folder, names=names).encode()
        if path.suffix == ".json" and path.name.endswith("config.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            changed = shareable_settings(content)
            if changed != content:
                return f"{json.dumps(changed, indent=2, ensure_ascii=False)}\n".encode()
    return path


@contextlib.contextmanager
def _named_in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read, so nothing was pushed; mend it: {reason}") from error


def _refuse_private(path: Path, content: Path | bytes) -> None:
    if path.suffix == WEIGHTS:
        texts = iter([_header(path)])
    elif path.suffix in _TEXTS or path.name in ("LICENSE", "NOTICE"):
        texts = iter([content]) if isinstance(content, bytes) else _in_pieces(content)
    else:
        return
    for text in texts:
        if found := find_private(text.decode("utf-8", errors="replace"), is_vocabulary=path.name in _VOCABULARIES):
            raise ConfigError(f"{path} holds {found}, so nothing was pushed; take it out of the file")


def _in_pieces(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, many at once, for a file of vectors may be larger than memory."""
    with path.open("rb") as file:
        while lines := file.readlines(_PIECE):
            yield b"".join(lines)


def _header(path: Path) -> bytes:
    """Return what a safetensors file says of itself before its numbers."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ConfigError(f"{path} is damaged: it is no safetensors file; copy or train the checkpoint again")
        return file.read(length)
