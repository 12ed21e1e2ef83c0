"""`bertkit evaluate`: how good a checkpoint is: a classifier on labelled text, a masked language model on running text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertkit.config import ConfigError, RecipeParser

if TYPE_CHECKING:
    from accelerate import Accelerator
    from jsonargparse import Namespace
    from transformers import PreTrainedTokenizerBase

_CLASSIFIER = "AutoModelForSequenceClassification"
_PRETRAINED = ("AutoModelForPreTraining", "AutoModelForMaskedLM")


@dataclass(kw_only=True)
class EvaluatedDataArguments:
    """How INPUT is read; what is not given is as in the recipe that the checkpoint was trained with."""

    text_column: str | None = None
    """Column that holds the text."""
    text_pair_column: str | None = None
    """Labelled text: column that holds the second text of a pair."""
    label_column: str | None = None
    """Labelled text: column that holds the label."""
    documents: Literal["blank_line", "file", "line"] | None = None
    """Running text: how a text file is cut into documents."""
    sentences: Literal["split", "line"] | None = None
    """Running text: how a paragraph becomes sentences."""
    language: str | None = None
    """Running text: its language, which the sentence splitter goes by."""
    streaming: bool | None = None
    """Running text: read a dataset of the Hub as it arrives."""
    num_workers: int | None = None
    """Running text: processes that tokenize."""
    cache_dir: str | None = None
    """Running text: folder that keeps tokenized text between runs."""


def build_parser() -> RecipeParser:
    """Build the parser of the verb."""
    parser = RecipeParser("evaluate", description="Evaluate a checkpoint on text, or on labelled text.")
    parser.add_argument("checkpoint", type=str, help="Folder or Hub name of the checkpoint.")
    parser.add_argument(
        "input",
        type=str,
        help="For a classifier labelled text, else running text; the forms are those of data.train in `bertkit finetune` "
        "and `bertkit pretrain`.",
    )
    parser.add_argument("--output", type=str | None, default=None, help="File for a classifier's predictions (.jsonl).")
    parser.add_argument(
        "--batch_size", type=int, default=64, help="Examples, or rows of running text, computed at once."
    )
    parser.add_argument(
        "--max_length",
        type=int | None,
        default=None,
        help="Longest labelled example, or length of a row of running text, in tokens; default: as in training.",
    )
    parser.add_class_arguments(EvaluatedDataArguments, "data", help="How the input is read")
    parser.add_argument(
        "--quiet", type=bool, default=False, help="No progress bar; the metrics are printed all the same."
    )
    return parser


def main(arguments: Sequence[str]) -> None:
    """Evaluate as the command line says.

    Raises:
        ValueError: whatever is wrong with the checkpoint or the input, as one line.
    """
    evaluate(build_parser().read(arguments)[0])


def evaluate(recipe: "Namespace") -> None:
    """Evaluate a checkpoint and print the metrics.

    Args:
        recipe: as `build_parser` reads it.
    """
    from accelerate import Accelerator
    from transformers.utils.logging import disable_progress_bar

    from bertkit.hub.checkpoints import checkpoint_folder, saved_auto_class
    from bertkit.tokenization import load_tokenizer
    from bertkit.training.processes import join_processes

    if recipe.batch_size < 1:
        raise ConfigError(f"--batch_size is {recipe.batch_size}; it must be at least 1")
    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    join_processes()
    accelerator = Accelerator()
    with accelerator.main_process_first():
        folder = checkpoint_folder(recipe.checkpoint)
    auto_class = saved_auto_class(folder)
    if auto_class == _CLASSIFIER:
        evaluate_checkpoint = _evaluate_classifier
    elif auto_class in _PRETRAINED:
        evaluate_checkpoint = _evaluate_masked
    else:
        raise ConfigError(
            f"{folder} holds neither a classifier nor a masked language model, which is what can be evaluated"
        )
    tokenizer = load_tokenizer(folder)
    lines = evaluate_checkpoint(recipe, folder, auto_class, tokenizer, accelerator)
    accelerator.print("\n".join(lines))
    accelerator.end_training()


def _evaluate_classifier(
    recipe: "Namespace",
    folder: Path,
    auto_class: str,
    tokenizer: "PreTrainedTokenizerBase",
    accelerator: "Accelerator",
) -> list[str]:
    from bertkit.hub.checkpoints import load_checkpoint
    from bertkit.tasks.labelled_data import LabelledDataArguments, read_labelled_texts
    from bertkit.tasks.predictions import write_predictions
    from bertkit.tasks.results import majority_label, majority_metrics
    from bertkit.tasks.sequence_classification import SequenceClassificationArguments, SequenceClassificationTask
    from bertkit.training.evaluation import add_up_batches

    trained = _recipe(folder)
    data = LabelledDataArguments(
        **_settings(LabelledDataArguments, trained, "data", recipe.data, without=("train", "eval", "test")),
        train=recipe.input,
    )
    model = load_checkpoint(folder, auto_class).to(accelerator.device)
    label_names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    settings = _settings(SequenceClassificationArguments, trained, "task")
    if recipe.max_length is not None:
        settings["max_length"] = recipe.max_length
    task = SequenceClassificationTask(SequenceClassificationArguments(**settings), tokenizer, label_names)
    _refuse_too_long(task.arguments.max_length, model.config.max_position_embeddings)
    with accelerator.main_process_first():
        examples = read_labelled_texts(recipe.input, data.columns, default_split="test")
    batches = task.batches(examples, training=False)
    evaluation = add_up_batches(model, batches, accelerator, batch_size=recipe.batch_size, quiet=recipe.quiet)
    guess = majority_label(examples)
    baseline = majority_metrics(guess, examples, label_names)
    lines = [f"{len(examples):,} examples of {recipe.input}", f"{'':<20}{'':>12}{'majority':>12}"]
    for name, value in evaluation.compute().items():
        beside = f"{baseline[name]:>12.4f}" if name in baseline else ""
        lines.append(f"{name.replace('_', ' '):<20}{value:>12.4f}{beside}")
    if recipe.output is not None and accelerator.is_main_process:
        write_predictions(Path(recipe.output), examples, evaluation.totals["logits"], label_names)
        lines.append(f"predictions: {recipe.output}")
    return lines


def _evaluate_masked(
    recipe: "Namespace",
    folder: Path,
    auto_class: str,
    tokenizer: "PreTrainedTokenizerBase",
    accelerator: "Accelerator",
) -> list[str]:
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore
    from bertkit.hub.checkpoints import load_checkpoint
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective, offers_pairs
    from bertkit.training.evaluation import evaluate_batches

    if recipe.output is not None:
        raise ConfigError(
            f"--output is for the predictions of a classifier, and {folder} holds a masked language model"
        )
    trained = _recipe(folder)
    data = DataArguments(
        **_settings(DataArguments, trained, "data", recipe.data, without=("train", "eval")), train=recipe.input
    )
    with accelerator.main_process_first():
        quiet = recipe.quiet or not accelerator.is_main_process
        store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=quiet)
    settings = _settings(MaskedArguments, trained, "objective")
    settings["next_sentence"] = auto_class == "AutoModelForPreTraining" and offers_pairs(store)
    if recipe.max_length is not None:
        settings["block_size"] = recipe.max_length
    objective = MaskedObjective(MaskedArguments(**settings), tokenizer)
    model = load_checkpoint(folder, objective.auto_class).to(accelerator.device)
    _refuse_too_long(objective.arguments.block_size, model.config.max_position_embeddings)
    batches = ObjectiveBatches(objective, store, batch_size=recipe.batch_size, training=False)
    metrics = evaluate_batches(model, batches, accelerator, batch_size=recipe.batch_size, quiet=recipe.quiet)
    mlm_loss = metrics[objective.loss_terms[0]]
    shown = {
        **metrics,
        "perplexity of masked tokens": math.exp(mlm_loss),
        "unigram floor of the loss": batches.loss_floor,
    }
    words = f"{store.metadata.num_words:,} words, {store.metadata.num_tokens:,} tokens of {recipe.input}"
    if auto_class != objective.auto_class:
        words += "; next sentences are not evaluated, which takes several documents of several sentences"
    return [words, *(f"{name.replace('_', ' '):<28}{value:>12.4f}" for name, value in shown.items())]


def _recipe(folder: Path) -> dict[str, Any]:
    """Return the recipe that a checkpoint was trained with; nothing for one that bertkit did not train."""
    from bertkit.config import load_yaml

    path = folder / "recipe.yaml"
    recipe = load_yaml(path) if path.is_file() else {}
    for section, settings in recipe.items():
        if section in ("data", "task", "objective") and not isinstance(settings, dict):
            raise ConfigError(f"{path} is damaged: {section} is {settings!r} and no mapping of settings")
    return recipe


def _settings(
    arguments_class: type,
    trained: Mapping[str, Any],
    section: str,
    given: EvaluatedDataArguments | None = None,
    *,
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the fields of `arguments_class` that the checkpoint's recipe or the command line gives, the latter first.

    Raises:
        ConfigError: the command line gives one that this kind of checkpoint does not know.
    """
    known = [field.name for field in fields(arguments_class) if field.name not in without]
    chosen = {name: value for name, value in trained.get(section, {}).items() if name in known}
    for name, value in vars(given).items() if given is not None else ():
        if value is not None:
            if name not in known:
                raise ConfigError(f"--{section}.{name} says nothing to this kind of checkpoint; leave it out")
            chosen[name] = value
    return chosen


def _refuse_too_long(length: int, positions: int) -> None:
    if length > positions:
        raise ConfigError(f"--max_length is {length}, but the model takes {positions} tokens; lower it")
