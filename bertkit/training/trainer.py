"""The only training loop: every family, objective and task goes through it.

It sees a model that returns `.loss` and batches that are computed from their number. Where the work runs (devices,
processes, precision, sharding) is decided by Accelerate.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from bertkit.data.keyed_random import keyed_seed
from bertkit.training.arguments import TrainingArguments
from bertkit.training.batches import IGNORED_LABEL, Batches, MicroBatches
from bertkit.training.checkpointing import (
    TrainerState,
    load_optimizer_state,
    load_trainer_state,
    remove_old_checkpoints,
    save_checkpoint,
    tidy,
)
from bertkit.training.evaluation import evaluate_batches, without_ids
from bertkit.training.host_memory import keep_freed_memory
from bertkit.training.loss_window import LossWindow
from bertkit.training.optimization import build_optimizer, learning_rate_factor
from bertkit.training.places import Places
from bertkit.training.run_log import RunLog


class Trainer:
    """Trains a model on batches.

    Args:
        model: returns `.loss`, divided by the counts that `train_batches.label_counts` names.
        train_batches: what to train on.
        arguments: how.
        output_dir: the run's folder.
        eval_batches: what to evaluate on, if anything.
        write_extras: writes what else belongs into a checkpoint folder, given the folder and the state.
        resume_from: the checkpoint folder that `model` was loaded from, to go on where it stood.
        recipe: settings to show in the tracker.
        quiet: no progress bar, and no lines but warnings and errors.

    Raises:
        ValueError: no length of training was given, or a batch too small for the processes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        train_batches: Batches,
        arguments: TrainingArguments,
        *,
        output_dir: str | Path,
        eval_batches: Batches | None = None,
        write_extras: Callable[[Path, TrainerState], None] = lambda folder, state: None,
        resume_from: Path | None = None,
        recipe: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        trackers = [arguments.report_to] if isinstance(arguments.report_to, str) else list(arguments.report_to)
        self.accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            log_with=[tracker for tracker in trackers if tracker != "none"] or None,
            project_dir=str(output_dir),
            dynamo_backend="inductor" if arguments.torch_compile else None,
        )
        transformers_logging.disable_progress_bar()  # of a second it takes to write a checkpoint; ours shows the training
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        self.arguments = arguments
        self.output_dir = Path(output_dir)
        self.train_batches = train_batches
        self.eval_batches = eval_batches
        self.write_extras = write_extras
        self.recipe = dict(recipe or {})
        self.quiet = quiet
        self.log = RunLog(self.accelerator, self.output_dir, quiet=quiet)
        self.resume_from = resume_from
        self.state = TrainerState() if resume_from is None else load_trainer_state(resume_from)
        if resume_from is not None and resume_from.parent != Path(output_dir).resolve():
            self.state.best_metric = self.state.best_step = None  # those of a run in another folder
        self.state.loss_floor = train_batches.loss_floor
        self.stopped_by: str | None = None
        self.train_loss = math.nan

        if self.accelerator.mixed_precision == "fp16" and self.accelerator.device.type == "cpu":
            raise ValueError("fp16 needs a GPU; on CPUs give training.mixed_precision no or bf16")
        self.batch_size = arguments.examples_per_step(train_batches.tokens_per_example)
        processes = self.accelerator.num_processes
        if self.batch_size < processes:
            raise ValueError(f"a global batch of {self.batch_size} examples cannot be shared by {processes} processes")
        known = train_batches.metric_names
        self.best_by = arguments.metric_for_best_model or known[0]
        if self.best_by not in known:
            raise ValueError(
                f"training.metric_for_best_model is {self.best_by!r}; the evaluation gives {', '.join(known)}"
            )
        per_process = -(-self.batch_size // processes)
        micro_batch_size = min(arguments.micro_batch_size or per_process, per_process)
        # No more micro-steps than the smallest share has examples: every process makes equally many, none of them empty.
        self.accumulation = min(-(-per_process // micro_batch_size), self.batch_size // processes)
        self.max_steps = self._length_in_steps()
        self.places = Places(
            batch_size=self.batch_size,
            rank=self.accelerator.process_index,
            processes=processes,
            accumulation=self.accumulation,
            max_steps=self.max_steps,
            share_of_time=torch.zeros((), dtype=torch.float64).share_memory_(),
        )

        if arguments.gradient_checkpointing:
            model.activation_checkpointing_enable()
        optimizer = build_optimizer(model, arguments)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        # Decisions that all processes take together travel between hosts, not devices: reading them makes no GPU wait.
        self.host_group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def _length_in_steps(self) -> int | None:
        arguments = self.arguments
        if arguments.num_train_epochs is not None:
            return math.ceil(arguments.num_train_epochs * len(self.train_batches) / self.batch_size)
        if arguments.max_steps is None and arguments.max_time is None:
            raise ValueError(
                "how long to train? give training.max_steps, training.num_train_epochs or training.max_time"
            )
        return arguments.max_steps

    def progress(self) -> float:
        """Return how far the training is, from 0 to 1, in steps or in time."""
        if self.max_steps is not None:
            return min(self.state.global_step / self.max_steps, 1.0)
        assert self.arguments.time_budget
        return min(self.state.elapsed_seconds / self.arguments.time_budget, 1.0)

    def _is_over(self) -> bool:
        return self.progress() >= 1

    # The loop

    def train(self) -> TrainerState:
        """Train to the end, or until SIGINT or SIGTERM asks to stop; a checkpoint is saved either way.

        Returns:
            Where the training ended; `stopped_by` names the signal, if one ended it.
        """
        if self.resume_from is not None:
            load_optimizer_state(self.resume_from, model=self.model, optimizer=self.optimizer)
            self.log.say(f"going on from {self.resume_from} at step {self.state.global_step}")
        if self.accelerator.is_main_process:
            tidy(self.output_dir)
        self.log.start(self.recipe, step=self.state.global_step)
        self._say_floor()
        self.started = time.monotonic() - self.state.elapsed_seconds
        with self._catch_signals() as caught, self._progress_bar() as bar:
            loader = self._micro_batches(self.state.global_step)
            window = LossWindow(self.train_batches.loss_terms, self.state.tokens_seen)
            while not self._is_over():
                micro_batches = [next(loader) for _ in range(self.accumulation)]
                counts, stop, elapsed = self._agree(micro_batches, caught, time.monotonic() - self.started)
                if stop:
                    self.stopped_by = next(iter(caught), "a signal to another process")
                    break
                self.state.elapsed_seconds = elapsed
                self.places.share_of_time.fill_(self.progress())
                learning_rate = self._set_learning_rate()
                grad_norm = self.training_step(micro_batches, counts, window)
                self.state.global_step += 1
                self.state.tokens_seen += counts["tokens"]
                self._show_progress(bar)
                if self.state.global_step % self.arguments.logging_steps == 0 or self._is_over():
                    self._log_training(window, bar, learning_rate=learning_rate, grad_norm=grad_norm)
                    window = LossWindow(self.train_batches.loss_terms, self.state.tokens_seen)
                if not self._is_over():
                    if _is_due(self.state.global_step, self.arguments.save_steps):
                        self.save_checkpoint()
                    elif _is_due(self.state.global_step, self.arguments.eval_steps):
                        self.evaluate()
            self.save_checkpoint(evaluate=self.stopped_by is None)
        self._say_end()
        self.log.finish()
        return self.state

    def training_step(
        self, micro_batches: list[dict[str, torch.Tensor]], counts: dict[str, int], window: LossWindow
    ) -> torch.Tensor | None:
        """Make one optimizer step.

        Args:
            micro_batches: this process's share of the global batch.
            counts: labels of the whole step over all processes, by argument of the model's forward.
            window: losses are added to it.

        Returns:
            The gradient's norm before clipping, if it is clipped.
        """
        self.model.train()
        step, device = self.state.global_step, self.accelerator.device
        divisors = {
            name: torch.full((), max(counts[name], 1), device=device) for name in self.train_batches.label_counts
        }
        for micro, batch in enumerate(micro_batches):
            is_last = micro == len(micro_batches) - 1
            start, _ = self.places.bounds(step * self.accumulation + micro)
            torch.manual_seed(keyed_seed(self.arguments.seed, "dropout", step, start))
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                outputs = self.model(**send_to_device(without_ids(batch), device, non_blocking=True), **divisors)
                # The counts are the whole step's, and data parallelism averages: undo the average.
                self.accelerator.backward(outputs.loss * self.accelerator.num_processes)
            window.add(outputs)
        window.steps += 1
        grad_norm = None
        if self.arguments.max_grad_norm is not None:
            grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return grad_norm

    def _micro_batches(self, first_step: int) -> Iterator[dict[str, torch.Tensor]]:
        micro_batches = MicroBatches(self.train_batches, bounds=self.places.bounds, progress=self.places.progress)
        steps = self.max_steps if self.max_steps is not None else 2**40  # a time budget ends the loop itself
        numbers = range(first_step * self.accumulation, steps * self.accumulation)
        loader = DataLoader(
            micro_batches,
            sampler=numbers,
            batch_size=None,
            num_workers=self.arguments.dataloader_num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),  # else a new iterator draws from the generator that dropout uses
        )
        return iter(loader)

    def _agree(
        self, micro_batches: list[dict[str, torch.Tensor]], caught: list[str], elapsed: float
    ) -> tuple[dict[str, int], bool, float]:
        """Add up over all processes the step's labels and tokens; agree whether to stop and on the time that has passed."""
        label_counts = self.train_batches.label_counts
        numbers = [
            *(
                sum(int((batch[labels] != IGNORED_LABEL).sum()) for batch in micro_batches)
                for labels in label_counts.values()
            ),
            sum(int(batch["attention_mask"].sum()) for batch in micro_batches),
            bool(caught),
            elapsed if self.accelerator.is_main_process else 0.0,
        ]
        together = torch.tensor(numbers, dtype=torch.float64)
        if self.host_group is not None:
            torch.distributed.all_reduce(together, group=self.host_group)
        *counts, tokens, stop, elapsed = together.tolist()
        names = dict(zip(label_counts, map(int, counts), strict=True))
        return {**names, "tokens": int(tokens)}, stop > 0, elapsed

    def _set_learning_rate(self) -> float:
        step = self.state.global_step
        factor = learning_rate_factor(self.arguments, step=step, max_steps=self.max_steps, progress=self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = self.arguments.learning_rate * factor
        return self.arguments.learning_rate * factor

    # Evaluation

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Evaluate on the evaluation batches and log what comes out.

        Returns:
            `eval_loss` and the metrics of the batches, prefixed by `eval_`; empty without evaluation batches.
        """
        if self.eval_batches is None:
            return {}
        metrics = evaluate_batches(
            self.model,
            self.eval_batches,
            self.accelerator,
            batch_size=self.arguments.eval_batch_size,
            max_batches=self.arguments.max_eval_batches,
            quiet=self.quiet,
        )
        metrics = {f"eval_{name}": value for name, value in metrics.items()}
        self.state.metrics |= metrics
        self.log.write(metrics, step=self.state.global_step)
        self.log.say(f"step {self.state.global_step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        return metrics

    # Checkpoints

    def save_checkpoint(self, *, evaluate: bool = True) -> Path:
        """Evaluate, unless told not to, and write a checkpoint; the best one is chosen among those evaluated.

        Returns:
            The checkpoint's folder.
        """
        if evaluate and self.evaluate():
            value, best = self.state.metrics[f"eval_{self.best_by}"], self.state.best_metric
            better = best is None or (value < best if self.best_by.endswith("loss") else value > best)
            if better and math.isfinite(value):
                self.state.best_metric, self.state.best_step = value, self.state.global_step
        folder = save_checkpoint(
            self.output_dir,
            accelerator=self.accelerator,
            model=self.model,
            optimizer=self.optimizer,
            # The clock of the whole run, this step and its evaluation included.
            state=replace(self.state, elapsed_seconds=time.monotonic() - self.started),
            write_extras=lambda aside: self.write_extras(aside, self.state),
        )
        if self.accelerator.is_main_process:
            remove_old_checkpoints(
                self.output_dir, limit=self.arguments.save_total_limit, best_step=self.state.best_step
            )
        self.accelerator.wait_for_everyone()
        return folder

    @contextlib.contextmanager
    def _catch_signals(self) -> Iterator[list[str]]:
        """Collect SIGINT and SIGTERM instead of dying of them: the loop looks after every step."""
        caught: list[str] = []

        def remember(number: int, frame: FrameType | None) -> None:
            caught.append(signal.Signals(number).name)
            self.log.say(f"{caught[-1]}: saving a checkpoint and stopping after this step")

        previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield caught
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # What is said and logged

    def _progress_bar(self) -> contextlib.AbstractContextManager[tqdm]:
        if self.max_steps is not None:
            return self.log.progress_bar(total=self.max_steps, done=self.state.global_step, unit="step")
        budget = round(self.arguments.time_budget or 0)
        return self.log.progress_bar(total=budget, done=int(self.state.elapsed_seconds), unit="s")

    def _show_progress(self, bar: tqdm) -> None:
        done = self.state.global_step if self.max_steps is not None else int(self.state.elapsed_seconds)
        bar.update(done - bar.n)

    def _say_floor(self) -> None:
        unit = "tokens" if self.train_batches.tokens_per_example > 1 else "examples"
        self.log.say(
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters; {self.batch_size} examples a step, "
            f"{len(self.train_batches):,} an epoch; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}"
        )
        self.log.say(
            f"unigram entropy of the labels: {self.state.loss_floor:.4f} nats; a model that learns from its {unit} "
            "must get under it"
        )

    def _say_end(self) -> None:
        if self.stopped_by is not None:
            self.log.say(
                f"stopped by {self.stopped_by} at step {self.state.global_step}; saved in {self.output_dir / 'last'}; go on "
                "with --training.resume_from_checkpoint auto"
            )
            return
        name = self.train_batches.loss_terms[0]
        loss, which = self.train_loss, "training"
        if self.eval_batches is not None:
            loss, which = self.state.metrics[f"eval_{name}"], "evaluation"
        floor = self.state.loss_floor
        verdict = "under" if loss < floor else "NOT under"
        self.log.say(
            f"{which} {name.replace('_', ' ')} {loss:.4f}: {verdict} the unigram floor of {floor:.4f} nats "
            f"({floor - loss:+.4f})"
        )

    def _log_training(
        self, window: LossWindow, bar: tqdm, *, learning_rate: float, grad_norm: torch.Tensor | None
    ) -> None:
        losses = window.means(self.accelerator)
        self.train_loss = losses[f"train_{self.train_batches.loss_terms[0]}"]
        values = {
            **losses,
            "learning_rate": learning_rate,
            "tokens_seen": self.state.tokens_seen,
            "tokens_per_second": window.tokens_per_second(self.state.tokens_seen),
        }
        if grad_norm is not None:
            values["grad_norm"] = float(grad_norm)
        self.state.metrics |= losses
        self.log.write(values, step=self.state.global_step)
        bar.set_postfix_str(
            f"loss {losses['train_loss']:.4f}, {values['tokens_per_second']:,.0f} tokens/s", refresh=False
        )
        if not math.isfinite(losses["train_loss"]):
            raise FloatingPointError(
                f"the loss is {losses['train_loss']} at step {self.state.global_step}; lower training.learning_rate, or "
                f"go on from the last checkpoint in {self.output_dir}"
            )


def _leave_signals_to_the_parent(worker: int) -> None:
    """Keep a process that prepares batches alive while its parent finishes the step and saves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
