"""A bag of words through the stations of `bertkit finetune`: the same parts of the data, metrics, predictions and table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser, config_files, nearest, value_of
from bertkit.tasks import TASKS

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from bertkit.embeddings.bag_of_words import BagOfWords, BagOfWordsArguments
    from bertkit.tasks.texts import TextTask

FAMILY = "bow"
"""What a recipe calls it: `--model.family bow`."""


def finetune_bag_of_words(recipe: "Namespace", resolved: str) -> dict[str, Any]:
    """Fit a bag of words and write what fine-tuning writes: `best/`, predictions_<part>.jsonl and results.json.

    There is one run whatever the seeds, for nothing in it is random. Of several values of C the part `eval` chooses, as it
    chooses the best checkpoint of a network.

    Args:
        recipe: as `bertkit.stages.finetune` reads it; its model is {"family": "bow"} with settings of `BagOfWordsArguments`,
            and its tokenizer the one of `model.analyzer: wordpiece`.
        resolved: the same as YAML, to keep with the model.

    Returns:
        What stands in results.json.

    Raises:
        ConfigError: settings that there are not, or that do not go together, or a task that is not about whole texts.
        DataError: examples that cannot be learned from.
    """
    from bertkit.embeddings.bag_of_words import texts_and_pairs
    from bertkit.stages.findings import report
    from bertkit.stages.finetuning.task_runs import write_results
    from bertkit.tasks.predictions import write_predictions
    from bertkit.tasks.results import format_results
    from bertkit.tasks.sources import load_parts
    from bertkit.training.checkpointing import writing_to, written_aside

    if recipe.folds is not None:
        raise ConfigError("a bag of words is not cross-validated; leave --folds out")
    arguments = read_settings(recipe.model)
    folder = Path(recipe.output_dir)
    refuse_other_tasks(recipe.task.name)
    parts = load_parts(recipe.data)
    task = text_task(recipe.task, parts["train"])
    report(task.checks(parts), is_main_process=True)
    for examples in parts.values():
        task.targets(examples)  # refuses labels that training has not
    before = time.process_time()
    bag = fit_bag(arguments, task, parts, tokenizer=recipe.tokenizer)
    cpu_seconds = time.process_time() - before
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with written_aside(folder / "best") as aside:
            bag.save(aside)
            (aside / "recipe.yaml").write_text(resolved, encoding="utf-8")
    metrics = {}
    for part in [part for part in parts if part != "train"]:
        evaluation = task.evaluation_of_scores(parts[part], bag.logits(*texts_and_pairs(parts[part])))
        metrics[part] = evaluation.compute()
        with writing_to(folder):
            write_predictions(folder / f"predictions_{part}.jsonl", task, parts[part], evaluation)
    run = {"seed": None, "best_step": None, "C": bag.C, "cpu_seconds": round(cpu_seconds, 2), **metrics}
    results = write_results(folder, task, parts, [run])
    if not recipe.quiet:
        shape = f"{bag.coefficients.shape[1]:,} features, C {bag.C:g}"
        print(f"bag of words: {shape}, fitted in {cpu_seconds:.1f} CPU-seconds\n\n{format_results(results)}\n")
        print(f"best checkpoint: {folder / 'best'}")
        print(f"results: {folder / 'results.json'}; predictions: predictions_*.jsonl beside the checkpoints")
    return results


def refuse_other_tasks(name: str) -> None:
    """Make sure that a bag of words can learn a task.

    Args:
        name: one of `TASKS`.

    Raises:
        ConfigError: a task that is not about whole texts.
    """
    fitting = [name for name, task in TASKS.items() if task.auto_class == "AutoModelForSequenceClassification"]
    if name not in fitting:
        raise ConfigError(f"a bag of words cannot learn the task {name}; it learns {', '.join(fitting)}")


def text_task(arguments: Any, examples: Sequence[Any]) -> "TextTask[Any]":
    """Return the task of examples without a tokenizer, which a bag of words has no use for.

    Args:
        arguments: the recipe's section `task`.
        examples: of the training part.
    """
    task: Any = TASKS[arguments.name]
    return task.from_examples(arguments, None, examples)


def fit_bag(
    arguments: "BagOfWordsArguments",
    task: "TextTask[Any]",
    parts: Mapping[str, Sequence[Any]],
    *,
    tokenizer: str | None,
) -> "BagOfWords":
    """Fit a bag of words to the part `train`, its C chosen on `eval`.

    Args:
        arguments: the settings.
        task: what is learned.
        parts: the examples.
        tokenizer: folder or Hub name of the tokenizer, for `model.analyzer: wordpiece`.
    """
    from bertkit.embeddings.bag_of_words import BagOfWords, texts_and_pairs
    from bertkit.tokenization import load_tokenizer

    bag = BagOfWords(
        arguments,
        problem_type=task.problem_type,  # type: ignore[arg-type]
        label_names=task.label_names,
        tokenizer=None if tokenizer is None else load_tokenizer(tokenizer),
    )
    train, evaluation = ((*texts_and_pairs(parts[part]), task.targets(parts[part])) for part in ("train", "eval"))
    weights = task.config_settings.get("class_weights")
    if weights is not None and arguments.class_weight is not None:
        raise ConfigError("task.class_weights and model.class_weight say the same thing twice; leave one of them out")
    bag.fit(*train, evaluation=evaluation, class_weights=weights)
    return bag


def spell_out_family(arguments: Sequence[str]) -> list[str]:
    """Write `--model.family bow` for `--model bow`: as a value of its own it would be lost behind `--model.ngram_max 3`.

    Args:
        arguments: the command line.

    >>> spell_out_family(["--model", "bow", "--model.ngram_max", "3"]), spell_out_family(["--model=bow"])
    (['--model.family', 'bow', '--model.ngram_max', '3'], ['--model.family=bow'])
    """
    spelled = []
    for argument, following in pairwise([*arguments, ""]):
        is_family = (argument, following) == ("--model", FAMILY) or argument == f"--model={FAMILY}"
        spelled.append(argument.replace("--model", "--model.family", 1) if is_family else argument)
    return spelled


def put_in_place_of_network(arguments: Sequence[str]) -> list[str]:
    """Let a bag of words that the command line asks for replace the model of a recipe that was written for a network.

    Args:
        arguments: the command line, the family spelled out.

    Returns:
        The command line, with what takes the model of its recipes away in front, where the parser reads it behind these.
    """
    of_recipes = [f"--config={path}" for path in config_files(arguments)]
    if value_of("model.family", arguments, "") != FAMILY or value_of("model.family", of_recipes, "") == FAMILY:
        return [*arguments]
    return ["--model", f'{{"family": "{FAMILY}"}}', *arguments]


def read_settings(model: str | Mapping[str, Any]) -> "BagOfWordsArguments":
    """Return the settings of a recipe's section `model` that names a bag of words.

    Args:
        model: "bow", or a mapping with `family: bow` and settings; bertkit's presets say nothing to it.

    Raises:
        ConfigError: a setting that there is not, or a value that it does not take.
    """
    from bertkit.embeddings.bag_of_words import BagOfWordsArguments

    settings = {} if isinstance(model, str) else {name: value for name, value in model.items() if name != "family"}
    known = [field.name for field in fields(BagOfWordsArguments)]
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown setting model.{name} of {FAMILY}{nearest(name, known, prefix='model.')}")
    parser = RecipeParser("finetune", description="")
    parser.add_class_arguments(BagOfWordsArguments, "model")
    return parser.instantiate(parser.parse_object({"model": settings})).model
