"""The only training loop: every family, objective and task goes through it.

It sees a model that returns `.loss` and batches that are computed from their number. Where the work runs (devices,
processes, precision, sharding) is decided by Accelerate.
"""

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from bertkit.data.keyed_random import keyed_seed
from bertkit.training.announcements import end_line, frozen_line, start_lines
from bertkit.training.arguments import TrainingArguments
from bertkit.training.attention import edge_finder, set_attention
from bertkit.training.batches import IGNORED_LABEL, Batches, MicroBatches, digest
from bertkit.training.carried_state import CarriedState
from bertkit.training.checkpointing import (
    TrainerState,
    forget_optimizer_state,
    load_optimizer_state,
    load_trainer_state,
    load_weights,
    newest_whole_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
    tidy,
    writing_to,
)
from bertkit.training.evaluation import evaluate_batches, lower_is_better, without_ids
from bertkit.training.freezing import WHOLE, GradualUnfreezing, freeze_for_good
from bertkit.training.host_memory import keep_freed_memory, own_memory
from bertkit.training.learning_rate_search import HIGHEST, LOWEST, STEPS, range_test, write_curve
from bertkit.training.length import Length
from bertkit.training.lora import Lora
from bertkit.training.loss_policy import BadStep, LossPolicy
from bertkit.training.losses import LossWindow, StepLosses
from bertkit.training.optimization import build_optimizer, learning_rate_factor, set_learning_rate
from bertkit.training.places import Places
from bertkit.training.processes import as_main_sees
from bertkit.training.run_log import RunLog
from bertkit.training.sharding import shard_by_layers
from bertkit.training.signals import caught_signals, leave_signals_to_the_parent
from bertkit.training.zero import prepare


class Trainer:
    """Trains a model on batches.

    Args:
        model: returns `.loss`, divided by the counts that `train_batches.label_counts` names.
        train_batches: what to train on.
        arguments: how.
        output_dir: the run's folder.
        eval_batches: what to evaluate on, if anything.
        write_extras: writes what else belongs into a checkpoint folder, given the folder and the state.
        after_save: called by the main process with every checkpoint that is whole, while the others wait; not with the one
            that a signal asks for, which leaves no time.
        layer_groups: names of the model's parameters by group, from the bottom to the top; None: they are one group.
        lora: the adapters inside the model, if there are any.
        resume_from: the checkpoint folder that `model` was loaded from, to go on where it stood.
        recipe: settings to show in the tracker.
        quiet: no progress bar, and no lines but warnings and errors.

    Raises:
        ValueError: no length of training was given, a batch too small for the processes, nothing left to train, a rate is to
            be found for a run that had one, a run is to go on with another optimizer, or attention cannot be computed as asked.
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
        after_save: Callable[[Path, TrainerState], None] | None = None,
        layer_groups: Mapping[str, Sequence[str]] | None = None,
        lora: Lora | None = None,
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
        own_memory(model)
        # Most of the memory of a small language model's step are the scores of its vocabulary, and only its loss is wanted.
        has_scores_to_skip = "skip_logits" in inspect.signature(model.forward).parameters
        self.forward_settings = {"skip_logits": True} if has_scores_to_skip else {}
        self.arguments = arguments
        self.output_dir = Path(output_dir).resolve()
        self.train_batches = train_batches
        self.eval_batches = eval_batches
        self.write_extras = write_extras
        self.after_save = after_save
        self.lora = lora
        self.recipe = dict(recipe or {})
        self.quiet = quiet
        self.log = RunLog(self.accelerator, self.output_dir, quiet=quiet)
        self.resume_from = None if resume_from is None else resume_from.resolve()
        self.state = TrainerState() if self.resume_from is None else load_trainer_state(self.resume_from)
        self.state.loss_floor = train_batches.loss_floor
        self.stopped_by: str | None = None
        if arguments.learning_rate == "find" and resume_from is not None and self.state.found_learning_rate is None:
            raise ValueError(
                f"training.learning_rate is find, but {resume_from} was trained at a rate that was given; give a number to go "
                "on with"
            )

        if resume_from is not None and self.state.optimizer != arguments.optimizer:
            raise ValueError(
                f"training.optimizer is {arguments.optimizer}, but {resume_from} has the state of {self.state.optimizer}; "
                "go on with that one, or give the folder as model.from to a new run, which takes the weights alone"
            )
        self.state.optimizer = arguments.optimizer
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
        self.length = Length.of(
            arguments, tokens_per_example=train_batches.tokens_per_example, num_examples=len(train_batches)
        )
        self.places = Places(
            sizes=self.sizes,
            rank=self.accelerator.process_index,
            processes=processes,
            micro_batch_size=arguments.micro_batch_size,
            max_steps=self.length.max_steps,
            share_of_time=torch.zeros((), dtype=torch.float64).share_memory_(),
        )
        self.loss_names = ["loss", *(term for term in train_batches.loss_terms if term != "loss")]
        self.losses = LossPolicy(
            arguments,
            self.loss_names,
            self.state,
            add_up=self._add_up,
            is_scaled=self.accelerator.scaler is not None,
        )
        self.learning_rate = 0.0
        self.has_said_frozen = False

        set_attention(
            model,
            arguments.attn_implementation,
            precision=self.accelerator.mixed_precision,
            device=self.accelerator.device,
        )
        self.find_edges = edge_finder(model)
        if arguments.gradient_checkpointing:
            model.activation_checkpointing_enable()
        self.carried = CarriedState(model, num_rows=train_batches.carried_rows, accelerator=self.accelerator)
        layer_groups = layer_groups or {WHOLE: [name for name, _ in model.named_parameters()]}
        freeze_for_good(model, layer_groups, arguments.freeze)
        shard_by_layers(self.accelerator, model, arguments.optimizer)
        optimizer = build_optimizer(model, arguments, layer_groups)
        self.model, self.optimizer = prepare(self.accelerator, model, optimizer, arguments)
        self.unfreezing = GradualUnfreezing(
            model,
            layer_groups,
            arguments.gradual_unfreezing,
            sizes=self.sizes,
            num_examples=len(train_batches),
            needs_all_gradients=self.accelerator.is_fsdp2,
        )
        # Decisions that all processes take together travel between hosts, not devices: reading them makes no GPU wait.
        self.host_group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def progress(self) -> float:
        """Return how far the training is, from 0 to 1, in steps or in time."""
        return self.length.progress(self.state)

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
            threads = torch.get_num_threads()
            if self.accelerator.device.type == "cpu" and self.state.threads not in (None, threads):
                self.log.warn(
                    f"{self.resume_from} was made with {self.state.threads} threads and the run goes on with {threads}, so it "
                    f"will not end with the bits of an unbroken one; OMP_NUM_THREADS={self.state.threads} sets as many"
                )
        if self.accelerator.is_main_process:
            with writing_to(self.output_dir):
                self.output_dir.mkdir(parents=True, exist_ok=True)
                tidy(self.output_dir, step=self.state.global_step)
        self.log.start(self.recipe, step=self.state.global_step, passed_over=self.state.passed_over)
        for line in start_lines(
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            num_frozen=sum(p.numel() for p in self.model.parameters() if not p.requires_grad),
            sizes=self.sizes,
            batches=self.train_batches,
            accelerator=self.accelerator,
        ):
            self.log.say(line)
        if self.arguments.learning_rate == "find" and self.state.found_learning_rate is None:
            self._find_learning_rate()
        self.started = time.monotonic() - self.state.elapsed_seconds
        self.entry_started, self.entry_tokens = time.monotonic(), self.state.tokens_seen
        if self.arguments.loss_policy == "rollback" and not self.goes_on_here:
            self.save_checkpoint(evaluate=False)  # somewhere to go back to
        with caught_signals(self.log.say) as caught, self.log.progress_bar(self.length, self.state) as bar:
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
                if begun := self.unfreezing.line(self.state.global_step):
                    self.log.say(begun)
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
        losses = self.compute_gradients(self.state.global_step, micro_batches, counts)
        self.losses.unread.append(losses)
        is_kept = not (self.arguments.loss_policy == "skip" and self._read_losses(but=0) == "passed over")
        self.carried.step(keep=is_kept)
        if is_kept:
            self.optimizer.step()
        elif self.accelerator.scaler is not None:
            self.accelerator.scaler.update()
        self.optimizer.zero_grad()

    def compute_gradients(
        self, step: int, micro_batches: Sequence[Mapping[str, torch.Tensor]], counts: Mapping[str, int]
    ) -> StepLosses:
        """Compute the gradients of a step, clipped, and send its losses and their norm on the way to the host.

        Args:
            step: counted from 0.
            micro_batches: this process's share of the global batch.
            counts: labels of the whole step over all processes, by argument of the model's forward.
        """
        self.model.train()
        self.unfreezing.begin(step)
        device = self.accelerator.device
        losses = StepLosses(self.loss_names, step=step + 1)
        divisors = {
            name: torch.full((), max(counts[name], 1), device=device) for name in self.train_batches.label_counts
        }
        for micro, batch in enumerate(micro_batches):
            is_last = micro == len(micro_batches) - 1
            start, stop = self.places.bounds(step, micro)
            inputs = {**send_to_device(without_ids(batch), device, non_blocking=True), **divisors}
            torch.manual_seed(keyed_seed(self.arguments.seed, "dropout", step, start))
            self.accelerator.sync_gradients = is_last  # what `no_sync` leaves alone, and DeepSpeed goes by
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                outputs = self.model(**inputs, **self.forward_settings, **self.carried.arguments(start, stop))
                losses.add(outputs)
                self.carried.add(outputs)
                loss = outputs.loss
                del outputs  # where the scores lay, their gradient fits
                # The counts are the whole step's, and data parallelism averages: undo the average.
                self.accelerator.backward(loss * self.accelerator.num_processes)
        self.unfreezing.forget_gradients(step)
        largest = self.arguments.max_grad_norm or math.inf  # the norm is judged, clipped or not
        losses.grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), largest)
        losses.send()
        return losses

    def _find_learning_rate(self) -> None:
        """Try the first steps at rising rates, then put everything back as it was, and keep the rate to train at."""
        self.log.say(f"learning rate: up to {STEPS} steps are tried at rates from {LOWEST:g} to {HIGHEST:g}")
        everything = [*self.model.parameters(), *self.model.buffers()]
        before = [tensor.detach().clone() for tensor in everything]
        scale = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        curve = range_test(self._loss_at_rate)
        with torch.no_grad():
            for tensor, value in zip(everything, before, strict=True):
                tensor.copy_(value)
        forget_optimizer_state(self.optimizer)
        self.carried.forget()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scale)
        rate = self.state.found_learning_rate = curve.chosen()
        if self.accelerator.is_main_process:
            with writing_to(self.output_dir):
                shown_in = write_curve(curve, self.output_dir)
            self.log.say(f"learning rate found: {rate:g}; the curve is in {shown_in}")
            if doubt := curve.doubt():
                self.log.warn(doubt)
        self.log.write({"found_learning_rate": rate}, step=0)

    def _loss_at_rate(self, step: int, rate: float) -> float:
        """Make a step at a rate; return its loss over all processes."""
        numbers = ((step, micro) for micro in range(self.places.micro_batches(step)))
        micro_batches = [self._all_micro_batches()[number] for number in numbers]
        counts, _, _ = self._agree(micro_batches, (), 0.0)
        set_learning_rate(self.optimizer, rate)
        losses = self.compute_gradients(step, micro_batches, counts)
        self.carried.step(keep=True)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(self._add_up(torch.tensor(losses.read(), dtype=torch.float64))[0])

    def _all_micro_batches(self) -> MicroBatches[tuple[int, int]]:
        return MicroBatches(
            self.train_batches,
            bounds=self.places.bounds_of,
            progress=self.places.progress_of,
            find_edges=self.find_edges,
        )

    def _micro_batches(self, first_step: int) -> Iterator[dict[str, torch.Tensor]]:
        loader = DataLoader(
            self._all_micro_batches(),
            sampler=_Numbers(self.places, first_step),
            batch_size=None,
            num_workers=self.arguments.dataloader_num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=leave_signals_to_the_parent,
            generator=torch.Generator(),  # else a new iterator draws from the generator that dropout uses
        )
        return iter(loader)

    def _read_losses(self, *, but: int) -> str | None:
        """Read what the steps' losses were, all of them `but` the newest, and do as the policy says if one went wrong.

        Returns:
            "passed over" or "rolled back", if a step was.
        """
        bad = self.losses.read(self.state, but=but)
        if bad is None:
            return None
        folder = self.losses.go_back_to(bad, self.state, self._newest_whole_checkpoint)
        if folder is not None:
            self._go_back(folder, bad)
            return "rolled back"
        self.log.warn(f"step {bad.step} makes no update: {bad.wrong}")
        self.log.write({"skipped": bad.wrong}, step=bad.step)
        self.state.passed_over = [*self.state.passed_over, bad.step]
        return "passed over"

    def _newest_whole_checkpoint(self) -> Path | None:
        is_main = self.accelerator.is_main_process
        return as_main_sees(newest_whole_checkpoint(self.output_dir) if is_main else None)

    def _go_back(self, folder: Path, bad: BadStep) -> None:
        """Go back to a checkpoint, to pass over a step when it comes again."""
        self.log.warn(f"back to {folder}; step {bad.step} will be passed over: {bad.wrong}")
        passed_over = [*self.state.passed_over, bad.step]
        self.state = replace(load_trainer_state(folder), elapsed_seconds=self.state.elapsed_seconds)
        self.state.passed_over = sorted({*self.state.passed_over, *passed_over})
        self.losses.start_from(self.state)
        load_weights(folder, model=self.model, optimizer=self.optimizer, lora=self.lora)
        self._load(folder)
        self.log.cut_back(step=self.state.global_step, passed_over=self.state.passed_over)
        self.log.write({"rolled_back": bad.wrong, "passed_over": bad.step}, step=self.state.global_step)

    def _load(self, folder: Path) -> None:
        """Load what goes on beside the weights and the counters."""
        self.unfreezing.thaw()
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
        bar.update(self.length.done(self.state) - bar.n)
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
        factor = learning_rate_factor(
            self.arguments, step=step, max_steps=self.length.max_steps, progress=self.progress()
        )
        given = self.arguments.learning_rate
        peak = self.state.found_learning_rate if given == "find" else given
        assert peak is not None
        self.learning_rate = peak * factor
        set_learning_rate(self.optimizer, self.learning_rate)

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
            better = best is None or (value < best if lower_is_better(self.best_by) else value > best)
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
                finished=self._is_over(),
                elapsed_seconds=time.monotonic() - self.started,
                window_sums=self.losses.window.sums,
                window_steps=self.losses.window.steps,
                loss_scale={} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
                threads=torch.get_num_threads(),
            ),
            carried_state=self.carried.gather(),
            lora=self.lora,
            write_extras=lambda aside: self.write_extras(aside, self.state),
        )
        if self.accelerator.is_main_process:
            if self.after_save is not None and self.stopped_by is None:
                self.after_save(folder, self.state)
            remove_old_checkpoints(
                self.output_dir, limit=self.arguments.save_total_limit, best_step=self.state.best_step
            )
        self.accelerator.wait_for_everyone()
        return folder

    # What is said and logged

    def _say_end(self) -> None:
        if self.stopped_by is not None:
            self.log.say(
                f"stopped by {self.stopped_by} at step {self.state.global_step}; saved in {self.output_dir / 'last'}; go on "
                "with --training.resume_from_checkpoint auto"
            )
            return
        name = self.train_batches.loss_terms[0]
        self.log.say(end_line(name, self.state.metrics, floor=self.state.loss_floor))

    def _log_training(self, bar: tqdm) -> None:
        losses = self.losses.window.means()
        seconds = max(time.monotonic() - self.entry_started, 1e-9)
        tokens_per_second = (self.state.tokens_seen - self.entry_tokens) / seconds
        values: dict[str, float | str] = {
            **losses,
            **self._bits(losses),
            "learning_rate": self.learning_rate,
            "tokens_seen": self.state.tokens_seen,
            "tokens_per_second": tokens_per_second,
            "batches": f"{self.state.window_digest:016x}",
        }
        if self.losses.grad_norm is not None:
            values["grad_norm"] = self.losses.grad_norm
        self.log.write(values, step=self.state.global_step)
        self.losses.window = LossWindow(self.loss_names, [], 0)
        self.state.window_digest = 0
        self.entry_started, self.entry_tokens = time.monotonic(), self.state.tokens_seen
        if losses:
            self.state.metrics |= losses
            bar.set_postfix_str(f"loss {losses['train_loss']:.4f}, {tokens_per_second:,.0f} tokens/s", refresh=False)
            self._say_frozen(losses[f"train_{self.train_batches.loss_terms[0]}"])

    def _bits(self, losses: dict[str, float]) -> dict[str, float]:
        bits_per_nat = self.train_batches.bits_per_nat.items() if losses else ()
        return {f"train_{name}": losses[f"train_{loss}"] * bits for name, (loss, bits) in bits_per_nat}

    def _say_frozen(self, loss: float) -> None:
        line = frozen_line(loss, floor=self.state.loss_floor, step=self.state.global_step, progress=self.progress())
        if line is not None and not self.has_said_frozen:
            self.has_said_frozen = True
            self.log.warn(line)


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


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
