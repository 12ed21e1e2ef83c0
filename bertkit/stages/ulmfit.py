"""`bertkit ulmfit`: a general language model, from it one of the target's text, and from that a classifier.

Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146), for any family that has both heads. Each stage is a run of `bertkit
pretrain` or `bertkit finetune`, by its section of the recipe.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bertkit.config import ConfigError, RecipeParser, overrule
from bertkit.stages import finetune, pretrain
from bertkit.tasks import TASKS
from bertkit.training.arguments import LENGTHS

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace

STAGES = {"general": pretrain, "target": pretrain, "classifier": finetune}
"""Section -> the verb that it is a recipe of."""
_DECIDED_HERE = ("output_dir", "tokenizer", "quiet", "training.resume_from_checkpoint")
_OF_ALL_PROCESSES = ("mixed_precision", "torch_compile")
"""Settings that Accelerate takes once for all that a process does."""


def build_parser() -> RecipeParser:
    """Build the parser of what is not in the sections."""
    parser = RecipeParser(
        "ulmfit",
        description="Train a language model on general text, then on the target's text, then a classifier from it. A stage "
        "that is done is not done again, and one that was broken off goes on.",
        free=[*STAGES],
    )
    parser.add_argument(
        "--output_dir", type=str, required=True, help="Folder of the three runs: general, target and classifier in it."
    )
    parser.add_argument(
        "--tokenizer", type=str, required=True, help="Folder or Hub name of the tokenizer of all three."
    )
    parser.add_argument(
        "--language_model",
        type=str | None,
        default=None,
        help="A checkpoint of a general language model, to start from instead of training one by the section general.",
    )
    for stage, verb in STAGES.items():
        name = verb.__name__.rpartition(".")[2]
        parser.add_argument(
            f"--{stage}",
            type=dict[str, Any],
            default={},
            help=f"A recipe of `bertkit {name}`, whose --help lists its settings; as `--{stage}.training.max_steps 100`.",
        )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Walk the three stages as the command line says.

    Raises:
        ValueError: whatever is wrong with a recipe, as one line before the first stage starts, or with its data.
    """
    own, of_stages = _split(arguments)
    recipe, _ = build_parser().read(own)
    stages = [stage for stage in STAGES if not (stage == "general" and recipe.language_model)]
    output_dir = Path(recipe.output_dir)
    start_from = {
        "target": recipe.language_model or str(output_dir / "general" / "best"),
        "classifier": str(output_dir / "target" / "best"),
    }
    read = {
        stage: _read(
            stage,
            getattr(recipe, stage),
            of_stages[stage],
            {
                "output_dir": str(output_dir / stage),
                "tokenizer": recipe.tokenizer,
                "quiet": str(recipe.quiet).lower(),
                "training.resume_from_checkpoint": "auto",
                **({"model.from": start_from[stage]} if stage in start_from else {}),
            },
        )
        for stage in stages
    }
    ulmfit(read)


def ulmfit(stages: "dict[str, tuple[Namespace, str]]") -> None:
    """Walk the stages that there are, in their order.

    Args:
        stages: section -> its recipe and the same as YAML.

    Raises:
        ConfigError: the stages do not go together, or the data of one is not what it needs.
    """
    from bertkit.training.processes import join_processes

    _refuse_what_does_not_go_together(stages)
    processes = join_processes()
    _look_at_pushes(stages, processes)
    _read_data_of_later_stages(stages, processes)
    for stage, (recipe, resolved) in stages.items():
        say = print if processes.is_main_process and not recipe.quiet else _silent
        folder = Path(recipe.output_dir)
        if STAGES[stage] is finetune:
            say(f"\n{stage}, in {folder}", flush=True)
            finetune.finetune(recipe, resolved)  # leaves the processes when it is done
            return
        if _is_done(folder, resolved, processes):
            say(f"{stage}: done before, in {folder}; {folder / 'best'} is used", flush=True)
            continue
        say(f"\n{stage}, in {folder}", flush=True)
        pretrain.pretrain_among(processes, recipe, resolved)
        if not _is_done(folder, resolved, processes):  # a signal has stopped it
            say(f"{stage} is not done; the same command goes on", flush=True)
            break
    processes.destroy_process_group()


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take the settings of the sections out of a command line.

    >>> own, of_stages = _split(["--quiet", "--target.data.train", "a.txt", "--output_dir", "runs"])
    >>> own, of_stages["target"]
    (['--quiet', '--output_dir', 'runs'], ['--data.train', 'a.txt'])
    """
    own: list[str] = []
    of_stages: dict[str, list[str]] = {stage: [] for stage in STAGES}
    to = own
    for argument in arguments:
        stage, dot, rest = argument.removeprefix("--").partition(".")
        if argument.startswith("--"):
            to = of_stages[stage] if dot and stage in STAGES else own
            argument = argument if to is own else f"--{rest}"
        to.append(argument)
    return own, of_stages


def _read(
    stage: str, section: dict[str, Any], overrides: Sequence[str], decided: dict[str, str]
) -> "tuple[Namespace, str]":
    """Read the recipe of a stage as its verb does.

    Args:
        stage: its section.
        section: what the recipe says in it.
        overrides: what the command line says of it.
        decided: what is not for the section to say.
    """
    given = [argument[2:].split("=")[0] for argument in overrides if argument.startswith("--")]
    for key in (*_DECIDED_HERE, *(["model.from"] if "model.from" in decided else [])):
        if key in given or _has(section, key):
            instead = "language_model" if key == "model.from" else key
            raise ConfigError(
                f"{stage}.{key}: bertkit ulmfit decides that of its stages; give --{instead}, or leave it out"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(section, allow_unicode=True), encoding="utf-8")
        arguments = ["--config", str(path), *overrides]
        arguments += [part for key, value in decided.items() for part in (f"--{key}", value)]
        try:
            arguments = overrule(arguments, LENGTHS)
            return STAGES[stage].build_parser(arguments).read(arguments)
        except ValueError as error:
            raise ConfigError(f"{stage}: {str(error).replace(f'{path}: ', '')}") from error


def _has(section: dict[str, Any], key: str) -> bool:
    """Return whether a nested section gives a setting, by its dotted name."""
    content: Any = section
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _refuse_what_does_not_go_together(stages: "dict[str, tuple[Namespace, str]]") -> None:
    """Find before the first stage what the last would stumble over.

    Raises:
        ConfigError: the family has no head for the task, or the stages want what one process cannot change.
    """
    from bertkit.models import FAMILIES

    first, (recipe, _) = next(iter(stages.items()))
    family = pretrain.family_trained(recipe.model, None)
    task = stages["classifier"][0].task.name
    auto_class = TASKS[task].auto_class
    if family in FAMILIES and auto_class not in FAMILIES[family].auto_classes:
        having = [name for name, table in FAMILIES.items() if auto_class in table.auto_classes]
        raise ConfigError(
            f"{first}.model: the family {family} has no {auto_class}, which the classifier needs; choose from "
            f"{', '.join(having)}"
        )
    for name in _OF_ALL_PROCESSES:
        values = {stage: getattr(recipe.training, name) for stage, (recipe, _) in stages.items()}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{stage} {value}" for stage, value in values.items())
            raise ConfigError(f"training.{name} must be the same in all stages, and is {said}")


def _look_at_pushes(stages: "dict[str, tuple[Namespace, str]]", processes: "PartialState") -> None:
    """Find before the first stage what would keep a later one from the Hub.

    Raises:
        ConfigError: no token, no rights, no connection, or two models for one name.
    """
    from bertkit.hub.publishing.training_push import TrainingPush

    stage_of: dict[str, str] = {}
    for stage, (recipe, _) in stages.items():
        name = recipe.training.push_to_hub
        if name is not None and (other := stage_of.setdefault(name, stage)) != stage:
            raise ConfigError(
                f"{other} and {stage} both have training.push_to_hub {name}; give each a repository of its own"
            )
    for stage, (recipe, _) in stages.items():
        try:
            if STAGES[stage] is finetune:
                finetune.refuse_to_push_several(recipe)
            TrainingPush.of(recipe.training, is_main_process=processes.is_main_process, quiet=True)
        except ConfigError as error:
            raise ConfigError(f"{stage}: {error}") from error


def _read_data_of_later_stages(stages: "dict[str, tuple[Namespace, str]]", processes: "PartialState") -> None:
    """Find before the first stage, which may take days, what is wrong with the data of those that follow.

    What is tokenized here is not tokenized again.

    Raises:
        ConfigError: a source that cannot be read, or data that a stage cannot learn from.
    """
    from bertkit.data.splits import build_stores
    from bertkit.tasks.sources import load_parts
    from bertkit.tokenization import load_any_tokenizer

    for stage, (recipe, _) in [*stages.items()][1:]:
        try:
            with processes.main_process_first():
                tokenizer = load_any_tokenizer(recipe.tokenizer)
                if STAGES[stage] is pretrain:
                    build_stores(recipe.data, tokenizer, quiet=recipe.quiet or not processes.is_main_process)
                else:
                    examples = load_parts(recipe.data)["train"]
                    TASKS[recipe.task.name].from_examples(recipe.task, tokenizer, examples)
        except ValueError as error:
            raise ConfigError(f"{stage}: {error}") from error


def _is_done(folder: Path, resolved: str, processes: "PartialState") -> bool:
    """Return whether a stage was trained to its end, by this recipe; to be called by every process."""
    from bertkit.stages.recipe_changes import check_recipe
    from bertkit.training.checkpointing import load_trainer_state, newest_whole_checkpoint
    from bertkit.training.processes import as_main_sees

    is_done = False
    if processes.is_main_process and (checkpoint := newest_whole_checkpoint(folder)) is not None:
        is_done = load_trainer_state(checkpoint).finished and not check_recipe(checkpoint, resolved)
    return as_main_sees(is_done)


def _silent(*words: str, flush: bool) -> None:
    """Say nothing."""
