"""`bertkit finetune --label_fractions`: what pretraining saves in labels, beside training from scratch and cheap baselines."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertkit.config import ConfigError
from bertkit.stages.finetuning.frozen_vectors import PROBED
from bertkit.tasks import TASKS
from bertkit.tasks.curves import Point, format_curve, write_curve
from bertkit.tasks.label_subsets import sizes_of, subset

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from bertkit.stages.finetuning.task_runs import TaskRuns

METHODS = ("pretrained", "from_scratch", "features", "bow")
FILE = "learning_curve.json"
_EVALUATIONS = 5  # of a training, at most: an epoch of 50 examples is two steps


def learning_curve(recipe: "Namespace", resolved: str) -> None:
    """Train on nested subsets of the labelled examples, by several methods, and write what each reaches.

    Every number of labels, method and seed is one run; what it reached is kept at once, its checkpoints are not.

    Args:
        recipe: as `bertkit.stages.finetune` reads it.
        resolved: the same as YAML.

    Raises:
        ConfigError: methods or sizes that cannot be, or a folder that holds another curve.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.stages.finetuning.task_runs import TaskRuns, read_examples
    from bertkit.training.processes import join_processes

    disable_progress_bar()
    if recipe.folds is not None:
        raise ConfigError("give --label_fractions or --folds, not both")
    processes = join_processes()
    quiet = recipe.quiet or not processes.is_main_process
    methods = _methods(recipe)
    said = _said(recipe)
    with processes.main_process_first():
        start_from, tokenizer, parts = read_examples(recipe, [])
    if start_from is None and {"pretrained", "features"} & {*methods}:
        raise ConfigError("--methods pretrained and features need --model.from; leave them out, as [from_scratch,bow]")
    task = TASKS[recipe.task.name].from_examples(recipe.task, tokenizer, parts["train"])
    runs = TaskRuns(recipe, resolved, task, parts, start_from=start_from, processes=processes, quiet=quiet)
    curve = _Curve(runs)
    folder = Path(recipe.output_dir)
    points = _points_so_far(folder, recipe, said)
    if not quiet:
        sizes = ", ".join(f"{size:,}" for size in curve.sizes)
        print(f"{task.unit}: {sizes} of {len(parts['train']):,} to train on; {curve.metric} of {curve.part}")
    wanted = [
        (method, size, seed)
        for size, seed, method in product(curve.sizes, recipe.seeds or [recipe.training.seed], methods)
    ]
    for method, size, seed in wanted:
        if any(point[:3] == (method, size, seed) for point in points):
            continue
        value = curve.run(method, size, seed)
        if value is None:
            if not quiet:
                ended = sum(point[:3] in wanted for point in points)
                print(
                    f"stopped by {curve.stopped_by} after {ended} of {len(wanted)} runs; go on with "
                    "--training.resume_from_checkpoint auto"
                )
            break
        points.append(Point(method, size, seed, value))
        if processes.is_main_process:
            _keep(points, folder, said, curve.metric, curve.part)
        if not quiet:
            print(f"{size:,} labels, {method.replace('_', ' ')}, seed {seed}: {value:.4f}", flush=True)
    shown = [point for point in points if point[:3] in wanted]
    if processes.is_main_process and len(shown) == len(wanted):
        place = write_curve(shown, curve.metric, folder)
        if not quiet:
            print(f"\n{format_curve(shown, curve.metric)}\n\ncurve: {place}; all runs: {folder / FILE}")
    processes.destroy_process_group()


def _methods(recipe: "Namespace") -> list[str]:
    chosen = list(METHODS) if recipe.methods is None else recipe.methods
    for method in chosen:
        if method not in METHODS:
            raise ConfigError(f"--methods has {method!r}; choose from {', '.join(METHODS)}")
    whole_texts = TASKS[recipe.task.name].auto_class == "AutoModelForSequenceClassification"
    possible = {"pretrained", "from_scratch"}
    possible |= {"bow"} if whole_texts else set()
    possible |= {"features"} if recipe.task.name in PROBED else set()
    if getattr(recipe.task, "class_weights", None) is not None and "features" in chosen:
        raise ConfigError("the method features takes no task.class_weights; leave one of them out, as by --methods")
    if recipe.methods is not None and not {*chosen} <= possible:
        raise ConfigError(f"the task {recipe.task.name} has no {sorted({*chosen} - possible)[0]}; leave it out")
    return [method for method in METHODS if method in chosen and method in possible]


def _points_so_far(folder: Path, recipe: "Namespace", said: Mapping[str, Any]) -> list[Point]:
    """Return what an interrupted curve has reached already."""
    path = folder / FILE
    if not path.is_file():
        return []
    if recipe.training.resume_from_checkpoint != "auto":
        raise ConfigError(
            f"{path} holds a curve already; go on with it by --training.resume_from_checkpoint auto, or give another "
            "--output_dir"
        )
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["recipe"] != said:
        changed = next(name for name in said if kept["recipe"].get(name) != said[name])
        raise ConfigError(
            f"{path} was begun with another {changed}; give what it was begun with, or another --output_dir"
        )
    return [Point(**point) for point in kept["points"]]


def _said(recipe: "Namespace") -> dict[str, Any]:
    """Return what of a recipe, with the checkpoint that it starts from, decides the points."""
    sections = {"task": recipe.task, "data": recipe.data, "training": recipe.training, "lora": recipe.lora}
    said = {name: {**vars(section)} for name, section in sections.items()}
    said["training"].pop("resume_from_checkpoint")
    others = {"model": {**recipe.model}, "tokenizer": recipe.tokenizer, "label_min_steps": recipe.label_min_steps}
    whole: dict[str, Any] = json.loads(json.dumps({**said, **others}, default=str))
    return whole


def _keep(points: Sequence[Point], folder: Path, said: Mapping[str, Any], metric: str, part: str) -> None:
    from bertkit.training.checkpointing import writing_to

    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "metric": metric,
            "part": part,
            "recipe": said,
            "points": [point._asdict() for point in points],
        }
        aside = folder / f"{FILE}.new"
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.replace(folder / FILE)


class _Curve:
    """The runs of a curve.

    Args:
        whole: trainings on all labelled examples.

    Raises:
        ConfigError: fewer examples than labels.
    """

    def __init__(self, whole: "TaskRuns") -> None:
        self.whole = whole
        self.sizes = sizes_of(whole.recipe.label_fractions, len(whole.parts["train"]))
        self.metric = whole.task.metric_names[0]
        self.part = "test" if "test" in whole.parts else "eval"
        self.stopped_by: str | None = None
        if self.sizes[0] < len(whole.task.label_names):
            raise ConfigError(
                f"{self.sizes[0]} examples cannot show all {len(whole.task.label_names)} labels; raise the least of "
                "--label_fractions"
            )

    def run(self, method: str, size: int, seed: int) -> float | None:
        """Train once, and return the metric; None where a signal ended the training."""
        whole = self.whole.parts
        parts = {**whole, "train": subset(whole["train"], size, seed)}
        if method in ("pretrained", "from_scratch"):
            return self._network(parts, seed, from_scratch=method == "from_scratch")
        runs: dict[str, Callable[[dict[str, Any]], float]] = {"features": self._features, "bow": self._bag}
        return runs[method](parts)

    def _network(self, parts: Mapping[str, Sequence[Any]], seed: int, *, from_scratch: bool) -> float | None:
        from bertkit.training.length import Length

        recipe, processes = deepcopy(self.whole.recipe), self.whole.processes
        recipe.from_scratch = from_scratch
        training, tokens = recipe.training, recipe.task.max_length
        length = Length.of(training, tokens_per_example=tokens, num_examples=len(parts["train"]))
        if length.max_steps is not None:
            steps = length.max_steps
            if training.num_train_epochs is not None:
                steps = max(steps, recipe.label_min_steps)
            epoch = training.batch_sizes(tokens).steps_for(len(parts["train"]))
            every = training.save_steps or max(epoch, -(-steps // _EVALUATIONS))
            recipe.training = replace(training, num_train_epochs=None, max_steps=steps, save_steps=every)
        recipe.training = replace(recipe.training, resume_from_checkpoint=None)
        folder = Path(recipe.output_dir) / "run"
        if processes.is_main_process and folder.exists():
            shutil.rmtree(folder)
        processes.wait_for_everyone()
        runs = replace(self.whole, recipe=recipe, parts=parts, quiet=True)
        outcome = runs.run(seed, folder, resume_from=None)
        processes.wait_for_everyone()
        if processes.is_main_process:
            shutil.rmtree(folder)
        self.stopped_by = runs.stopped_by
        return None if outcome is None else float(outcome[self.part][self.metric])

    def _bag(self, parts: Mapping[str, Sequence[Any]]) -> float:
        from bertkit.embeddings.bag_of_words import BagOfWordsArguments, texts_and_pairs
        from bertkit.stages.finetuning.bag_of_words import fit_bag

        task: Any = self.whole.task
        bag = fit_bag(BagOfWordsArguments(), task, parts, tokenizer=None)
        examples = parts[self.part]
        evaluation = task.evaluation_of_scores(examples, bag.logits(*texts_and_pairs(examples)))
        return float(evaluation.compute()[self.metric])

    def _features(self, parts: Mapping[str, Sequence[Any]]) -> float:
        from bertkit.stages.finetuning.frozen_vectors import do_task

        task, examples = self.whole.task, self.whole.parts["train"]
        chosen = {id(example) for example in parts["train"]}
        counts = [len(example.words) for example in examples] if task.unit == "sentences" else 1
        rows = np.repeat([id(example) in chosen for example in examples], counts)
        vectors = {**self._vectors, "train": self._vectors["train"][rows]}
        _, evaluations = do_task(task, vectors, parts)
        return evaluations[self.part].compute()[self.metric]

    @cached_property
    def _vectors(self) -> dict[str, np.ndarray]:
        """The frozen encoder's vectors of all texts, the mean of its last layer; or those of all words."""
        from bertkit.features import load_encoder
        from bertkit.stages.finetuning.frozen_vectors import FrozenVectors

        whole = self.whole
        assert whole.start_from is not None
        model = load_encoder(whole.start_from).to(whole.processes.device)
        is_pair = getattr(whole.parts["train"][0], "text_pair", None) is not None
        encoder = FrozenVectors(
            model,
            whole.task.tokenizer,
            task=whole.recipe.task.name,
            layers=[-1],
            pooling="mean",
            pairs="apart" if is_pair else None,
            max_length=whole.recipe.task.max_length,
        )
        return {
            part: encoder.of_layer(encoder.of(examples, quiet=whole.quiet), 0) for part, examples in whole.parts.items()
        }
