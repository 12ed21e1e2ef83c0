"""The only training loop: every family, objective and task goes through it.

It sees a model that returns `.loss` and batches that are computed from their number. Where the work runs (devices,
processes, precision, sharding) is decided by Accelerate.
"""

import contextlib
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from bertkit.data.keyed_random import keyed_seed
from bertkit.training.arguments import TrainingArguments
from bertkit.training.batches import IGNORED_LABEL, Batches, MicroBatches, digest
from bertkit.training.carried_state import CarriedState
from bertkit.training.checkpointing import (
    TrainerState,
    checkpoint_folders,
    load_optimizer_state,
    load_trainer_state,
    load_weights,
    remove_old_checkpoints,
    save_checkpoint,
    tidy,
    writing_to,
)
from bertkit.training.evaluation import evaluate_batches, without_ids
from bertkit.training.host_memory import keep_freed_memory
from bertkit.training.losses import SPIKE_MEMORY, LossWindow, StepLosses, what_is_wrong
from bertkit.training.manifest import find_damage
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
            # Else DDP puts gradients into other buckets from the second step of a process on, and adds them up in another
            # order: a resumed run of three processes or more would differ in the last bits.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        transformers_logging.disable_progress_bar()  # of a second it takes to write a checkpoint; ours shows the training
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        self.arguments = arguments
        self.output_dir = Path(output_dir).resolve()
        self.train_batches = train_batches
        self.eval_batches = eval_batches
        self.write_extras = write_extras
        self.recipe = dict(recipe or {})
        self.quiet = quiet
        self.log = RunLog(self.accelerator, self.output_dir, quiet=quiet)
        self.resume_from = None if resume_from is None else resume_from.resolve()
        self.state = TrainerState() if self.resume_from is None else load_trainer_state(self.resume_from)
        self.state.loss_floor = train_batches.loss_floor
        self.stopped_by: str | None = None

        if self.accelerator.mixed_precision == "fp16" and self.accelerator.device.type == "cpu":
            raise ValueError("fp16 needs a GPU; on CPUs give training.mixed_precision no or bf16")
        self.sizes = arguments.batch_sizes(train_batches.tokens_per_example)
        processes = self.accelerator.num_processes
        if train_batches.carried_rows and self.sizes.first != self.sizes.final:
            raise ValueError(
                "the batch cannot grow where each of its rows goes on from step to step; leave "
                "training.train_batch_size_start out"
            )
        assert train_batches.carried_rows in (0, self.sizes.final)
        if self.sizes.first < processes:
            raise ValueError(f"a global batch of {self.sizes.first} examples cannot be shared by {processes} processes")
        known = train_batches.metric_names
        self.best_by = arguments.metric_for_best_model or known[0]
        if self.best_by not in known:
            raise ValueError(
                f"training.metric_for_best_model is {self.best_by!r}; the evaluation gives {', '.join(known)}"
            )
        self.goes_on_here = self.resume_from is not None and self.resume_from.parent == self.output_dir
        if (
            not self.goes_on_here or self.state.best_by != self.best_by
        ):  # the best of a run elsewhere, or by another metric
            self.state.best_metric = self.state.best_step = self.state.evaluated_step = None
        self.state.best_by = self.best_by
        self.max_steps = self._length_in_steps()
        self.places = Places(
            sizes=self.sizes,
            rank=self.accelerator.process_index,
            processes=processes,
            micro_batch_size=arguments.micro_batch_size,
            max_steps=self.max_steps,
            share_of_time=torch.zeros((), dtype=torch.float64).share_memory_(),
        )
        self.loss_names = ["loss", *(term for term in train_batches.loss_terms if term != "loss")]
        self.window = LossWindow(self.loss_names, self.state.window_sums, self.state.window_steps)
        self.unread: deque[StepLosses] = deque()  # of the last steps, perhaps still on their way to the host
        self.learning_rate = 0.0
        self.grad_norm: float | None = None
        self.has_said_frozen = False

        if arguments.gradient_checkpointing:
            model.activation_checkpointing_enable()
        self.carried = CarriedState(model, num_rows=train_batches.carried_rows, accelerator=self.accelerator)
        optimizer = build_optimizer(model, arguments)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        # Decisions that all processes take together travel between hosts, not devices: reading them makes no GPU wait.
        self.host_group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def _length_in_steps(self) -> int | None:
        arguments = self.arguments
        if arguments.num_train_epochs is not None:
            return self.sizes.steps_for(math.ceil(arguments.num_train_epochs * len(self.train_batches)))
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

        Raises:
            FloatingPointError: a step went wrong, and `loss_policy` does not say to pass it over, or too many did.
            OutputError: the run's folder cannot be written to.
        """
        if self.resume_from is not None:
            self._load(self.resume_from)
            self.log.say(f"going on from {self.resume_from} at step {self.state.global_step}")
        if self.accelerator.is_main_process:
            with writing_to(self.output_dir):
                self.output_dir.mkdir(parents=True, exist_ok=True)
                tidy(self.output_dir, step=self.state.global_step)
        self.log.start(self.recipe, step=self.state.global_step)
        self._say_floor()
        self.started = time.monotonic() - self.state.elapsed_seconds
        self.entry_started, self.entry_tokens = time.monotonic(), self.state.tokens_seen
        if self.arguments.loss_policy == "rollback" and not self.goes_on_here:
            self.save_checkpoint(evaluate=False)  # somewhere to go back to
        with self._catch_signals() as caught, self._progress_bar() as bar:
            loader = self._micro_batches(self.state.global_step)
            has_stepped = False
            while True:
                if self._read_losses(but=0 if self._is_due() else 1) == "rolled back":
                    loader, has_stepped = self._micro_batches(self.state.global_step), False
                if has_stepped:
                    self._after_step(bar)
                if self._is_over():
                    break
                micro_batches = [next(loader) for _ in range(self.places.micro_batches(self.state.global_step))]
                counts, stop, elapsed = self._agree(micro_batches, caught, time.monotonic() - self.started)
                if stop:
                    self.stopped_by = next(iter(caught), "a signal to another process")
                    break
                self.state.elapsed_seconds = elapsed
                self.places.share_of_time.fill_(self.progress())
                self._set_learning_rate()
                if self.state.global_step + 1 not in self.state.passed_over:
                    self.training_step(micro_batches, counts)
                if self.state.global_step + 1 not in self.state.passed_over:  # then it made an update
                    self.state.tokens_seen += counts["tokens"]
                    self.state.window_digest = keyed_seed(self.state.window_digest, counts["digest"])
                self.state.global_step += 1
                has_stepped = True
            self._read_losses(but=0)
            self.save_checkpoint(evaluate=self.stopped_by is None)
        self._say_end()
        self.log.finish()
        return self.state

    def training_step(self, micro_batches: Sequence[Mapping[str, torch.Tensor]], counts: Mapping[str, int]) -> None:
        """Make one optimizer step, unless the policy is to skip those that go wrong and this one does.

        Args:
            micro_batches: this process's share of the global batch.
            counts: labels of the whole step over all processes, by argument of the model's forward.
        """
        self.model.train()
        step, device = self.state.global_step, self.accelerator.device
        losses = StepLosses(self.loss_names, step=step + 1)
        divisors = {
            name: torch.full((), max(counts[name], 1), device=device) for name in self.train_batches.label_counts
        }
        for micro, batch in enumerate(micro_batches):
            is_last = micro == len(micro_batches) - 1
            start, stop = self.places.bounds(step, micro)
            inputs = {**send_to_device(without_ids(batch), device, non_blocking=True), **divisors}
            torch.manual_seed(keyed_seed(self.arguments.seed, "dropout", step, start))
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                outputs = self.model(**inputs, **self.carried.arguments(start, stop))
                # The counts are the whole step's, and data parallelism averages: undo the average.
                self.accelerator.backward(outputs.loss * self.accelerator.num_processes)
            losses.add(outputs)
            self.carried.add(outputs)
        largest = self.arguments.max_grad_norm or math.inf  # the norm is judged, clipped or not
        losses.grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), largest)
        losses.send()
        self.unread.append(losses)
        is_kept = not (self.arguments.loss_policy == "skip" and self._read_losses(but=0) == "passed over")
        self.carried.step(keep=is_kept)
        if is_kept:
            self.optimizer.step()
        elif self.accelerator.scaler is not None:
            self.accelerator.scaler.update()
        self.optimizer.zero_grad()

    def _micro_batches(self, first_step: int) -> Iterator[dict[str, torch.Tensor]]:
        micro_batches = MicroBatches[tuple[int, int]](
            self.train_batches,
            bounds=lambda number: self.places.bounds(*number),
            progress=lambda number: self.places.progress(number[0]),
        )
        loader = DataLoader(
            micro_batches,
            sampler=_Numbers(self.places, first_step),
            batch_size=None,
            num_workers=self.arguments.dataloader_num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),  # else a new iterator draws from the generator that dropout uses
        )
        return iter(loader)

    def _read_losses(self, *, but: int) -> str | None:
        """Read what the steps' losses were, all of them `but` the newest, and do as the policy says if one went wrong.

        Returns:
            "passed over" or "rolled back", if a step was.
        """
        while len(self.unread) > but:
            losses = self.unread.popleft()
            values = self._add_up(torch.tensor(losses.read(), dtype=torch.float64)).tolist()
            grad_norm = None if losses.grad_norm is None else float(losses.grad_norm)
            wrong = what_is_wrong(values[0], self.state.recent_losses, self.arguments.loss_spike_factor)
            if wrong is None and grad_norm is not None and not math.isfinite(grad_norm) and not self.accelerator.scaler:
                wrong = f"the gradient's norm is {grad_norm}"  # of no harm where a scaler of fp16 looks for it
            if wrong is not None:
                return self._pass_over(losses.step, wrong)
            self.window.add(values)
            self.state.recent_losses = [*self.state.recent_losses, values[0]][-SPIKE_MEMORY:]
            self.grad_norm = grad_norm
        return None

    def _pass_over(self, step: int, wrong: str) -> str:
        """Do as the policy says about a step that went wrong."""
        policy, passed_over = self.arguments.loss_policy, [*self.state.passed_over, step]
        folders = [folder for folder in checkpoint_folders(self.output_dir) if find_damage(folder) is None]
        if (
            policy == "stop"
            or len(passed_over) > self.arguments.max_bad_steps
            or (policy == "rollback" and not folders)
        ):
            so_far = f", the {len(passed_over)}th step that went wrong" if policy != "stop" else ""
            go_on = f"go on from {folders[-1]}" if folders else "start again"
            raise FloatingPointError(
                f"{wrong} at step {step}{so_far}; {go_on} with a lower training.learning_rate, or with training.loss_policy "
                "skip or rollback"
            )
        if policy == "skip":
            self.log.warn(f"step {step} makes no update: {wrong}")
            self.log.write({"skipped": wrong}, step=step)
            self.state.passed_over = passed_over
            return "passed over"
        self.log.warn(f"back to {folders[-1]}; step {step} will be passed over: {wrong}")
        self.unread.clear()
        self.state = replace(load_trainer_state(folders[-1]), elapsed_seconds=self.state.elapsed_seconds)
        self.state.passed_over = sorted({*self.state.passed_over, *passed_over})
        self.window = LossWindow(self.loss_names, self.state.window_sums, self.state.window_steps)
        load_weights(folders[-1], model=self.model)
        self._load(folders[-1])
        self.log.cut_back(step=self.state.global_step)
        self.log.write({"rolled_back": wrong, "passed_over": step}, step=self.state.global_step)
        return "rolled back"

    def _load(self, folder: Path) -> None:
        """Load what goes on beside the weights and the counters."""
        load_optimizer_state(folder, model=self.model, optimizer=self.optimizer)
        self.carried.load(folder)
        if self.accelerator.scaler is not None and self.state.loss_scale:
            self.accelerator.scaler.load_state_dict(self.state.loss_scale)

    def _is_due(self) -> bool:
        """Return whether anything is to be done after the step that was made last."""
        every = (self.arguments.logging_steps, self.arguments.save_steps, self.arguments.eval_steps)
        return self._is_over() or any(_is_due(self.state.global_step, steps) for steps in every)

    def _after_step(self, bar: tqdm) -> None:
        """Show, log, save and evaluate what is due."""
        self._show_progress(bar)
        if self._is_over() or _is_due(self.state.global_step, self.arguments.logging_steps):
            self._log_training(bar)
        if self._is_over():
            return  # the end saves and evaluates
        if _is_due(self.state.global_step, self.arguments.save_steps):
            self.save_checkpoint()
        elif _is_due(self.state.global_step, self.arguments.eval_steps):
            self.evaluate()

    def _agree(
        self, micro_batches: Sequence[Mapping[str, torch.Tensor]], caught: Sequence[str], elapsed: float
    ) -> tuple[dict[str, int], bool, float]:
        """Add up over all processes the step's labels, tokens and digests; agree whether to stop and on the time passed."""
        label_counts = self.train_batches.label_counts
        numbers = {
            name: sum(int((batch[labels] != IGNORED_LABEL).sum()) for batch in micro_batches)
            for name, labels in label_counts.items()
        }
        numbers["tokens"] = sum(self.train_batches.num_tokens(batch) for batch in micro_batches)
        numbers["digest"] = _signed(sum(digest(batch, label_counts) for batch in micro_batches))
        numbers["stop"] = bool(caught)
        numbers["microseconds"] = round(elapsed * 1e6) if self.accelerator.is_main_process else 0
        sums = self._add_up(torch.tensor(list(numbers.values()))).tolist()
        together = dict(zip(numbers, sums, strict=True))
        return together, together["stop"] > 0, together["microseconds"] / 1e6

    def _add_up(self, numbers: torch.Tensor) -> torch.Tensor:
        """Add up numbers over all processes, in the hosts' memory."""
        if self.host_group is not None:
            torch.distributed.all_reduce(numbers, group=self.host_group)
        return numbers

    def _set_learning_rate(self) -> None:
        step = self.state.global_step
        factor = learning_rate_factor(self.arguments, step=step, max_steps=self.max_steps, progress=self.progress())
        self.learning_rate = self.arguments.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    # Evaluation

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Evaluate on the evaluation batches and log what comes out.

        Returns:
            `eval_loss` and the metrics of the batches, prefixed by `eval_`; empty without evaluation batches.
        """
        if self.eval_batches is None:
            return {}
        if self.state.evaluated_step == self.state.global_step:  # before the run was broken off
            return {name: value for name, value in self.state.metrics.items() if name.startswith("eval_")}
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
        self.state.evaluated_step = self.state.global_step
        self.log.write(metrics, step=self.state.global_step)
        self.log.say(f"step {self.state.global_step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        return metrics

    # Checkpoints

    def save_checkpoint(self, *, evaluate: bool = True) -> Path:
        """Evaluate, unless told not to, and write a checkpoint; the best one is chosen among those evaluated.

        Returns:
            The checkpoint's folder.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise FloatingPointError(
                f"the weights are not finite after step {self.state.global_step}, so they are not saved; lower "
                f"training.learning_rate, or go on from the last checkpoint in {self.output_dir}"
            )
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
            state=replace(
                self.state,
                elapsed_seconds=time.monotonic() - self.started,
                window_sums=self.window.sums,
                window_steps=self.window.steps,
                loss_scale={} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            ),
            carried_state=self.carried.gather(),
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
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters; {self._say_sizes()} examples a step, "
            f"{len(self.train_batches):,} an epoch; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device}, precision {self.accelerator.mixed_precision}"
        )
        self.log.say(
            f"unigram entropy of the labels: {self.state.loss_floor:.4f} nats; a model that learns from its {unit} "
            "must get under it"
        )

    def _say_sizes(self) -> str:
        first, final = self.sizes.first, self.sizes.final
        return str(final) if first == final else f"{first} to {final}"

    def _say_end(self) -> None:
        if self.stopped_by is not None:
            self.log.say(
                f"stopped by {self.stopped_by} at step {self.state.global_step}; saved in {self.output_dir / 'last'}; go on "
                "with --training.resume_from_checkpoint auto"
            )
            return
        name = self.train_batches.loss_terms[0]
        loss, which = self.state.metrics.get(f"train_{name}", math.nan), "training"
        if self.eval_batches is not None:
            loss, which = self.state.metrics[f"eval_{name}"], "evaluation"
        floor = self.state.loss_floor
        verdict = "under" if loss < floor else "NOT under"
        self.log.say(
            f"{which} {name.replace('_', ' ')} {loss:.4f}: {verdict} the unigram floor of {floor:.4f} nats "
            f"({floor - loss:+.4f})"
        )

    def _log_training(self, bar: tqdm) -> None:
        losses = self.window.means()
        seconds = max(time.monotonic() - self.entry_started, 1e-9)
        tokens_per_second = (self.state.tokens_seen - self.entry_tokens) / seconds
        values: dict[str, float | str] = {
            **losses,
            "learning_rate": self.learning_rate,
            "tokens_seen": self.state.tokens_seen,
            "tokens_per_second": tokens_per_second,
            "batches": f"{self.state.window_digest:016x}",
        }
        if self.grad_norm is not None:
            values["grad_norm"] = self.grad_norm
        self.log.write(values, step=self.state.global_step)
        self.window = LossWindow(self.loss_names, [], 0)
        self.state.window_digest = 0
        self.entry_started, self.entry_tokens = time.monotonic(), self.state.tokens_seen
        if losses:
            self.state.metrics |= losses
            bar.set_postfix_str(f"loss {losses['train_loss']:.4f}, {tokens_per_second:,.0f} tokens/s", refresh=False)
            self._say_frozen(losses[f"train_{self.train_batches.loss_terms[0]}"])

    def _say_frozen(self, loss: float) -> None:
        late = self.progress() >= 0.75 and self.state.global_step >= 100
        if late and loss >= self.state.loss_floor and not self.has_said_frozen:
            self.has_said_frozen = True
            self.log.warn(
                f"step {self.state.global_step}, late in the training, and the loss {loss:.4f} is still not under "
                f"{self.state.loss_floor:.4f}, the entropy of the labels: the model has learned nothing from its input. Try "
                "another training.learning_rate, a larger model.initializer_range, more steps"
            )


@dataclass(frozen=True)
class _Numbers:
    """The numbers of step and micro-batch from a step on, as a sampler of the DataLoader."""

    places: Places
    first_step: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.places.from_step(self.first_step)


def _signed(number: int) -> int:
    """Return the 64-bit integer with sign that has the same bits."""
    number %= 2**64
    return number - 2**64 if number >= 2**63 else number


def _leave_signals_to_the_parent(worker: int) -> None:
    """Keep a process that prepares batches alive while its parent finishes the step and saves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
