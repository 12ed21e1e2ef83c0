"""`bertkit probe`: what each layer of a frozen checkpoint knows of a task, read off by a linear model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser, choose, value_of
from bertkit.features import Layer, Pooling
from bertkit.stages.finetuning.frozen_vectors import PROBED, Pairs
from bertkit.tasks import TASKS

if TYPE_CHECKING:
    from jsonargparse import Namespace


def build_parser(arguments: Sequence[str]) -> RecipeParser:
    """Build the parser of the verb's options; which task it is decides how the data is read."""
    task = choose("task", value_of("task", arguments, PROBED[0]), {name: TASKS[name] for name in PROBED})
    parser = RecipeParser("probe", description="Do a task with the frozen vectors of each layer and a linear model.")
    parser.add_argument("checkpoint", type=str, help="Folder or Hub name of a bertkit checkpoint, or of a BERT.")
    parser.add_argument(
        "--task",
        type=str,
        default=PROBED[0],
        help="sequence_classification or token_classification, by logistic regression, the latter on the vector of each "
        "word; or regression, by ridge regression.",
    )
    parser.add_class_arguments(task.data_class, "data", help="The labelled examples, as bertkit finetune reads them")
    parser.add_argument(
        "--layers",
        type=list[Layer] | None,
        default=None,
        help="Layers to probe, as [0,-1,mix]: 0 is the embeddings, -1 the last layer, mix the scalar mix of all (their mean, "
        "if no task has learned it). Default: every layer, and the mix where all are of one width.",
    )
    parser.add_argument(
        "--pooling",
        type=Pooling,
        default="mean",
        help="How a text's token states become one vector (`bertkit features`); those of a word are averaged.",
    )
    parser.add_argument(
        "--pairs",
        type=Pairs,
        default="apart",
        help="Of pairs of texts: each read by itself, a pair's vector then being both, their difference and their product; or "
        "together, as one sequence.",
    )
    parser.add_argument(
        "--max_length",
        type=int | None,
        default=None,
        help="Longest text (or pair) in tokens; longer ones are cut. By default what the model takes.",
    )
    parser.add_argument(
        "--batch_tokens", type=int, default=4096, help="Tokens computed at a time; changes memory and speed only."
    )
    parser.add_argument(
        "--output_dir",
        type=str | None,
        default=None,
        help="Folder that gets results.json and the predictions of the layer that is best on the evaluation part.",
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar; the table is printed all the same.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Probe as the command line says.

    Raises:
        ValueError: whatever is wrong with the options, the checkpoint or the texts, as one line.
    """
    probe(build_parser(arguments).read(arguments)[0])


def probe(options: "Namespace") -> None:
    """Compute the vectors of all layers at once, fit a linear model on each layer's, and print how good they are.

    Args:
        options: as `build_parser` reads them.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.features import load_encoder, load_encoder_tokenizer
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.stages.finetuning.frozen_vectors import FrozenVectors, do_task
    from bertkit.tasks.predictions import write_predictions
    from bertkit.tasks.sources import load_parts
    from bertkit.training.checkpointing import writing_to
    from bertkit.training.processes import join_processes

    disable_progress_bar()
    processes = join_processes()
    if processes.num_processes > 1:
        raise ConfigError(f"probing is for one process, not {processes.num_processes}")
    folder = checkpoint_folder(options.checkpoint)
    parts = load_parts(options.data)
    task_class: Any = TASKS[options.task]
    task = task_class.from_examples(task_class.arguments_class(), None, parts["train"])
    for examples in parts.values():
        task.targets(examples)  # refuses labels that training has not
    model, tokenizer = load_encoder(folder).to(processes.device), load_encoder_tokenizer(folder)
    layers = list(options.layers if options.layers is not None else _all_layers(model, tokenizer))
    is_pair = getattr(options.data, "text_pair_column", None) is not None
    settings: dict[str, Any] = {
        "pooling": options.pooling,
        "pairs": options.pairs if is_pair else None,
        "max_length": options.max_length,
        "batch_tokens": options.batch_tokens,
    }
    encoder = FrozenVectors(model, tokenizer, task=options.task, layers=layers, **settings)
    vectors = {part: encoder.of(examples, quiet=options.quiet) for part, examples in parts.items()}
    encoder.warn_of_losses(sum(map(len, parts.values())))
    guess = task.guess(parts["train"])
    found = []
    for place in range(len(layers)):
        of_layer = {part: encoder.of_layer(sides, place) for part, sides in vectors.items()}
        penalty, evaluations = do_task(task, of_layer, parts)
        metrics = {part: evaluation.compute() for part, evaluation in evaluations.items()}
        found.append((metrics["eval"][task.metric_names[0]], penalty, metrics, evaluations))
    best = max(range(len(layers)), key=lambda place: found[place][0])  # the first of equals
    results: dict[str, Any] = {
        "checkpoint": options.checkpoint,
        "task": options.task,
        **settings,
        "metric": task.metric_names[0],
        "examples": {part: len(examples) for part, examples in parts.items()},
        "best_guess": guess,
        "guess": {part: task.guess_metrics(guess, examples) for part, examples in parts.items()},
        "best_layer": layers[best],
        "layers": [
            {"layer": layer, "C": penalty, **metrics}
            for layer, (_, penalty, metrics, _) in zip(layers, found, strict=True)
        ],
    }
    if options.output_dir is not None:
        output = Path(options.output_dir).expanduser()
        with writing_to(output):
            output.mkdir(parents=True, exist_ok=True)
            text = json.dumps(results, indent=2, ensure_ascii=False)
            (output / "results.json").write_text(f"{text}\n", encoding="utf-8")
            for part in [part for part in parts if part != "train"]:
                write_predictions(output / f"predictions_{part}.jsonl", task, parts[part], found[best][3][part])
    print(format_table(results))


def format_table(results: Mapping[str, Any]) -> str:
    """Lay the task's first metric out, a line a layer.

    Args:
        results: as results.json has them.

    >>> layers = [{"layer": 0, "C": 0.1, "train": {"accuracy": 0.9}, "eval": {"accuracy": 0.75}}]
    >>> guess = {"train": {"accuracy": 0.5}, "eval": {"accuracy": 0.5}}
    >>> print(format_table({"metric": "accuracy", "guess": guess, "layers": layers}))
    accuracy            C    train     eval
    guess                   0.5000   0.5000
    embeddings        0.1   0.9000   0.7500
    """
    metric, parts = results["metric"], list(results["guess"])
    lines = [f"{metric:<12}{'C':>9}" + "".join(f"{part:>9}" for part in parts)]
    rows = [("guess", "", results["guess"])]
    for row in results["layers"]:
        name = "embeddings" if row["layer"] == 0 else "mix" if row["layer"] == "mix" else f"layer {row['layer']}"
        rows.append((name, f"{row['C']:g}", row))
    for name, penalty, of_part in rows:
        lines.append(f"{name:<12}{penalty:>9}" + "".join(f"{of_part[part][metric]:>9.4f}" for part in parts))
    return "\n".join(lines)


def _all_layers(model: Any, tokenizer: Any) -> list[Layer]:
    from bertkit.features.encode import widths_of_states

    widths = widths_of_states(model, tokenizer)
    return [*range(len(widths)), *(["mix"] if len(set(widths)) == 1 else [])]
