"""`bertkit evaluate`: how good a checkpoint is, on labelled or running text, pairs of sentences or words, or translations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bertkit.config import ConfigError, RecipeParser, nearest
from bertkit.objectives import OBJECTIVES
from bertkit.stages.evaluating.measures import FINE_TUNED, MEASURES, TOKENIZER, Evaluated
from bertkit.tasks import TASKS

if TYPE_CHECKING:
    from jsonargparse import Namespace

_LANGUAGE_MODELS = ("AutoModelForPreTraining", "AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


@dataclass(kw_only=True)
class EvaluatedDataArguments:
    """How INPUT is read; what is not given is as in the recipe that the checkpoint was trained with."""

    text_column: str | None = None
    """Column that holds the text."""
    text_pair_column: str | None = None
    """Labelled text: column that holds the second text of a pair."""
    label_column: str | None = None
    """Labelled text: column that holds the label."""
    label_separator: str | None = None
    """Text with several labels: what stands between them in one field."""
    words_column: str | None = None
    """Tagged sentences: column that holds the words."""
    tags_column: str | None = None
    """Tagged sentences: column that holds the tags."""
    question_column: str | None = None
    """Questions: column that holds the question."""
    context_column: str | None = None
    """Questions: column that holds the text with the answer."""
    answers_column: str | None = None
    """Questions: column that holds the answers."""
    choices_columns: list[str] | str | None = None
    """Multiple choice: column of the choices, or the columns of one each."""
    header: bool | None = None
    """Labelled examples: whether the first line of a table names its columns."""
    form: str | None = None
    """Labelled examples: form of the file, where its ending does not tell."""
    source_column: str | None = None
    """Pairs: column that holds the source."""
    target_column: str | None = None
    """Pairs: column that holds the target."""
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
    measures = "; ".join(f"{name}: {measure.does}" for name, measure in MEASURES.items())
    parser = RecipeParser("evaluate", description="Evaluate a checkpoint.")
    parser.add_argument(
        "checkpoint",
        type=str,
        help="Folder or Hub name of the checkpoint, or a file of vectors; for the measure ngram a folder with a tokenizer "
        "will do.",
    )
    parser.add_argument(
        "input",
        type=str,
        help="For a fine-tuned checkpoint labelled examples, else running text, or pairs of a source and a target, in the "
        "forms of data.train in `bertkit finetune` and `bertkit pretrain`. For minimal pairs .jsonl, a file or a folder; for "
        "word similarity lines word, word, score; for analogies lines of four words, parted by lines `: section`.",
    )
    parser.add_argument(
        "--measure",
        type=str | None,
        default=None,
        help=f"What to measure; default: the first that such a checkpoint has. {measures}.",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="File for predictions (.jsonl) or translations (text)."
    )
    parser.add_argument(
        "--target", type=str | None, default=None, help="Text file of the targets; INPUT then is that of the sources."
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, help="Examples, or rows of running text, computed at once."
    )
    parser.add_argument(
        "--max_length",
        type=int | None,
        default=None,
        help="Longest labelled example or source, or length of a row or window of running text, in tokens; default: as in "
        "training, or what the model has positions for.",
    )
    parser.add_argument(
        "--stride",
        type=int | None,
        default=None,
        help="Likelihood: tokens that each window of a model with bounded context adds; default: half of the window.",
    )
    parser.add_argument("--num_beams", type=int, default=1, help="Translation: beams of the search; 1 is greedy.")
    parser.add_argument("--lowercase", type=bool, default=False, help="Translation: compare without case.")
    parser.add_argument(
        "--ngram_train",
        type=str | None,
        default=None,
        help="Ngram: running text to count n-grams in, read as INPUT is.",
    )
    parser.add_argument("--ngram_order", type=int, default=5, help="Ngram: most tokens of an n-gram, up to 6.")
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
    from bertkit.training.processes import join_processes

    for name in ("batch_size", "num_beams", "max_length", "stride", "ngram_order"):
        if recipe[name] is not None and recipe[name] < 1:
            raise ConfigError(f"--{name} is {recipe[name]}; it must be at least 1")
    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    join_processes()
    accelerator = Accelerator()
    folder = Path(recipe.checkpoint).expanduser()
    if folder.is_file():
        auto_class, kind = "AutoModel", "vectors"
    elif is_tokenizer_alone(folder):
        auto_class, kind = "AutoTokenizer", str(TOKENIZER)
    else:
        with accelerator.main_process_first():
            folder = checkpoint_folder(recipe.checkpoint)
        auto_class, kind = saved_auto_class(folder) or "AutoModel", kind_of(folder)
    measure = choose_measure(recipe, kind)
    if accelerator.num_processes > 1 and not MEASURES[measure].shares:
        raise ConfigError(f"the measure {measure} is for one process, not {accelerator.num_processes}")
    evaluated = Evaluated(recipe, folder, auto_class, kind, accelerator)
    accelerator.print("\n".join(MEASURES[measure].run(evaluated)))
    accelerator.end_training()


def is_tokenizer_alone(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer and no model.

    Args:
        folder: any folder, or none.
    """
    return (folder / "tokenizer.json").is_file() and not (folder / "config.json").is_file()


def kind_of(folder: Path) -> str:
    """Return what a checkpoint is to its evaluation.

    Args:
        folder: a checkpoint folder.

    Returns:
        The objective by which its model is pretrained; or `classifier`; or the family, of one that no objective trains; or
        `encoder`, for a model without a head that predicts text.
    """
    from bertkit.embeddings.bag_of_words import load_bag_of_words
    from bertkit.hub.checkpoints import saved_auto_class, saved_family
    from bertkit.models import FAMILIES

    if is_tokenizer_alone(folder):
        return TOKENIZER
    if load_bag_of_words(folder) is not None:
        return FINE_TUNED
    auto_class, family = saved_auto_class(folder), saved_family(folder)
    if auto_class in {task.auto_class for task in TASKS.values()}:
        return FINE_TUNED
    for name, objective in OBJECTIVES.items():
        if family in objective.families and auto_class in _LANGUAGE_MODELS:
            return name
    return family if family is not None and FAMILIES[family].made_by != "pretrain" else "encoder"


def choose_measure(recipe: "Namespace", kind: str) -> str:
    """Return what to measure of a kind of checkpoint.

    Args:
        recipe: as `build_parser` reads it.
        kind: as `kind_of` says.

    Raises:
        ConfigError: a measure that there is not, or not of this kind, or an option that says nothing to it.
    """
    fitting = [name for name, measure in MEASURES.items() if kind in measure.kinds]
    if kind == "encoder" and recipe.measure not in fitting:
        raise ConfigError(
            f"{recipe.checkpoint} holds neither a language model nor a head for a task; what can be evaluated of it are the "
            f"input embeddings, by --measure {' or '.join(fitting)}"
        )
    chosen = fitting[0] if recipe.measure is None else recipe.measure
    if chosen not in MEASURES:
        raise ConfigError(f"unknown --measure {chosen!r}{nearest(chosen, MEASURES)}")
    if chosen not in fitting:
        whom = {"vectors": "a file of vectors", TOKENIZER: "a tokenizer"}.get(kind, f"a {kind} model")
        raise ConfigError(f"--measure {chosen} is not for {whom}; it has {', '.join(fitting)}")
    defaults = build_parser().get_defaults()
    for option in {name for measure in MEASURES.values() for name in measure.takes} - {*MEASURES[chosen].takes}:
        if recipe[option] != defaults[option]:
            others = [name for name in fitting if option in MEASURES[name].takes]
            remedy = f"it goes with --measure {' or '.join(others)}" if others else "leave it out"
            raise ConfigError(f"--{option} says nothing to the measure {chosen}; {remedy}")
    given = [name for name, value in vars(recipe.data).items() if value is not None]
    if given and not MEASURES[chosen].reads_data:
        raise ConfigError(f"--data.{given[0]} says nothing to the measure {chosen}; leave it out")
    return chosen
