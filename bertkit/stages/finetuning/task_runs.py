"""Runs of a task: one training for each seed, its best checkpoint evaluated, and what came of all of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError
from bertkit.stages import model_section
from bertkit.stages.finetuning import task_model
from bertkit.tasks import TASKS

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.hub.publishing.training_push import TrainingPush
    from bertkit.tasks.task import Task, TaskBatches, TaskEvaluation
    from bertkit.training.trainer import Trainer


def read_examples(
    recipe: "Namespace", checkpoints: Iterable[Path]
) -> tuple[Path | None, "PreTrainedTokenizerBase", dict[str, list[Any]]]:
    """Read what a fine-tuning starts from.

    Args:
        recipe: as `build_parser` reads it; `from` is taken out of its `model`.
        checkpoints: those that runs go on from.

    Returns:
        The checkpoint to start from, None for fresh weights; the tokenizer; and the examples by part.

    Raises:
        ValueError: whatever of that is missing or does not go together.
    """
    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.tasks.sources import load_parts
    from bertkit.tokenization import load_any_tokenizer

    named = recipe.model.pop("from", None)
    start_from = None
    if named is not None:
        start_from = task_model.folder_to_start_from(named, TASKS[recipe.task.name].auto_class)
    if start_from is None and (recipe.tokenizer is None or recipe.from_scratch):
        raise ConfigError(
            "name a checkpoint by --model.from, or give --tokenizer and --model.family for a model with fresh weights"
        )
    tokenizer = load_any_tokenizer(recipe.tokenizer or str(start_from), require=("pad_token",))
    if recipe.tokenizer and start_from and not recipe.from_scratch:
        remedy = "leave it out, or train --from_scratch true"
        task_model.refuse_foreign_tokenizer(tokenizer, start_from, remedy=remedy)
    for checkpoint in checkpoints:
        remedy = "go on with that one, or start anew with another --output_dir"
        task_model.refuse_foreign_tokenizer(tokenizer, checkpoint, remedy=remedy)
    return start_from, tokenizer, load_parts(recipe.data)


@dataclass
class TaskRuns:
    """Trainings of one task on the same examples."""

    recipe: "Namespace"
    """As `bertkit.stages.finetune` reads it."""
    resolved: str
    """The same as YAML, to keep with the checkpoints."""
    task: "Task[Any]"
    """What is learned."""
    parts: Mapping[str, Sequence[Any]]
    """The examples, "train", "eval" and perhaps "test"."""
    _: KW_ONLY
    start_from: Path | None
    """The checkpoint whose weights a run starts from; None for fresh ones."""
    processes: "PartialState"
    """This process and those beside it."""
    quiet: bool
    """No progress bar."""
    pushed: "TrainingPush | None" = None
    """How the checkpoints go to the Hub, if they do; of one run."""
    stopped_by: str | None = field(default=None, init=False)
    """The signal that ended the last run, if one did."""

    @cached_property
    def batches(self) -> dict[str, "TaskBatches"]:
        """The examples tokenized, by part; those of training for looking at, each run shuffles its own."""
        return {part: self.task.batches(examples, training=False) for part, examples in self.parts.items()}

    def run(self, seed: int, folder: Path, *, resume_from: Path | None) -> dict[str, Any] | None:
        """Train once, and write what the best checkpoint says of the other parts.

        Args:
            seed: key of every choice.
            folder: of the run.
            resume_from: the checkpoint to go on from.

        Returns:
            Seed, best step, and the metrics by part; None where a signal ended the training.
        """
        from bertkit.tasks.predictions import write_predictions
        from bertkit.training.checkpointing import writing_to

        trainer = self._trainer(seed, folder, resume_from)
        trainer.train()
        self.stopped_by = trainer.stopped_by
        if self.stopped_by is not None:
            return None
        evaluations = self._evaluate_best(trainer)
        if self.processes.is_main_process:
            with writing_to(folder):
                for part, evaluation in evaluations.items():
                    write_predictions(folder / f"predictions_{part}.jsonl", self.task, self.parts[part], evaluation)
        metrics = {part: evaluation.compute() for part, evaluation in evaluations.items()}
        if self.pushed:
            self.pushed.end(folder)
        return {"seed": seed, "best_step": trainer.state.best_step, **metrics}

    def _trainer(self, seed: int, output_dir: Path, resume_from: Path | None) -> "Trainer":
        import yaml

        from bertkit.hub.cards.model_card import ModelCard
        from bertkit.models.layer_groups import layer_groups
        from bertkit.stages.checkpoint_extras import extras_writer
        from bertkit.stages.findings import report
        from bertkit.stages.recipe_changes import check_recipe
        from bertkit.training.trainer import Trainer

        recipe, task = self.recipe, self.task
        model = self._model(seed, resume_from)
        lora = task_model.add_lora(
            model,
            recipe.lora,
            freeze=recipe.training.freeze,
            seed=seed,
            start_from=self.start_from,
            resume_from=resume_from,
        )
        # The recipe of this run alone: it repeats the run, whatever other seeds there were.
        run_recipe = {
            **yaml.safe_load(self.resolved),
            "output_dir": str(output_dir),
            "seeds": None,
            "folds": None,
            "label_fractions": None,
        }
        run_recipe["training"]["seed"] = seed
        run_yaml = yaml.safe_dump(run_recipe, sort_keys=False, allow_unicode=True)
        if resume_from is not None:
            report(check_recipe(resume_from, run_yaml), is_main_process=self.processes.is_main_process)
        train_batches, eval_batches = self.batches["train"].shuffled(seed), self.batches["eval"]
        labels = {"labels": len(task.label_names)} if task.label_names else {}
        card = ModelCard(
            auto_class=task.auto_class,
            pipeline_tag=task.pipeline_tag,
            language=recipe.data.language,
            parameters=model.num_parameters(),
            data={
                "train": {"examples": len(train_batches), **labels},
                "eval": {"examples": len(eval_batches), **labels},
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
            after_save=self.pushed.checkpoint if self.pushed else None,
            layer_groups=layer_groups(model),
            lora=lora,
            resume_from=resume_from,
            recipe=run_recipe,
            quiet=self.quiet,
        )

    def _model(self, seed: int, resume_from: Path | None) -> "PreTrainedModel":
        task, max_length = self.task, self.recipe.task.max_length
        settings = {**self.recipe.model, **task.config_settings}
        if resume_from is not None:
            return task_model.load_resumed_task_model(resume_from, settings, task.auto_class)
        if self.start_from is None:
            return model_section.build_fresh_model(
                settings, task.auto_class, task.tokenizer, max_positions=max_length, seed=seed, say=not self.quiet
            )
        return task_model.build_task_model(
            self.start_from,
            settings,
            task.auto_class,
            task.tokenizer,
            max_length=max_length,
            from_scratch=self.recipe.from_scratch,
            seed=seed,
            say=not self.quiet,
        )

    def _evaluate_best(self, trainer: "Trainer") -> dict[str, "TaskEvaluation"]:
        """Evaluate the best checkpoint of a finished training on each part, whole."""
        from bertkit.models import load_model
        from bertkit.training.evaluation import add_up_batches

        model = load_model(trainer.output_dir / "best", self.task.auto_class).to(trainer.accelerator.device)
        size, quiet = trainer.arguments.eval_batch_size, trainer.quiet
        return {
            part: add_up_batches(model, batches, trainer.accelerator, batch_size=size, quiet=quiet)
            for part, batches in self.batches.items()
            if part != "train"
        }


def write_results(
    folder: Path, task: "Task[Any]", parts: Mapping[str, Sequence[Any]], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write results.json: the metrics of every run, their mean and deviation, beside the best guess that ignores the text.

    Args:
        folder: where it is written.
        task: what was learned.
        parts: the examples.
        runs: what `TaskRuns.run` returned of each.

    Returns:
        What it holds.
    """
    from bertkit.tasks.results import summarise
    from bertkit.training.checkpointing import writing_to

    evaluated = [part for part in parts if part != "train"]
    guess = task.guess(parts["train"])
    results = {
        "task": task.arguments.name,
        "labels": task.label_names,
        "examples": {part: len(examples) for part, examples in parts.items()},
        "runs": runs,
        **summarise(runs, evaluated),
        "best_guess": guess,
        "guess": {part: task.guess_metrics(guess, parts[part]) for part in evaluated},
    }
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(results, indent=2, ensure_ascii=False)
        (folder / "results.json").write_text(f"{text}\n", encoding="utf-8")
    return results
