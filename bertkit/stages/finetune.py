"""`bertkit finetune`: a checkpoint and labelled texts -> a checkpoint for the task, its predictions and how good they are."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import (
    ConfigError,
    RecipeParser,
    choose,
    overrule,
    refuse_recipes_of_another,
    spell_out_switches,
    value_of,
)
from bertkit.stages import model_section
from bertkit.stages.finetuning import bag_of_words, learning_curve, task_model
from bertkit.stages.finetuning.repetitions import Repetition, repetitions
from bertkit.tasks import TASKS
from bertkit.training.arguments import LENGTHS, TrainingArguments
from bertkit.training.lora_arguments import LoraArguments

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace

    from bertkit.tasks.task import Task

_DEFAULTS = {"training.learning_rate": 5e-5, "training.warmup_steps": 0.1}  # BERT's own, for its size


def build_parser(arguments: Sequence[str]) -> RecipeParser:
    """Build the parser of a fine-tuning recipe; which task it has decides which settings there are."""
    name = value_of("task.name", arguments, "sequence_classification")
    task = choose("task", name, TASKS)
    refuse_recipes_of_another(arguments, "task.name", name, verb="finetune")
    parser = RecipeParser("finetune", description="Fine-tune a checkpoint on labelled examples.", free=["model"])
    parser.add_argument(
        "--output_dir",
        type=str,
        required=True,
        help="Folder of the run: checkpoints, the best one as `best`, predictions and results.json.",
    )
    parser.add_argument(
        "--tokenizer",
        type=str | None,
        default=None,
        help="Folder or Hub name of the tokenizer; default: the checkpoint's.",
    )
    parser.add_argument("--model", type=dict[str, Any], default={}, help=task_model.HELP)
    parser.add_argument(
        "--from_scratch",
        type=bool,
        default=False,
        help="Keep shape and tokenizer of `model.from`, but not its weights: what pretraining is worth. The fresh weights are "
        "drawn as the family draws them, whatever the checkpoint's own were, unless `model.initializer_range` or "
        "`model.initial_attention` are given.",
    )
    parser.add_class_arguments(task.data_class, "data", help="The labelled examples")
    parser.add_class_arguments(task.arguments_class, "task", help="What is learned from them")
    parser.add_class_arguments(TrainingArguments, "training", help="How it is trained")
    parser.add_class_arguments(LoraArguments, "lora", help="What is trained, if not all")
    parser.add_argument(
        "--seeds",
        type=list[int] | None,
        default=None,
        help="Train once with each of these, as [0,1,2], in output_dir/seed-<n>, and give mean and standard deviation; "
        "default: once with training.seed, in output_dir itself.",
    )
    parser.add_argument(
        "--folds",
        type=int | None,
        default=None,
        help="Cross-validation: divide the training examples into this number of parts, train once for each with it as the "
        "evaluation part, in output_dir/fold-<n>, and give mean and standard deviation. data.eval is not given then.",
    )
    parser.add_argument(
        "--label_fractions",
        type=list[float] | None,
        default=None,
        help="Draw the learning curve of labels: train on nested subsets of these sizes, as [50,200,1000,1.0] (shares up to 1, "
        "numbers above), by each of --methods and --seeds, and write learning_curve.json, .csv and .png.",
    )
    parser.add_argument(
        "--methods",
        type=list[str] | None,
        default=None,
        help="Of the learning curve: pretrained, from_scratch (the same model, fresh weights), features (logistic or ridge "
        "regression on the frozen encoder's means, or its vectors of words) and bow (a bag of words); default: all that the "
        "task has.",
    )
    parser.add_argument(
        "--label_min_steps",
        type=int,
        default=100,
        help="Of the learning curve: steps that networks train at least, however few the epochs of a small subset have; "
        "training.max_steps and training.max_time are taken as they are.",
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    parser.set_defaults(_DEFAULTS)
    if all(value_of(length, arguments, "null") == "null" for length in LENGTHS):
        parser.set_defaults({"training.num_train_epochs": 3.0})
    return parser


def main(arguments: Sequence[str]) -> None:
    """Fine-tune as the command line says.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the checkpoint, as one line before training starts.
    """
    arguments = spell_out_switches(arguments, ["model.help"])
    if value_of("model.help", arguments, "false") == "true":
        model_section.print_settings({"family": value_of("model.family", arguments, "bert")})
        return
    arguments = overrule(arguments, LENGTHS, model_section.SIZES)
    arguments = bag_of_words.spell_out_family(arguments)
    arguments = bag_of_words.put_in_place_of_network(arguments)
    finetune(*build_parser(arguments).read(arguments))


def finetune(recipe: "Namespace", resolved: str) -> None:
    """Walk the road from labelled text to a checkpoint for the task, once for each seed.

    Args:
        recipe: as `build_parser` reads it.
        resolved: the same as YAML, to keep with the checkpoints.
    """
    refuse_to_push_several(recipe)
    if recipe.label_fractions is not None:
        learning_curve.learning_curve(recipe, resolved)
        return
    if recipe.model.get("family") == bag_of_words.FAMILY:
        bag_of_words.finetune_bag_of_words(recipe, resolved)
        return
    from transformers.utils.logging import disable_progress_bar

    from bertkit.training.processes import join_processes
    from bertkit.training.run_folder import run_folder

    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    processes = join_processes()
    resume_from = recipe.training.resume_from_checkpoint
    with ExitStack() as stack:
        checkpoints = {
            one: stack.enter_context(run_folder(one.folder, resume_from_checkpoint=resume_from, processes=processes))
            for one in repetitions(recipe)
        }
        _train(recipe, resolved, processes, checkpoints)
    processes.destroy_process_group()


def refuse_to_push_several(recipe: "Namespace") -> None:
    """Make sure that what is to be pushed is one model, and one that the Hub's libraries load.

    Args:
        recipe: as `build_parser` reads it.

    Raises:
        ConfigError: the recipe trains several, or a bag of words.
    """
    several = [name for name in ("seeds", "folds", "label_fractions") if getattr(recipe, name) is not None]
    if recipe.training.push_to_hub is not None and (several or recipe.model.get("family") == bag_of_words.FAMILY):
        what = f"--{several[0]} trains several" if several else "a bag of words is none that transformers loads"
        raise ConfigError(
            f"training.push_to_hub takes one model, and {what}; leave it out, and give the checkpoint that you choose to "
            "`bertkit push`"
        )


def _train(
    recipe: "Namespace", resolved: str, processes: "PartialState", checkpoints: Mapping[Repetition, Path | None]
) -> None:
    from bertkit.hub.publishing.training_push import TrainingPush
    from bertkit.stages.findings import report
    from bertkit.stages.finetuning.task_runs import TaskRuns, read_examples, write_results
    from bertkit.tasks.health import cheap_checks

    quiet = recipe.quiet or not processes.is_main_process
    pushed = TrainingPush.of(recipe.training, is_main_process=processes.is_main_process, quiet=quiet)
    with processes.main_process_first():
        start_from, tokenizer, parts = read_examples(recipe, filter(None, checkpoints.values()))
    task = TASKS[recipe.task.name].from_examples(recipe.task, tokenizer, parts["train"])
    runs = TaskRuns(
        recipe, resolved, task, parts, start_from=start_from, processes=processes, quiet=quiet, pushed=pushed
    )
    if not quiet:
        print(_describe(parts, task))
    report(cheap_checks(task, parts, runs.batches), is_main_process=processes.is_main_process)
    outcomes: list[dict[str, Any]] = []
    for one, checkpoint in checkpoints.items():
        if not quiet and one.name:
            print(f"\n{one.name}, in {one.folder}", flush=True)
        if one.fold is not None:
            runs = replace(runs, parts=one.fold.parts(parts))
        outcome = runs.run(one.seed, one.folder, resume_from=checkpoint)
        if outcome is None:
            return
        outcomes.append(outcome if one.fold is None else {"fold": one.fold.number, **outcome})
    if recipe.folds is not None:  # every example was evaluated on
        parts = {**parts, "train": (whole := [*parts["train"], *parts["eval"]]), "eval": whole}
    if processes.is_main_process:
        results = write_results(Path(recipe.output_dir), task, parts, outcomes)
        if not quiet:
            from bertkit.tasks.results import format_results

            print(f"\n{format_results(results)}\n")
            for one in checkpoints:
                print(f"best checkpoint{f' of {one.name}' if one.name else ''}: {one.folder / 'best'}")
            path = Path(recipe.output_dir) / "results.json"
            print(f"results: {path}; predictions: predictions_*.jsonl beside the checkpoints")


def _describe(parts: Mapping[str, Sequence[Any]], task: "Task[Any]") -> str:
    sizes = ", ".join(f"{part} {len(examples):,}" for part, examples in parts.items())
    names = task.label_names
    shown = (
        f"; {len(names)} labels: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if len(names) > 1 else ""
    )
    return f"{task.unit}: {sizes}{shown}"
