"""From YAML and the command line to dataclasses, with one clear line for whatever is wrong.

jsonargparse reads the types, the defaults and the help from the dataclasses. bertkit adds that a recipe shipped with it is
found by name, and that an unknown key names the nearest known one. `model.*` is a free mapping here and is checked inside
the verb, because knowing a model's settings means importing it.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent
RECIPES = [
    next(folder for folder in places if folder.is_dir())
    for places in (
        (_PACKAGE / "recipes", _CHECKOUT / "recipes"),
        (_PACKAGE / "tokenizer_recipes", _CHECKOUT / "tokenizer" / "configs"),
    )
]
"""Folders of the YAML recipes: inside the package in a wheel, beside it in a checkout."""


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    dict: "a mapping",
}
_WRONG_TYPE = re.compile(r'Parser key "(?P<key>[^"]+)":\s.*(?:Got|Given) value: (?P<value>.*)', re.DOTALL)


class ConfigError(ValueError):
    """Something in a recipe or on the command line that cannot be; its message is one line."""


class RecipeParser(ArgumentParser):
    """Parses the recipe of one verb: `--config` files first, then `--section.key value`.

    Args:
        verb: name of the verb, for the help.
        description: what it does, for the help.
        free: sections whose keys are checked later.
        elsewhere: dotted name of a setting that there is in some recipes of the verb -> in which, as `objective.name causal`.
    """

    def __init__(
        self, verb: str, *, description: str, free: Sequence[str] = (), elsewhere: Mapping[str, str] | None = None
    ) -> None:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        super().__init__(prog=f"bertkit {verb}", description=description, allow_abbrev=False)
        self.free = tuple(free)
        self.elsewhere = elsewhere or {}
        self._arguments: Sequence[str] = ()
        self.add_argument(
            "--config",
            action=ActionConfigFile,
            help="A YAML recipe: a file, or the name of one that comes with bertkit.",
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as one line; of a value of the wrong type, say in words what would do."""
        wrong = _WRONG_TYPE.search(message)
        if wrong:
            kinds = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
            where = _given_in(wrong["key"], self._arguments)
            message = f"{where}{wrong['key']} is {wrong['value']!r}; it takes {_in_words(kinds.get(wrong['key']))}"
        raise ConfigError(" ".join(message.split()))

    def known_keys(self) -> list[str]:
        """Return the dotted names of all settings."""
        return [action.dest for action in self._actions if action.dest not in ("help", "print_config")]

    def read(self, arguments: Sequence[str]) -> tuple[Namespace, str]:
        """Parse a command line.

        Returns:
            The recipe, its sections instances of their dataclasses; and the same as YAML that `--config` takes.

        Raises:
            ConfigError: whatever is wrong, as one line.
        """
        arguments = recipes_first(arguments)
        self._arguments = arguments
        for place, argument in enumerate(arguments):
            name, equals, value = argument.partition("=")
            if name == "--config" and equals:
                arguments[place] = f"--config={find_recipe(value)}"
            elif argument == "--config" and place + 1 < len(arguments):
                arguments[place + 1] = str(find_recipe(arguments[place + 1]))
        self._refuse_unknown(arguments)
        takes_others = any(not action.option_strings for action in self._actions)
        switches = [*self._switches(), *(argument[2:] for argument in arguments if self._is_free(argument))]
        parsed = self.parse_args(spell_out_switches(arguments, switches, takes_others=takes_others))
        del parsed["config"]
        return self.instantiate(parsed), self.dump(parsed, skip_validation=True, skip_unset=False)

    def _switches(self) -> list[str]:
        """Return the dotted names of the settings that are true or false."""
        kinds = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
        return [key for key, kind in kinds.items() if kind is bool or bool in get_args(kind)]

    def _is_free(self, argument: str) -> bool:
        """Return whether an argument is a setting that is checked later; with no value behind it, it can only be a switch."""
        return "=" not in argument and argument.startswith(tuple(f"--{section}." for section in self.free))

    def _refuse_unknown(self, arguments: Sequence[str]) -> None:
        known = self.known_keys()
        sections = {key.split(".")[0] for key in known if "." in key}
        settings = [key for key in known if key not in sections]
        for argument in arguments:
            if argument.startswith("--"):
                key = argument[2:].split("=")[0].removesuffix("+")
                if key not in ("help", "print_config", *known) and key.split(".")[0] not in self.free:
                    raise ConfigError(f"unknown option --{key}{self._hint(key, settings, prefix='--')}")
        for path in config_files(arguments):
            content = load_yaml(path)
            if "config" in content:
                raise ConfigError(f"{path}: a recipe cannot name another by `config`; give --config several times")
            for key in _dotted_keys(content):
                if key in sections:
                    raise ConfigError(f"{path}: {key} is a section; give settings under it, or leave it out")
                if key not in known and key.split(".")[0] not in self.free:
                    raise ConfigError(f"{path}: unknown key {key}{self._hint(key, settings)}")

    def _hint(self, key: str, settings: Sequence[str], *, prefix: str = "") -> str:
        where = self.elsewhere.get(key)
        return f"; it goes with {where}" if where else nearest(key, settings, prefix=prefix)


def recipes_first(arguments: Sequence[str]) -> list[str]:
    """Move every `--config` to the front, for the parser takes what comes later, and the command line is to have the last word.

    >>> recipes_first(["--training.max_steps", "10", "--config", "gpt-tiny", "--config=mine.yaml", "--quiet"])
    ['--config', 'gpt-tiny', '--config=mine.yaml', '--training.max_steps', '10', '--quiet']
    """
    recipes: list[str] = []
    others: list[str] = []
    for before, argument, following in zip(["", *arguments], arguments, [*arguments[1:], None], strict=False):
        begins = argument.startswith("--config=") or (argument == "--config" and following is not None)
        (recipes if begins or before == "--config" else others).append(argument)
    return recipes + others


def spell_out_switches(arguments: Sequence[str], switches: Iterable[str], *, takes_others: bool = False) -> list[str]:
    """Write `--quiet true` for a bare `--quiet`, wherever it stands.

    Args:
        arguments: the command line.
        switches: dotted names of settings that are true or false.
        takes_others: whether the verb takes arguments that are no options, so that what follows a switch may be one of them.

    Returns:
        The command line, every switch with its value.

    >>> spell_out_switches(["--from_scratch", "--quiet", "runs/a"], ["quiet", "from_scratch"], takes_others=True)
    ['--from_scratch', 'true', '--quiet', 'true', 'runs/a']
    """
    options = {f"--{switch}" for switch in switches}
    spelled = []
    for argument, following in pairwise([*arguments, ""]):
        spelled.append(argument)
        is_value = following.lower() in ("true", "false", "null") if takes_others else following[:2] not in ("", "--")
        if argument in options and not is_value:
            spelled.append("true")
    return spelled


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the end of an error message: the known name that is most like `name`, or where to find them all.

    >>> nearest("training.max_step", ["training.max_steps", "output_dir"])
    '; did you mean training.max_steps?'
    """
    known = list(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not matches:  # the section may be missing, or wrong
        ends = {key.split(".")[-1]: key for key in known}
        matches = [ends[end] for end in difflib.get_close_matches(name.split(".")[-1], ends, n=1, cutoff=0.8)]
    return f"; did you mean {prefix}{matches[0]}?" if matches else "; --help lists the known ones"


def config_files(arguments: Sequence[str]) -> list[str]:
    """Return the values of `--config` in a command line."""
    files = [following for argument, following in pairwise(arguments) if argument == "--config"]
    return files + [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]


def find_recipe(name: str) -> Path:
    """Return the YAML file that `name` means: a path, or a recipe that comes with bertkit.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix not in (".yaml", ".yml") and path.name == name:
        shipped = {recipe.stem: recipe for folder in RECIPES for recipe in sorted(folder.rglob("*.yaml"))}
        if name in shipped:
            return shipped[name]
        raise ConfigError(
            f"--config {name}: there is no such file, and no recipe of that name{nearest(name, shipped)}"
            f" (bertkit has {', '.join(shipped)})"
        )
    raise ConfigError(f"--config {name}: there is no such file")


class _LoaderOfDistinctKeys(yaml.SafeLoader):
    """The safe loader, which takes the last of several equal keys without a word; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"{key.value} is given twice; leave one out"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is not YAML, or not a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LoaderOfDistinctKeys)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: this is not YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a recipe must be a mapping of keys to values, and this is {type(content).__name__}")
    return content


def value_of(key: str, arguments: Sequence[str], default: str) -> str:
    """Return a setting before the command line is parsed, for those that decide which other settings there are.

    Args:
        key: dotted name.
        arguments: the command line.
        default: if neither it nor a config file gives the setting.
    """
    value = default
    for path in config_files(arguments):
        value = _inside(load_yaml(find_recipe(path)), key.split("."), value)
    for argument, following in pairwise([*arguments, ""]):
        option, equals, given = argument.partition("=")
        given = given if equals else following
        if option == f"--{key}":
            value = given
        elif option.startswith("--") and key.startswith(f"{option[2:]}."):
            # A whole section at once, which takes the place of what the recipe says of it.
            value = _inside(_mapping_of(given), key.removeprefix(f"{option[2:]}.").split("."), default)
    return value


def _inside(content: Any, parts: Sequence[str], default: str) -> str:
    """Return what lies at the end of a path through mappings; `default` if it does not lead there, or to null."""
    for part in parts:
        content = content.get(part) if isinstance(content, Mapping) else None
    return default if content is None else str(content)


def _mapping_of(text: str) -> Any:
    """Return the section that an argument spells out in YAML or JSON; None if it is neither, of which the parser will tell."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def overrule(arguments: Sequence[str], *alternatives: Sequence[str]) -> list[str]:
    """Let the command line decide among settings of which only one may be given, whatever a config file says.

    Args:
        arguments: the command line.
        *alternatives: dotted names of settings that exclude one another.

    Returns:
        The command line; where it gives some of the settings, it now takes back those of a config file.
    """
    taken_back = []
    for keys in alternatives:
        said = [key for key in keys if value_of(key, arguments, "null") != "null"]
        given = [key for key in said if any(argument.split("=")[0] == f"--{key}" for argument in arguments)]
        taken_back += [key for key in said if key not in given] if given else []
    return [*arguments, *(part for key in taken_back for part in (f"--{key}", "null"))]


def refuse_recipes_of_another(arguments: Sequence[str], key: str, wanted: str, *, verb: str) -> None:
    """Make sure that every `--config` is for what is asked for, since most of its settings say nothing to anything else.

    Args:
        arguments: the command line.
        key: dotted name of the setting that decides which settings there are.
        wanted: its value.
        verb: whose recipes would do.

    Raises:
        ConfigError: a recipe is for another.
    """

    def of(path: str) -> str:
        return value_of(key, ["--config", path], wanted)

    for path in config_files(arguments):
        if of(path) != wanted:
            fitting = sorted(recipe.stem for recipe in (RECIPES[0] / verb).glob("*.yaml") if of(str(recipe)) == wanted)
            others = f" ({', '.join(fitting)})" if fitting else ""
            raise ConfigError(
                f"--config {path} is a recipe of {key} {of(path)}, not {wanted}; leave --{key} out, or take a recipe of "
                f"{wanted}{others}"
            )


def choose(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return `table[name]`.

    Raises:
        ConfigError: there is no such entry; the message lists those there are.
    """
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}; choose from {', '.join(table)}")
    return table[name]


def _in_words(kind: Any) -> str:
    """Return what a setting of a type takes.

    >>> _in_words(int | None), _in_words(Literal["no", "bf16"]), _in_words(str | list[str])
    ('a whole number or null', 'no or bf16', 'text or a list')
    """
    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_in_words, get_args(kind)))
    kind = get_origin(kind) or kind
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _given_in(key: str, arguments: Sequence[str]) -> str:
    """Return the config file that gave a setting its value, for the beginning of a message; nothing for the command line."""
    if any(argument.split("=")[0] == f"--{key}" for argument in arguments):
        return ""
    files = [path for path in config_files(arguments) if key in _dotted_keys(load_yaml(path))]
    return f"{files[-1]}: " if files else ""


def _dotted_keys(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in content.items():
        keys += _dotted_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys
