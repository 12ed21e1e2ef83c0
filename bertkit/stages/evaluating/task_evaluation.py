"""A fine-tuned checkpoint on labelled examples: the metrics of its task, beside the best guess that ignores the text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.tasks import TASKS
from bertkit.tasks.saved import saved_task

if TYPE_CHECKING:
    from bertkit.stages.evaluating.evaluated import Evaluated
    from bertkit.tasks.task import Task, TaskEvaluation

_PARTS = ("train", "eval", "test", "eval_fraction", "test_fraction")  # of a recipe's data; here there is one part


def task_metrics(evaluated: "Evaluated") -> list[str]:
    """Measure how good a checkpoint is at its task, and write its predictions where that is asked for.

    Args:
        evaluated: the checkpoint and what is asked of it.

    Returns:
        The lines to print.
    """
    from bertkit.embeddings.bag_of_words import load_bag_of_words, texts_and_pairs
    from bertkit.tasks.predictions import write_predictions

    options, accelerator = evaluated.options, evaluated.accelerator
    task_class: Any = TASKS[saved_task(evaluated.recipe(), evaluated.folder, evaluated.auto_class)]
    settings = evaluated.settings(task_class.data_class, "data", without=_PARTS)
    data = task_class.data_class(**settings, train=options.input)
    with accelerator.main_process_first():
        examples = data.read(options.input, default_split="test")
    settings = evaluated.settings(task_class.arguments_class, "task")
    if options.max_length is not None:
        settings["max_length"] = options.max_length
    arguments = task_class.arguments_class(**settings)
    if (bag := load_bag_of_words(evaluated.folder)) is not None:
        task: Task[Any] = task_class(arguments, None, bag.label_names)
        evaluation = task.evaluation_of_scores(examples, bag.logits(*texts_and_pairs(examples)))  # type: ignore[attr-defined]
    else:
        task, evaluation = _ask_a_network(evaluated, task_class, arguments, examples)
    beside = task.guess_metrics(task.guess(examples), examples)
    lines = [
        f"{len(examples):,} {task.unit} of {options.input}",
        f"{'':<20}{'':>12}{'guess' if beside else '':>12}".rstrip(),
    ]
    for name, value in evaluation.compute().items():
        lines.append(
            f"{name.replace('_', ' '):<20}{value:>12.4f}" + (f"{beside[name]:>12.4f}" if name in beside else "")
        )
    if options.output is not None and accelerator.is_main_process:
        write_predictions(Path(options.output), task, examples, evaluation)
        lines.append(f"predictions: {options.output}")
    return lines


def _ask_a_network(
    evaluated: "Evaluated", task_class: "type[Task[Any]]", arguments: Any, examples: Sequence[Any]
) -> "tuple[Task[Any], TaskEvaluation]":
    from bertkit.stages.evaluating.positions import refuse_too_long
    from bertkit.tokenization import load_any_tokenizer
    from bertkit.training.evaluation import add_up_batches

    options, accelerator = evaluated.options, evaluated.accelerator
    model = evaluated.model(task_class.auto_class)
    tokenizer = load_any_tokenizer(evaluated.folder)
    task = task_class.from_config(arguments, tokenizer, model.config)
    refuse_too_long(arguments.max_length, model)
    batches = task.batches(examples, training=False)
    return task, add_up_batches(model, batches, accelerator, batch_size=options.batch_size, quiet=options.quiet)
