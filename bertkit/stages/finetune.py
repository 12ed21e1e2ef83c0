"""`bertkit finetune`: a checkpoint and labelled texts -> a checkpoint for the task, its predictions and how good they are."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser, choose, overrule, spell_out_switches, value_of
from bertkit.stages import model_section, task_model
from bertkit.tasks import TASKS
from bertkit.tasks.labelled_data import LabelledDataArguments, LabelledText
from bertkit.training.arguments import LENGTHS, TrainingArguments
from bertkit.training.lora_arguments import LoraArguments

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace

    from bertkit.tasks.sequence_classification import SequenceClassificationBatches, SequenceClassificationTask
    from bertkit.training.trainer import Trainer

_DEFAULTS = {"training.learning_rate": 5e-5, "training.warmup_steps": 0.1}  # BERT's own, for its size


def build_parser(arguments: Sequence[str]) -> RecipeParser:
    """Build the parser of a fine-tuning recipe; which task it has decides which settings there are."""
    task = choose("task", value_of("task.name", arguments, "sequence_classification"), TASKS)
    parser = RecipeParser("finetune", description="Fine-tune a checkpoint on labelled text.", free=["model"])
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
    parser.add_class_arguments(LabelledDataArguments, "data", help="The labelled texts")
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
    arguments = overrule(LENGTHS, arguments)
    finetune(*build_parser(arguments).read(arguments))


def finetune(recipe: "Namespace", resolved: str) -> None:
    """Walk the road from labelled text to a checkpoint for the task, once for each seed.

    Args:
        recipe: as `build_parser` reads it.
        resolved: the same as YAML, to keep with the checkpoints.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.training.processes import join_processes
    from bertkit.training.run_folder import run_folder

    disable_progress_bar()  # one for every file of a checkpoint, in the midst of ours
    processes = join_processes()
    resume_from = recipe.training.resume_from_checkpoint
    with ExitStack() as stack:
        checkpoints = {
            seed: stack.enter_context(run_folder(folder, resume_from_checkpoint=resume_from, processes=processes))
            for seed, folder in _run_folders(recipe).items()
        }
        _train(recipe, resolved, processes, checkpoints)
    processes.destroy_process_group()


def _train(
    recipe: "Namespace", resolved: str, processes: "PartialState", checkpoints: Mapping[int, Path | None]
) -> None:
    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.stages.findings import report
    from bertkit.tasks.health import cheap_checks
    from bertkit.tasks.labelled_data import load_parts
    from bertkit.tasks.predictions import write_predictions
    from bertkit.tasks.results import format_results, majority_label, majority_metrics, summarise
    from bertkit.tasks.sequence_classification import label_names
    from bertkit.tokenization import load_tokenizer
    from bertkit.training.checkpointing import writing_to

    quiet = recipe.quiet or not processes.is_main_process
    folders = _run_folders(recipe)
    with processes.main_process_first():
        auto_class = TASKS[recipe.task.name].auto_class
        named = recipe.model.pop("from", None)
        start_from = None if named is None else task_model.folder_to_start_from(named, auto_class)
        if start_from is None and (recipe.tokenizer is None or recipe.from_scratch):
            raise ConfigError(
                "name a checkpoint by --model.from, or give --tokenizer and --model.family for a model with fresh weights"
            )
        tokenizer = load_tokenizer(recipe.tokenizer or str(start_from), require=("cls_token", "pad_token"))
        if recipe.tokenizer and start_from and not recipe.from_scratch:
            remedy = "leave it out, or train --from_scratch true"
            task_model.refuse_foreign_tokenizer(tokenizer, start_from, remedy=remedy)
        for checkpoint in filter(None, checkpoints.values()):
            remedy = "go on with that one, or start anew with another --output_dir"
            task_model.refuse_foreign_tokenizer(tokenizer, checkpoint, remedy=remedy)
        parts = load_parts(recipe.data)
    task = TASKS[recipe.task.name](recipe.task, tokenizer, label_names(parts["train"]))
    eval_batches = {part: task.batches(examples, training=False) for part, examples in parts.items() if part != "train"}

    runs: list[dict[str, Any]] = []
    for seed, folder in folders.items():
        train_batches = task.batches(parts["train"], seed=seed, training=True)
        if not quiet and not runs:
            print(_describe(parts, task.label_names))
        if not runs:
            report(
                cheap_checks(task, parts, {"train": train_batches, **eval_batches}),
                is_main_process=processes.is_main_process,
            )
        if not quiet and len(folders) > 1:
            print(f"\nseed {seed}, in {folder}", flush=True)
        trainer = _build_trainer(
            recipe,
            resolved,
            task=task,
            seed=seed,
            output_dir=folder,
            start_from=start_from,
            resume_from=checkpoints[seed],
            train_batches=train_batches,
            eval_batches=eval_batches["eval"],
            is_main_process=processes.is_main_process,
            quiet=quiet,
        )
        trainer.train()
        if trainer.stopped_by is not None:
            return
        evaluations = _evaluate_best(trainer, task, eval_batches)
        if processes.is_main_process:
            with writing_to(folder):
                for part, evaluation in evaluations.items():
                    path = folder / f"predictions_{part}.jsonl"
                    write_predictions(path, parts[part], evaluation.totals["logits"], task.label_names)
        metrics = {part: evaluation.compute() for part, evaluation in evaluations.items()}
        runs.append({"seed": seed, "best_step": trainer.state.best_step, **metrics})

    if processes.is_main_process:
        guess = majority_label(parts["train"])
        results = {
            "labels": task.label_names,
            "examples": {part: len(examples) for part, examples in parts.items()},
            "runs": runs,
            **summarise(runs, list(eval_batches)),
            "majority_label": guess,
            "majority": {part: majority_metrics(guess, parts[part], task.label_names) for part in eval_batches},
        }
        path = Path(recipe.output_dir) / "results.json"
        with writing_to(path.parent):
            path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if not quiet:
            print(f"\n{format_results(results)}\n")
            for seed, folder in folders.items():
                print(f"best checkpoint{f' of seed {seed}' if len(folders) > 1 else ''}: {folder / 'best'}")
            print(f"results: {path}; predictions: predictions_*.jsonl beside the checkpoints")


def _run_folders(recipe: "Namespace") -> dict[int, Path]:
    """Return the folder of each seed's run: `output_dir` itself, or one in it for each of `--seeds`."""
    output_dir = Path(recipe.output_dir)
    if recipe.seeds is None:
        return {recipe.training.seed: output_dir}
    if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
        raise ConfigError(f"--seeds is {recipe.seeds}; give one or more, each once, as [0,1,2]")
    if recipe.training.resume_from_checkpoint not in (None, "auto"):
        raise ConfigError("with --seeds, training.resume_from_checkpoint takes `auto` only: each run has its own")
    return {seed: output_dir / f"seed-{seed}" for seed in recipe.seeds}


def _build_trainer(
    recipe: "Namespace",
    resolved: str,
    *,
    task: "SequenceClassificationTask",
    seed: int,
    output_dir: Path,
    start_from: Path | None,
    resume_from: Path | None,
    train_batches: "SequenceClassificationBatches",
    eval_batches: "SequenceClassificationBatches",
    is_main_process: bool,
    quiet: bool,
) -> "Trainer":
    import yaml

    from bertkit.hub.model_card import ModelCard
    from bertkit.models.layer_groups import layer_groups
    from bertkit.stages.checkpoint_extras import extras_writer
    from bertkit.stages.findings import report
    from bertkit.stages.recipe_changes import check_recipe
    from bertkit.training.trainer import Trainer

    settings = {**recipe.model, **task.config_settings}
    if resume_from is not None:
        model = task_model.load_resumed_task_model(resume_from, settings, task.auto_class)
    elif start_from is not None:
        model = task_model.build_task_model(
            start_from,
            settings,
            task.auto_class,
            task.tokenizer,
            max_length=recipe.task.max_length,
            from_scratch=recipe.from_scratch,
            seed=seed,
        )
    else:
        model = model_section.build_fresh_model(
            settings, task.auto_class, task.tokenizer, max_positions=recipe.task.max_length, seed=seed
        )

    lora = task_model.add_lora(
        model,
        recipe.lora,
        freeze=recipe.training.freeze,
        seed=seed,
        start_from=start_from,
        resume_from=resume_from,
    )

    # The recipe of this run alone: it repeats the run, whatever other seeds there were.
    run_recipe = {**yaml.safe_load(resolved), "output_dir": str(output_dir), "seeds": None}
    run_recipe["training"]["seed"] = seed
    run_yaml = yaml.safe_dump(run_recipe, sort_keys=False, allow_unicode=True)
    if resume_from is not None:
        report(check_recipe(resume_from, run_yaml), is_main_process=is_main_process)
    labels = len(task.label_names)
    card = ModelCard(
        auto_class=task.auto_class,
        pipeline_tag=task.pipeline_tag,
        language=recipe.data.language,
        parameters=model.num_parameters(),
        data={
            "train": {"examples": len(train_batches), "labels": labels},
            "eval": {"examples": len(eval_batches), "labels": labels},
        },
        floor=train_batches.loss_floor,
        floor_metric="eval_loss",
        recipe=run_yaml,
    )

    epoch = recipe.training.batch_sizes(train_batches.tokens_per_example).steps_for(len(train_batches))
    return Trainer(
        model,
        train_batches,
        replace(recipe.training, seed=seed, save_steps=recipe.training.save_steps or epoch),
        output_dir=output_dir,
        eval_batches=eval_batches,
        write_extras=extras_writer(task.tokenizer, card),
        layer_groups=layer_groups(model),
        lora=lora,
        resume_from=resume_from,
        recipe=run_recipe,
        quiet=quiet,
    )


def _evaluate_best(
    trainer: "Trainer", task: "SequenceClassificationTask", eval_batches: Mapping[str, "SequenceClassificationBatches"]
) -> dict[str, Any]:
    """Evaluate the best checkpoint of a finished training on each part, whole."""
    from bertkit.models import load_model
    from bertkit.training.evaluation import add_up_batches

    model = load_model(trainer.output_dir / "best", task.auto_class).to(trainer.accelerator.device)
    return {
        part: add_up_batches(
            model, batches, trainer.accelerator, batch_size=trainer.arguments.eval_batch_size, quiet=trainer.quiet
        )
        for part, batches in eval_batches.items()
    }


def _describe(parts: Mapping[str, Sequence[LabelledText]], label_names: Sequence[str]) -> str:
    sizes = ", ".join(f"{part} {len(examples):,}" for part, examples in parts.items())
    shown = ", ".join(label_names[:10]) + (", ..." if len(label_names) > 10 else "")
    return f"examples: {sizes}; {len(label_names)} labels: {shown}"
