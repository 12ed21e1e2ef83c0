"""`bertkit probe`: what each layer of a frozen checkpoint knows of a label, read off by a logistic regression."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser
from bertkit.features import Layer, Pooling
from bertkit.tasks.labelled_data import LabelledDataArguments

if TYPE_CHECKING:
    from jsonargparse import Namespace


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("probe", description="Classify labelled text by the frozen vectors of each layer.")
    parser.add_argument("checkpoint", type=str, help="Folder or Hub name of a bertkit checkpoint, or of a BERT.")
    parser.add_class_arguments(LabelledDataArguments, "data", help="The labelled texts")
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
        help="How a text's token states become one vector (`bertkit features`).",
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
    parser.add_argument("--output_dir", type=str | None, default=None, help="Folder that gets results.json.")
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar; the table is printed all the same.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Probe as the command line says.

    Raises:
        ValueError: whatever is wrong with the options, the checkpoint or the texts, as one line.
    """
    probe(build_parser().read(arguments)[0])


def probe(options: "Namespace") -> None:
    """Compute the vectors of all layers at once, fit a classifier on each layer's, and print how good they are.

    Args:
        options: as `build_parser` reads them.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.evaluation.probing import fit_probe
    from bertkit.features import FeatureExtractor, FeatureSettings, load_encoder, load_encoder_tokenizer
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.tasks.labelled_data import load_parts, most_frequent
    from bertkit.training.processes import join_processes

    disable_progress_bar()
    processes = join_processes()
    if processes.num_processes > 1:
        raise ConfigError(f"probing is for one process, not {processes.num_processes}")
    folder = checkpoint_folder(options.checkpoint)
    parts = load_parts(options.data)
    labels = {part: [example.label for example in examples] for part, examples in parts.items()}
    if len(set(labels["train"])) < 2:
        raise ConfigError(f"all of data.train is labelled {labels['train'][0]!r}; give text of two labels at least")
    model, tokenizer = load_encoder(folder).to(processes.device), load_encoder_tokenizer(folder)
    pairs = options.data.text_pair_column is not None
    settings: dict[str, Any] = {
        "pooling": options.pooling,
        "max_length": options.max_length,
        "batch_tokens": options.batch_tokens,
    }
    layers = list(options.layers if options.layers is not None else _all_layers(model, tokenizer))
    extractor = FeatureExtractor(model, tokenizer, FeatureSettings(layers=layers, **settings), pairs=pairs)
    vectors = {}
    for part, examples in parts.items():
        texts = [example.text for example in examples]
        seconds = [example.text_pair or "" for example in examples] if pairs else None
        vectors[part] = extractor(texts, seconds, quiet=options.quiet).vectors
    extractor.warn_of_losses(sum(map(len, labels.values())))
    guess = most_frequent(labels["train"])
    results: dict[str, Any] = {
        "checkpoint": options.checkpoint,
        **settings,
        "examples": {part: len(names) for part, names in labels.items()},
        "majority": {part: names.count(guess) / len(names) for part, names in labels.items()},
        "layers": [],
    }
    for place, layer in enumerate(layers):
        columns = columns_of_layer(extractor.layer_widths, place, extractor.width)
        found = fit_probe({part: array[:, columns] for part, array in vectors.items()}, labels)
        results["layers"].append({"layer": layer, "C": found.penalty, "accuracy": found.accuracy})
    if options.output_dir is not None:
        output = Path(options.output_dir).expanduser()
        output.mkdir(parents=True, exist_ok=True)
        (output / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(format_table(results))


def columns_of_layer(widths: Sequence[int], place: int, width: int) -> list[int]:
    """Return which numbers of a vector that joins layers come of one of them.

    Args:
        widths: of the layers that are joined.
        place: which of them.
        width: of the vector; more than the widths together where several poolings are joined, each of all layers.

    >>> columns_of_layer([2, 3], 0, width=10)
    [0, 1, 5, 6]
    """
    together, before = sum(widths), sum(widths[:place])
    return [start + before + number for start in range(0, width, together) for number in range(widths[place])]


def format_table(results: Mapping[str, Any]) -> str:
    """Lay the accuracies out, a line a layer.

    Args:
        results: as results.json has them.

    >>> layers = [{"layer": 0, "C": 0.1, "accuracy": {"train": 0.9, "eval": 0.75}}]
    >>> print(format_table({"majority": {"train": 0.5, "eval": 0.5}, "layers": layers}))
    accuracy            C    train     eval
    majority                0.5000   0.5000
    embeddings        0.1   0.9000   0.7500
    """
    parts = list(results["majority"])
    lines = [f"{'accuracy':<12}{'C':>9}" + "".join(f"{part:>9}" for part in parts)]
    rows = [("majority", "", results["majority"])]
    for row in results["layers"]:
        name = "embeddings" if row["layer"] == 0 else "mix" if row["layer"] == "mix" else f"layer {row['layer']}"
        rows.append((name, f"{row['C']:g}", row["accuracy"]))
    return "\n".join(
        [
            *lines,
            *(f"{name:<12}{c:>9}" + "".join(f"{values[part]:>9.4f}" for part in parts) for name, c, values in rows),
        ]
    )


def _all_layers(model: Any, tokenizer: Any) -> list[Layer]:
    from bertkit.features.encode import widths_of_states

    widths = widths_of_states(model, tokenizer)
    return [*range(len(widths)), *(["mix"] if len(set(widths)) == 1 else [])]
