"""What of a checkpoint's text belongs to this machine and stays on it: local paths, the user's name, tokens of the Hub."""

import getpass
import json
import ntpath
import re
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_ABSOLUTE_PATH = re.compile(
    r"""(?<![\w./\\~])(?!(?<=:)(?<!file:)//)(?!(?<=<)/[\w:-]+>)"""  # no part of a name, no address, no closing tag
    r"""(?:~[\w.-]*|[A-Za-z]:)?[/\\]+(?:[^\s"'`,;:|<>()\[\]{}/\\]+[/\\]*)+"""
)
_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?(@[\w.-]+)?")
_FILE = re.compile(r"\.(txt|jsonl|json|parquet|csv|tsv|conll|conllu)(\.gz|\.zst)?$")
_RECIPE = re.compile(r"(## Recipe\n[^`]*```yaml\n)(.*?)(```)", re.DOTALL)
_SYSTEM_FOLDERS = {"bin", "dev", "etc", "home", "lib", "opt", "proc", "sys", "tmp", "usr", "var"}
"""Names that say nothing of a user who has one of them, and stand in every script."""
_ALWAYS_LOCAL = ("output_dir", "cache_dir", "resume_from_checkpoint")
"""Settings that name a place of this machine whatever they look like."""
_TAKE_PATHS = ("tokenizer", "from", "pretrained_embeddings", "language_model", "output")
"""Settings besides the sources of data that take a path, some also a name on the Hub."""
_COLUMNS = ("_column", "_columns", "_separator")


def shareable_recipe(recipe: str, *, names: Collection[str] = ()) -> str:
    """Return a recipe without local paths: of each the last part stays, and of the cache's folder nothing.

    What is a path is told by its form and not by the folders that there are, so that it does not matter where this runs.

    Args:
        recipe: as YAML.
        names: models and datasets that are known to be the Hub's; another owner/name without "hub:" may be a folder.

    >>> print(shareable_recipe("output_dir: /home/me/runs/tiny\\ndata:\\n  train: [my/a.txt, 'hub:wikitext']").rstrip())
    output_dir: tiny
    data:
      train:
      - a.txt
      - hub:wikitext
    >>> print(shareable_recipe("model: {from: google/bert}\\ntokenizer: runs/words", names=["google/bert"]).rstrip())
    model:
      from: google/bert
    tokenizer: words
    """
    content = _mapped(yaml.safe_load(recipe), lambda key, value: _shareable_setting(key, value, names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def shareable_settings(content: Any) -> Any:
    """Return the content of a JSON file, of every absolute path in it the last part.

    >>> shareable_settings({"base_model_name_or_path": "/home/me/runs/bert/best", "r": 8})
    {'base_model_name_or_path': 'best', 'r': 8}
    """
    return _mapped(content, lambda key, value: _last_part(value) if _is_absolute(value) else value)


def shareable_card(text: str, *, folder: Path | None = None, names: Collection[str] = ()) -> str:
    """Return a model card without local paths: those of its recipe, and in all else those of the user's and the run's folders.

    Args:
        text: of the card.
        folder: the checkpoint; paths to it and in the run's folder around it are taken out, too.
        names: as `shareable_recipe` takes them.

    >>> shareable_card(f"from {Path.home()}/runs/bert, see https://huggingface.co/me/bert and /v1/chat > /dev/null")
    'from bert, see https://huggingface.co/me/bert and /v1/chat > /dev/null'
    """
    own = [] if folder is None else [str(each) for each in (folder.absolute(), folder.absolute().parent)]
    own = [place for place in own if len(Path(place).parts) > 2]  # what lies in /tmp is not all the run's

    def without_folders(match: re.Match[str]) -> str:
        path = match[0]
        is_own = any(f"{path.rstrip('./')}/".startswith(f"{place}/") for place in own)
        return _last_part(path) if is_own or _is_at_home(path) or _user_names() & _parts(path) else path

    text = _RECIPE.sub(lambda match: f"{match[1]}{shareable_recipe(match[2], names=names)}{match[3]}", text)
    return _ABSOLUTE_PATH.sub(without_folders, text)


def find_private(text: str, *, is_vocabulary: bool = False) -> str | None:
    """Say what a text holds that must not leave this machine, if anything.

    Args:
        text: of a file.
        is_vocabulary: whether it lists tokens, of which one may be a user's name or the home folder by chance.

    Returns:
        The path in the home folder or with the user's name in it; of a token only that there is one.
    """
    if _HUB_TOKEN.search(text):
        return "what looks like a token of the Hub"
    for match in _below_home().finditer(text):
        if match["rest"] or not is_vocabulary:
            return f"a path in the home folder, {match[0]}"
    if is_vocabulary:
        return None
    users = _user_names()
    for match in _ABSOLUTE_PATH.finditer(text):
        path = match[0].rstrip("/\\.")
        if _is_at_home(path):
            return f"a path in the home folder, {path}"
        if users & _parts(path):
            return f"the user's name, in {path}"
    return None


def is_local(name: str) -> bool:
    """Return whether what may be a folder or a name on the Hub is, or can only be, a folder; asked where the run runs.

    >>> is_local("/data/bert"), is_local("runs/bert/best"), is_local("google/bert"), is_local("bert")
    (True, True, False, False)
    """
    return _is_local_by_form(name) or Path(name).exists()


def is_dataset(source: str) -> bool:
    """Return whether a source of data is a dataset of the Hub, of its own or of somebody's.

    >>> is_dataset("hub:wikitext:wikitext-2-v1@train"), is_dataset("stanfordnlp/imdb"), is_dataset("corpora/imdb.txt.gz")
    (True, True, False)
    """
    name, is_marked = source.removeprefix("hub:"), source.startswith("hub:")
    looks_so = _DATASET.fullmatch(name) and (is_marked or ("/" in name and not _FILE.search(name)))
    return bool(looks_so) and not is_local(name.split(":")[0])


def _user_names() -> set[str]:
    try:
        user = {getpass.getuser()}
    except (KeyError, OSError):  # no such user is known here, as in a container
        user = set()
    return (user | {Path.home().name}) - {""} - _SYSTEM_FOLDERS


def _mapped(content: Any, change: Callable[[str, str], Any], key: str = "") -> Any:
    """Return nested mappings and lists with every text in them changed by its dotted key."""
    if isinstance(content, dict):
        return {name: _mapped(value, change, f"{key}.{name}" if key else str(name)) for name, value in content.items()}
    if isinstance(content, list):
        return [_mapped(value, change, key) for value in content]
    return change(key, content) if isinstance(content, str) else content


def _shareable_setting(key: str, value: str, names: Collection[str]) -> str | None:
    section, _, name = key.rpartition(".")
    if name == "cache_dir":
        return None
    kind, _, place = value.partition(":")
    if kind in ("hub", "store"):
        return f"{kind}:{_last_part(place)}" if kind == "store" or _is_local_by_form(place) else value
    is_path = name in _ALWAYS_LOCAL or _is_absolute(value)
    if not is_path and re.search(r"[/\\]", value):
        takes_path = name in _TAKE_PATHS or (f".{section}".endswith(".data") and not name.endswith(_COLUMNS))
        is_path = _is_local_by_form(value) or (takes_path and re.split("[:@]", value)[0] not in names)
    return _last_part(value) if is_path else value


def _is_local_by_form(name: str) -> bool:
    return _is_absolute(name) or name.startswith(".") or len(PurePosixPath(name).parts) > 2


def _is_absolute(value: str) -> bool:
    return value.startswith(("/", "~", "\\\\")) or bool(ntpath.splitdrive(value)[0] and value[2:3] in ("/", "\\"))


def _last_part(path: str) -> str:
    return ntpath.basename(path.rstrip("/\\")) or path.strip("/\\") or path


def _is_at_home(path: str) -> bool:
    plain = re.sub(r"^[/\\]{2,}", "/", path)
    return path.startswith(("~/", "~\\")) or f"{plain}/".startswith(f"{Path.home()}/")


def _below_home() -> re.Pattern[str]:
    """Match the home folder with a separator behind it, wherever it stands, as it is or as JSON writes it."""
    home = str(Path.home())
    if home == "/":  # as in some containers: everything is below it
        return re.compile(r"(?!)(?P<rest>)")
    escaped = json.dumps(home)[1:-1]
    ways = "|".join(re.escape(way) for way in {home, escaped, home.replace("/", "\\/"), escaped.replace("/", "\\/")})
    separator = r"\\?/" if home.startswith("/") else r"(?:\\?/|\\{1,2})"
    return re.compile(rf"""(?:{ways}){separator}(?P<rest>[^\s"'`,;:|<>()\[\]{{}}]*)""")


def _parts(path: str) -> set[str]:
    return set(re.split(r"[/\\]", path.removeprefix("~")))
