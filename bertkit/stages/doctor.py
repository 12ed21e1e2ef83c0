"""`bertkit doctor`: what a recipe would do with its data, and what is wrong with either, before a step is taken."""

import math
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.config import ConfigError, RecipeParser, config_files, find_recipe, load_yaml, overrule, value_of
from bertkit.stages import finetune, pretrain
from bertkit.stages.model_section import SIZES
from bertkit.training.arguments import LENGTHS

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.data.health import Finding
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.batches import Batches
    from bertkit.training.lora import Lora

_TRIAL_STEPS = 5
_FINETUNING_KEYS = ("task", "from_scratch", "seeds")


def main(arguments: Sequence[str]) -> None:
    """Examine a recipe as the command line says: that of `bertkit pretrain`, or of `bertkit finetune`.

    Raises:
        ConfigError: something says stop.
    """
    arguments = overrule(arguments, LENGTHS, SIZES)
    verb = finetune if _is_finetuning(arguments) else pretrain
    arguments = ["--output_dir", "", *arguments]  # nothing is written there
    parser: RecipeParser = verb.build_parser(arguments)
    parser.prog = "bertkit doctor"
    parser.description = (
        "Examine a recipe of `bertkit pretrain` or `bertkit finetune` and its data; nothing is trained."
    )
    recipe, _ = parser.read(arguments)
    doctor(recipe)


def _is_finetuning(arguments: Sequence[str]) -> bool:
    """Return whether a recipe fine-tunes: it has what only that has, or starts from a checkpoint without an objective."""
    keys = {argument[2:].split("=")[0].split(".")[0] for argument in arguments if argument.startswith("--")}
    for path in config_files(arguments):
        keys |= set(load_yaml(find_recipe(path)))
    if "objective" in keys:
        return False
    if value_of("model.from", arguments, "null") != "null":
        return True
    return any(key in keys for key in _FINETUNING_KEYS) or any(
        argument.split("=")[0] in ("--data.test", "--data.label_column") for argument in arguments
    )


def doctor(recipe: "Namespace") -> None:
    """Examine a recipe and print what is found; on several processes the trial steps are those of a run on as many.

    Args:
        recipe: as `bertkit.stages.pretrain` or `bertkit.stages.finetune` reads it.

    Raises:
        ConfigError: something says stop.
    """
    from transformers.utils.logging import disable_progress_bar

    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.data.errors import DataError
    from bertkit.data.health import Finding
    from bertkit.training.processes import join_processes

    disable_progress_bar()
    processes = join_processes()
    findings = _Report(processes)
    examine = _examine_labelled_texts if "task" in recipe else _examine_corpus
    try:
        examine(recipe, processes, findings)
    except (ConfigError, DataError) as error:  # what training would refuse is a verdict as well
        findings.add(Finding("stop", "recipe" if isinstance(error, ConfigError) else "data", str(error)))
        raise
    processes.destroy_process_group()
    if findings.stops:
        raise ConfigError(
            f"{len(findings.stops)} of {len(findings)} findings say stop: {findings.stops[0].in_a_sentence()}"
        )
    warnings = sum(finding.verdict == "warning" for finding in findings)
    processes.print(f"nothing says stop; {warnings} warning{'s' if warnings != 1 else ''}")


class _Report(list["Finding"]):
    """Findings, printed as they are made: some take a while."""

    def __init__(self, processes: "PartialState") -> None:
        super().__init__()
        self.print = processes.print

    def add(self, *findings: "Finding") -> None:
        for finding in findings:
            self.append(finding)
            self.print(finding, flush=True)

    @property
    def stops(self) -> "list[Finding]":
        return [finding for finding in self if finding.verdict == "stop"]


def _examine_corpus(recipe: "Namespace", processes: "PartialState", findings: "_Report") -> None:
    import numpy as np

    from bertkit.data.arguments import DEFAULT_LANGUAGE, PairDataArguments
    from bertkit.data.health import check_duplicates, check_encoding, check_language, histogram, sample
    from bertkit.data.splits import is_store, split_documents

    quiet = recipe.quiet or not processes.is_main_process
    prepared = pretrain.prepare(
        recipe, processes, None, say=lambda found: findings.add(*found), quiet=quiet, text_first=True
    )
    store, longest = prepared.train_store, prepared.objective.max_positions
    findings.add(_limits(prepared.model, prepared.tokenizer, longest))
    for name, starts in (("documents", store.document_starts), ("sentences", store.sentence_starts)):
        findings.print(f"\ntokens    {name}\n" + "\n".join(histogram(np.diff(starts))))
    findings.print("")
    trial: list[Finding] = []
    if not findings.stops:
        len(prepared.eval_batches)  # lays them out, which refuses text that cannot be evaluated
        trial = _trial(prepared.model, prepared.train_batches, recipe.training, unit="row")  # text will fill the memory
    if not processes.is_main_process:
        return  # one looks at the text
    if is_store(recipe.data.train):
        findings.print("the text itself is not looked at: data.train is a token store")
    else:
        documents = sample(split_documents(recipe.data)[0], store.metadata.num_documents)
        if len(documents) < store.metadata.num_documents:
            findings.print(f"looked at below: {len(documents):,} of the documents")
        is_pairs = isinstance(recipe.data, PairDataArguments)  # then the language is that of the targets
        texts = [document[-1:] for document in documents] if is_pairs else documents
        findings.add(*check_encoding(documents), *check_language(texts, recipe.data.language or DEFAULT_LANGUAGE))
        findings.add(*check_duplicates(documents))
    findings.add(*trial)


def _examine_labelled_texts(recipe: "Namespace", processes: "PartialState", findings: "_Report") -> None:
    import numpy as np

    from bertkit.data.health import histogram
    from bertkit.stages import model_section
    from bertkit.stages.finetuning import task_model
    from bertkit.tasks import TASKS
    from bertkit.tasks.health import cheap_checks
    from bertkit.tasks.sources import load_parts
    from bertkit.tokenization import load_any_tokenizer

    auto_class = TASKS[recipe.task.name].auto_class
    named = recipe.model.pop("from", None)
    start_from = None if named is None else task_model.folder_to_start_from(named, auto_class)
    if start_from is None and recipe.tokenizer is None:
        raise ConfigError("name a checkpoint by --model.from, or give --tokenizer and --model.family")
    tokenizer = load_any_tokenizer(recipe.tokenizer or str(start_from), require=("pad_token",))
    parts = load_parts(recipe.data)
    of_examples = TASKS[recipe.task.name].checks(parts)
    if any(finding.verdict == "stop" for finding in of_examples):
        findings.add(*of_examples)
        return
    task = TASKS[recipe.task.name].from_examples(recipe.task, tokenizer, parts["train"])
    seed = recipe.training.seed
    batches = {part: task.batches(examples, seed=seed, training=part == "train") for part, examples in parts.items()}
    findings.add(*cheap_checks(task, parts, batches))
    findings.print(
        f"\ntokens    training {task.unit}\n" + "\n".join(histogram(np.diff(batches["train"].tokenized.starts))) + "\n"
    )
    settings = {**recipe.model, **task.config_settings}
    length = recipe.task.max_length
    if start_from is None:
        model = model_section.build_fresh_model(settings, task.auto_class, tokenizer, max_positions=length, seed=seed)
    else:
        model = task_model.build_task_model(
            start_from,
            settings,
            task.auto_class,
            tokenizer,
            max_length=length,
            from_scratch=recipe.from_scratch,
            seed=seed,
        )
    freeze = recipe.training.freeze
    lora = task_model.add_lora(model, recipe.lora, freeze=freeze, seed=seed, start_from=start_from, resume_from=None)
    findings.add(_limits(model, tokenizer, length))
    if not findings.stops:
        findings.add(*_trial(model, batches["train"], recipe.training, unit="example", lora=lora))


def _limits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", longest: int | None) -> "Finding":
    """Say how near the recipe comes to what the model can take; a model too small was refused when it was built."""
    from bertkit.data.health import Finding

    positions = getattr(model.config, "max_position_embeddings", None)  # a recurrent model counts none
    takes = "any number" if positions is None else f"up to {positions:,}"
    length = "no length is set" if longest is None else f"{longest:,} tokens at once are asked for"
    what = f"{len(tokenizer):,} tokens, the model has {model.config.vocab_size:,}; {length}, it takes {takes}"
    return Finding("ok", "limits", what)


def _trial(
    model: "PreTrainedModel",
    batches: "Batches",
    arguments: "TrainingArguments",
    *,
    unit: str,
    lora: "Lora | None" = None,
) -> "list[Finding]":
    """Make a few steps in a folder that is thrown away, and tell from them time, memory and size of the run."""
    import json

    import torch

    from bertkit.data.health import Finding
    from bertkit.models.layer_groups import layer_groups
    from bertkit.training.trainer import Trainer

    trial = replace(
        arguments, max_steps=_TRIAL_STEPS, num_train_epochs=None, max_time=None, logging_steps=1, save_steps=None,
        eval_steps=None, report_to="none", resume_from_checkpoint=None, train_batch_size_start=None,
        batch_size_warmup_steps=0, lr_scheduler_type="constant", warmup_steps=0, loss_policy="stop", loss_spike_factor=None,
        gradual_unfreezing=False,  # the later steps are the dearer ones
        learning_rate=arguments.learning_rate if arguments.learning_rate != "find" else 1e-4,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model, batches, trial, output_dir=folder, layer_groups=layer_groups(model), lora=lora, quiet=True
        )
        trainer.train()
        if not trainer.accelerator.is_main_process:
            return []
        entries = [json.loads(line) for line in (Path(folder) / "log.jsonl").open(encoding="utf-8")]
        sizes = {path.name: path.stat().st_size for path in (Path(folder) / "last").rglob("*") if path.is_file()}
    tokens = trainer.state.tokens_seen / _TRIAL_STEPS
    seconds = statistics.median(tokens / entry["tokens_per_second"] for entry in entries[1:])
    if trainer.accelerator.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)

    batch_sizes = arguments.batch_sizes(batches.tokens_per_example)
    steps: float
    if arguments.max_steps is not None:
        steps = arguments.max_steps
    elif arguments.num_train_epochs is not None:
        steps = batch_sizes.steps_for(math.ceil(arguments.num_train_epochs * len(batches)))
    else:
        steps = (arguments.time_budget or 0) / seconds
    epochs = batch_sizes.before(int(steps)) / len(batches)
    final = batch_sizes.final
    what = (
        f"{steps:,.0f} steps of {final} {unit}s ({tokens:,.0f} tokens): {epochs:,.1f} epochs of {len(batches):,} {unit}s; "
        f"about {_duration(steps * seconds)} without evaluations, {seconds:.2f} s a step on {trainer.accelerator.device}, "
        f"{trainer.accelerator.num_processes} process(es)"
    )
    findings = [Finding("ok", "training", what)]
    if unit == "row" and epochs > 100:
        findings = [
            Finding("warning", "training", what, "so many passes are learned by heart: take fewer steps, or more text")
        ]
    elif epochs < 1:
        findings = [Finding("warning", "training", what, "part of the data is never seen")]
    findings.append(Finding("ok", "memory", f"{memory:.1f} GB at most in these steps, each process"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kept = arguments.save_total_limit
    weights = sizes["model.safetensors"]
    findings.append(
        Finding(
            "ok",
            "size",
            f"{parameters:,} parameters; a checkpoint takes {_bytes(sum(sizes.values()))}, {_bytes(weights)} "
            f"of them weights; {'all are' if kept is None else f'at most {max(kept, 2)} are'} kept",
        )
    )
    if kept is None and arguments.save_steps:
        total = sum(sizes.values()) * steps / arguments.save_steps
        if total > 10 * 2**30:
            findings.append(Finding("warning", "size", f"all checkpoints together take {_bytes(total)}", "set a limit"))
    return findings


def _duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> _duration(5), _duration(600), _duration(86400)
    ('5 s', '10 min', '24.0 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _bytes(number: float) -> str:
    """Return a size as people say it.

    >>> _bytes(3_000_000)
    '2.9 MB'
    """
    return f"{number / 2**20:.1f} MB" if number < 2**30 else f"{number / 2**30:.1f} GB"
