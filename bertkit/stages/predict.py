"""`bertkit predict`: a checkpoint and new text -> what the model says of it, as lines or as JSON."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertkit.config import ConfigError, RecipeParser
from bertkit.prediction import PredictionArguments
from bertkit.stages.evaluate import EvaluatedDataArguments

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from bertkit.prediction import Predictor

_READERS = ("text_column", "form", "header", "language")  # what says how the input of a language model is read


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("predict", description="Label, tag, answer, fill, translate or continue new text.")
    parser.add_argument("checkpoint", type=str, help="Folder or Hub name of the checkpoint.")
    parser.add_argument(
        "input",
        type=str,
        help="File of what it is asked about, or - for standard input: a text a line (.txt), records with the columns that it "
        "was trained on (.jsonl, .csv, .tsv, .parquet; also .gz), a .conll or a SQuAD .json file. Masked language models take "
        "texts with the mask token, causal ones beginnings of texts, models that translate sources.",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="File of the predictions; default: standard output."
    )
    parser.add_argument(
        "--format",
        type=Literal["lines", "json"] | None,
        default=None,
        help="lines: short, as the task has it (label, probability and text; a word and its tag; the answer; the translation). "
        "json: an object with all probabilities a line, as in a predictions file. Default: json for an --output that ends in "
        ".jsonl or .json, else lines.",
    )
    parser.add_class_arguments(PredictionArguments, as_group=True)
    parser.add_class_arguments(EvaluatedDataArguments, "data", help="How the input is read")
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Predict as the command line says.

    Raises:
        ValueError: whatever is wrong with the checkpoint or the input, as one line.
    """
    predict(build_parser().read(arguments)[0])


def predict(options: "Namespace") -> None:
    """Ask a checkpoint about a file, and write what it says.

    Args:
        options: as `build_parser` reads them.
    """
    from dataclasses import fields

    from transformers.utils.logging import disable_progress_bar

    from bertkit.prediction import Predictor

    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    settings = {field.name: options[field.name] for field in fields(PredictionArguments)}
    if options.output is not None and not Path(options.output).absolute().parent.is_dir():
        raise ConfigError(f"--output {options.output}: there is no folder {Path(options.output).parent}; make it first")
    predictor = Predictor(options.checkpoint, quiet=options.quiet, **settings)
    given = {name: value for name, value in vars(options.data).items() if value is not None}
    if predictor.task_class is not None:
        predictions = predictor.predict(predictor.data(**given).read_inputs(options.input))
    else:
        predictions = predictor(_texts(options.input, given))
    in_json = options.format == "json" or (
        options.format is None and options.output is not None and options.output.endswith((".jsonl", ".json"))
    )
    lines = [json.dumps(one, ensure_ascii=False) if in_json else in_short(predictor, one) for one in predictions]
    text = "".join(f"{line}\n" for line in lines)
    if options.output is None:
        sys.stdout.write(text)
        return
    Path(options.output).write_text(text, encoding="utf-8")
    if not options.quiet:
        print(f"{len(predictions):,} predictions are in {options.output}")


def in_short(predictor: "Predictor", prediction: dict[str, Any]) -> str:
    """Return what a prediction says, in a line or as the task's files have it.

    Args:
        predictor: who said it.
        prediction: what `Predictor` returned of an input.
    """
    if predictor.task_class is not None:
        return predictor.task.in_short(prediction)
    if "predictions" in prediction:  # of masks
        return "\t".join(" ".join(guess["token"] for guess in mask) for mask in prediction["predictions"])
    return " ".join(prediction["prediction"].split())


def _texts(source: str, given: dict[str, Any]) -> list[str]:
    """Read the texts that a language model is asked about."""
    from bertkit.tasks.labelled_data import LabelledDataArguments

    for name in given:
        if name not in _READERS:
            raise ConfigError(f"--data.{name} says nothing to this kind of checkpoint; leave it out")
    return [example.text for example in LabelledDataArguments(train=[], **given).read_inputs(source)]
