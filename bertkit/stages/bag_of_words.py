"""A bag of words through the stations of `bertkit finetune`: the same parts of the data, metrics, predictions and table."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser, nearest
from bertkit.tasks.labelled_data import LabelledText

if TYPE_CHECKING:
    import numpy as np

    from bertkit.embeddings.bag_of_words import BagOfWords, BagOfWordsArguments

FAMILY = "bow"
"""What a recipe calls it: `--model.family bow`."""


def finetune_bag_of_words(
    parts: Mapping[str, Sequence[LabelledText]],
    model: str | Mapping[str, Any],
    *,
    label_names: Sequence[str],
    output_dir: str | Path,
    tokenizer: str | None = None,
    recipe: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fit a bag of words and write what fine-tuning writes: `best/`, predictions_<part>.jsonl and results.json.

    There is one run whatever the seeds, for nothing in it is random. Of several values of C the part `eval` chooses, as it
    chooses the best checkpoint of a network.

    Args:
        parts: "train", "eval" and any others, as `load_parts` reads them.
        model: the recipe's section `model`: "bow", or {"family": "bow", ...} with settings of `BagOfWordsArguments`.
        label_names: the classes, by number.
        output_dir: folder of the run.
        tokenizer: folder or Hub name of a tokenizer, for `model.analyzer: wordpiece`.
        recipe: the resolved recipe as YAML, to keep with the model.
        quiet: no lines but warnings and errors.

    Returns:
        What stands in results.json.

    Raises:
        ConfigError: settings that there are not, or that do not go together.
        DataError: a label that is none of the classes, or one class only.
    """
    import torch

    from bertkit.embeddings.bag_of_words import BagOfWords
    from bertkit.stages.findings import report
    from bertkit.tasks.health import check_labels, check_texts
    from bertkit.tasks.predictions import write_predictions
    from bertkit.tasks.results import format_results, majority_label, majority_metrics, summarise
    from bertkit.tasks.sequence_classification import SequenceClassificationEvaluation
    from bertkit.tokenization import load_tokenizer
    from bertkit.training.checkpointing import writing_to, written_aside

    arguments = read_settings(model)
    folder = Path(output_dir)
    bag = BagOfWords(
        arguments,
        problem_type="single_label_classification",
        label_names=label_names,
        tokenizer=None if tokenizer is None else load_tokenizer(tokenizer),
    )
    report([*check_labels(parts), *check_texts(parts)], is_main_process=True)
    numbers = {name: number for number, name in enumerate(label_names)}
    inputs = {part: (*_texts(examples), _targets(examples, numbers)) for part, examples in parts.items()}

    before = time.process_time()
    bag.fit(*inputs["train"], evaluation=inputs["eval"])
    cpu_seconds = time.process_time() - before
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with written_aside(folder / "best") as aside:
            bag.save(aside)
            if recipe is not None:
                (aside / "recipe.yaml").write_text(recipe, encoding="utf-8")

    metrics = {}
    for part in [part for part in parts if part != "train"]:
        texts, pairs, targets = inputs[part]
        evaluation = SequenceClassificationEvaluation(targets, len(label_names))
        evaluation.totals["logits"] = torch.from_numpy(bag.logits(texts, pairs))
        evaluation.totals["evaluated"] += 1
        metrics[part] = evaluation.compute()
        with writing_to(folder):
            path = folder / f"predictions_{part}.jsonl"
            write_predictions(path, parts[part], evaluation.totals["logits"], label_names)
    runs = [{"seed": None, "best_step": None, "C": bag.C, "cpu_seconds": round(cpu_seconds, 2), **metrics}]
    guess = majority_label(parts["train"])
    results = {
        "labels": list(label_names),
        "examples": {part: len(examples) for part, examples in parts.items()},
        "runs": runs,
        **summarise(runs, list(metrics)),
        "majority_label": guess,
        "majority": {part: majority_metrics(guess, parts[part], label_names) for part in metrics},
    }
    path = folder / "results.json"
    with writing_to(folder):
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not quiet:
        shape = f"{bag.coefficients.shape[1]:,} features, C {bag.C:g}"
        print(f"bag of words: {shape}, fitted in {cpu_seconds:.1f} CPU-seconds\n\n{format_results(results)}\n")
        print(f"best checkpoint: {folder / 'best'}")
        print(f"results: {path}; predictions: predictions_*.jsonl beside the checkpoints")
    return results


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


def read_settings(model: str | Mapping[str, Any]) -> "BagOfWordsArguments":
    """Return the settings of a recipe's section `model` that names a bag of words.

    Args:
        model: "bow", or a mapping with `family: bow` and settings.

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


def load_bag_of_words(folder: str | Path) -> "BagOfWords | None":
    """Return the bag of words that a folder holds; None if it holds something else.

    Args:
        folder: a checkpoint folder.

    Raises:
        ConfigError: it holds a bag of words, and a file is damaged.
    """
    from bertkit.embeddings.bag_of_words import MODEL_TYPE, BagOfWords

    path = Path(folder) / "config.json"
    if not path.is_file() or f'"{MODEL_TYPE}"' not in path.read_text(encoding="utf-8"):
        return None
    return BagOfWords.load(Path(folder))


def _texts(examples: Sequence[LabelledText]) -> tuple[list[str], list[str] | None]:
    texts = [example.text for example in examples]
    return texts, None if examples[0].text_pair is None else [example.text_pair or "" for example in examples]


def _targets(examples: Sequence[LabelledText], numbers: Mapping[str, int]) -> "np.ndarray":
    """Return the class numbers of examples, (examples,)."""
    import numpy as np

    return np.array([numbers[example.label] for example in examples])
