"""How a model is trained: the settings of the Trainer, for pretraining and fine-tuning alike."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from bertkit.training.batch_sizes import BatchSizes

AttentionName = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4"]

LENGTHS = ("training.max_steps", "training.num_train_epochs", "training.max_time")
"""The settings of which one says how long to train."""
TRACKERS = ("tensorboard", "trackio", "wandb")
"""Where the log can go besides `log.jsonl`; each is an extra of the package."""


@dataclass
class TrainingArguments:
    """Settings of the training loop. Where it runs is Accelerate's business (accelerate_config.yaml)."""

    train_batch_size: int | str = 32
    """Examples (packed rows, in pretraining) in a step over all processes, or tokens as in "32768 tokens"."""
    train_batch_size_start: int | str | None = None
    """Size of the first step's batch, which then grows in a line to `train_batch_size` over `batch_size_warmup_steps`."""
    batch_size_warmup_steps: int = 0
    """Steps over which the batch grows from `train_batch_size_start`."""
    micro_batch_size: int | None = None
    """Most examples a process computes at once (one more where the batch cannot be shared evenly); what the global batch holds
    beyond that is accumulated. Default: all."""
    max_steps: int | None = None
    """Steps to train; one of `max_steps`, `num_train_epochs` and `max_time` must be given."""
    num_train_epochs: float | None = None
    """Passes over the data to train, instead of `max_steps`."""
    max_time: str | None = None
    """Wall-clock budget to train, as "90s", "30m" or "2h", schedule included; a resumed run counts the time already spent."""
    optimizer: Literal["adamw", "muon", "adafactor", "sgd"] = "adamw"
    """What makes updates of gradients: "adamw"; "muon", which makes those of the layers' matrices orthogonal and trains
    the rest by AdamW, and from scratch gets as far in fewer steps; "adafactor", which keeps a row and a column in place of a
    matrix of squared gradients; or "sgd" with momentum."""
    learning_rate: float | Literal["find"] = 5e-4
    """Peak learning rate, reached after `warmup_steps`; "find" tries a hundred of them before the first step, from 1e-7 to 1,
    and takes the one at which the loss falls fastest. The curve is drawn in `learning_rate.png`."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "warmup_stable_decay", "inverse_sqrt", "slanted_triangular", "constant"
    ] = "linear"
    """How the learning rate falls after the warm-up: to 0 in a line or a half cosine; not at all until the last
    `decay_fraction` of the training, then in a line; with the inverse square root of the step, as the Transformer's paper has
    it; in a line to the `lr_ratio`-th part, from which it rose, as ULMFiT's paper has it; or never."""
    warmup_steps: float = 0.06
    """Steps over which the learning rate rises from 0; below 1 it is a share of the training."""
    decay_fraction: float = 0.2
    """Share of the training, at its end, in which `warmup_stable_decay` decays."""
    lr_ratio: float = 32.0
    """How many times the lowest learning rate of `slanted_triangular` its peak is."""
    layer_decay: float = 1.0
    """Discriminative learning rates: each group of layers, from the head down to the embeddings, trains at this share of the
    rate of the group above it. ULMFiT divides by 2.6: 0.385."""
    freeze: Literal["none", "embeddings", "backbone"] = "none"
    """What keeps its weights from the first step to the last: nothing, the embeddings, or all but the head."""
    gradual_unfreezing: bool | int = False
    """Train the head alone at first, and with each epoch, or each of so many steps, one more group of layers from the top."""
    weight_decay: float = 0.01
    """Weight decay of matrices, decoupled (by sgd added to the gradient); biases and norms are left alone."""
    muon_rate_factor: float = 5.0
    """How many times the learning rate the matrices are trained at that muon takes; the rest trains at the learning rate."""
    momentum: float = 0.95
    """Decay rate of the summed gradients of muon and sgd."""
    adam_beta1: float = 0.9
    """AdamW's decay rate of the mean gradient."""
    adam_beta2: float = 0.999
    """AdamW's decay rate of the mean squared gradient."""
    adam_epsilon: float = 1e-8
    """AdamW's divisor guard."""
    max_grad_norm: float | None = 1.0
    """Gradients are scaled down to this global norm; `null` turns clipping off."""
    logging_steps: int = 10
    """Steps between two entries of the log."""
    eval_steps: int | None = None
    """Steps between two evaluations, besides those of the checkpoints."""
    eval_batch_size: int = 64
    """Examples a process evaluates at once."""
    max_eval_batches: int | None = None
    """Most batches of an evaluation, for large evaluation sets."""
    save_steps: int | None = None
    """Steps between two checkpoints, each evaluated when it is made; one is always made at the end. Default: pretraining only
    then, fine-tuning each epoch."""
    save_total_limit: int | None = 2
    """Most checkpoints to keep, the best and the last always among them (two, where they differ); `null` keeps all."""
    metric_for_best_model: str | None = None
    """Evaluation metric that names the best checkpoint: a loss, a perplexity or bits the lower the better, all others the
    higher. Default: the loss in pretraining, the task's main metric in fine-tuning."""
    loss_policy: Literal["stop", "skip", "rollback"] = "stop"
    """What follows when the loss or the gradient of a step is not finite, or the loss a spike: the run ends; the step makes no
    update; or the run goes on from the last checkpoint and passes over the step when it comes again."""
    loss_spike_factor: float | None = None
    """How many times the median of the last 100 steps a loss must be to count as a spike; `null`: none does."""
    max_bad_steps: int = 10
    """Steps that `skip` or `rollback` may pass over before the run ends after all."""
    seed: int = 0
    """Key of every random choice: initial weights, data order, masks, dropout."""
    resume_from_checkpoint: str | None = None
    """A checkpoint folder to go on from, or "auto": the newest one in `output_dir`, or a fresh start where there is none."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    """Precision of the arithmetic; default: what Accelerate was launched with."""
    attn_implementation: AttentionName | None = None
    """How attention is computed, by its name in transformers; default: "sdpa". The flash attentions, for GPUs in half
    precision, compute nothing between the examples that share a row; they are packages of their own, or come from the Hub by
    the package `kernels`."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    torch_compile: bool = False
    """Compile the model with torch.compile."""
    push_to_hub: str | None = None
    """Repository on the Hub, as owner/name or name alone, that gets each checkpoint when it is saved, in a branch named by the
    tokens seen, as tokens-12.5M, and at the end the checkpoint of `hub_checkpoint` in main; token and rights are looked at
    before the training starts. `bertkit push` does the same by hand."""
    hub_private: bool | None = None
    """Whether that repository shall be private; null makes a private one, and leaves one that is there as it is."""
    hub_checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint main gets at the end."""
    hub_license: str | None = None
    """License of the model, as the Hub abbreviates it (apache-2.0, cc-by-sa-4.0, ...), for the model card."""
    report_to: str | list[str] = "none"
    """Trackers to log to: "tensorboard", "trackio", "wandb", several of them, or "none"."""
    dataloader_num_workers: int = 0
    """Processes that prepare batches ahead; 0 prepares them in the training process."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: a number outside its range, or not exactly one of the three lengths of training.
        """
        lengths = [name for name in ("max_steps", "num_train_epochs", "max_time") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(
                f"training.{' and training.'.join(lengths)} are given; give one, or set the others to null"
            )
        if self.max_time is not None:
            parse_duration(self.max_time)
        if self.gradual_unfreezing is not False and self.gradual_unfreezing < 1:
            raise ValueError(
                f"training.gradual_unfreezing is {self.gradual_unfreezing}; give true for a group more each epoch, a number of "
                "steps, or false"
            )
        if self.freeze == "backbone" and self.gradual_unfreezing:
            raise ValueError(
                "training.freeze backbone leaves no layer for training.gradual_unfreezing to unfreeze; leave one out"
            )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"training.layer_decay is {self.layer_decay}; it must be above 0 and at most 1")
        if self.muon_rate_factor <= 0:
            raise ValueError(f"training.muon_rate_factor is {self.muon_rate_factor}; it must be greater than 0")
        if self.lr_ratio < 1:
            raise ValueError(f"training.lr_ratio is {self.lr_ratio}; it must be at least 1")
        for name in ("max_steps", "num_train_epochs", "micro_batch_size", "logging_steps", "eval_steps", "save_steps",
                     "save_total_limit", "eval_batch_size", "max_eval_batches", "max_grad_norm", "max_bad_steps"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"training.{name} is {value}; it must be greater than 0")
        for name in ("momentum", "adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.adam_epsilon <= 0:
            raise ValueError(f"training.adam_epsilon is {self.adam_epsilon}; it must be greater than 0")
        if not 0 < self.decay_fraction <= 1:
            raise ValueError(f"training.decay_fraction is {self.decay_fraction}; it must be above 0 and at most 1")
        for tracker in [self.report_to] if isinstance(self.report_to, str) else self.report_to:
            if tracker not in ("none", *TRACKERS):
                raise ValueError(f"training.report_to is {tracker!r}; choose from none, {', '.join(TRACKERS)}")
            if tracker != "none" and importlib.util.find_spec(tracker) is None:
                raise ValueError(f"training.report_to {tracker} needs a package; pip install 'bertkit[{tracker}]'")
        for name in ("learning_rate", "warmup_steps", "weight_decay", "dataloader_num_workers",
                     "batch_size_warmup_steps"):  # fmt: skip
            if getattr(self, name) != "find" and getattr(self, name) < 0:
                raise ValueError(f"training.{name} is {getattr(self, name)}; it must not be negative")
        if self.lr_scheduler_type == "inverse_sqrt" and self.warmup_steps == 0:
            raise ValueError(
                "training.warmup_steps is 0; inverse_sqrt falls as the steps outgrow the warm-up, so give one"
            )
        if self.lr_scheduler_type == "slanted_triangular" and self.max_time is not None and self.warmup_steps >= 1:
            raise ValueError(
                f"training.warmup_steps is {self.warmup_steps}; under training.max_time slanted_triangular takes a share of "
                "the time, as 0.1"
            )
        if self.loss_spike_factor is not None and self.loss_spike_factor <= 1:
            raise ValueError(f"training.loss_spike_factor is {self.loss_spike_factor}; it must be greater than 1")
        if (self.train_batch_size_start is None) != (self.batch_size_warmup_steps == 0):
            raise ValueError(
                "training.train_batch_size_start and training.batch_size_warmup_steps go together; give both"
            )
        self.batch_sizes(tokens_per_example=1)

    @property
    def time_budget(self) -> float | None:
        """`max_time` in seconds."""
        return None if self.max_time is None else parse_duration(self.max_time)

    def batch_sizes(self, tokens_per_example: int) -> BatchSizes:
        """Return the global batch size of every step, in examples.

        Args:
            tokens_per_example: length of a row, for a batch size given in tokens.

        Raises:
            ValueError: a size that is not a positive number of examples or tokens, or a first batch larger than the others.
        """
        final = _examples("train_batch_size", self.train_batch_size, tokens_per_example)
        if self.train_batch_size_start is None:
            return BatchSizes(final=final, first=final, growing_steps=0)
        first = _examples("train_batch_size_start", self.train_batch_size_start, tokens_per_example)
        if first > final:
            raise ValueError(
                f"training.train_batch_size_start is {self.train_batch_size_start}, more than training.train_batch_size, "
                f"{self.train_batch_size}; a batch can only grow"
            )
        return BatchSizes(final=final, first=first, growing_steps=self.batch_size_warmup_steps)


def _examples(name: str, value: int | str, tokens_per_example: int) -> int:
    size = str(value).split()
    if size and size[0].isdecimal() and int(size[0]) > 0 and size[1:] in ([], ["tokens"]):
        return max(int(size[0]) // (tokens_per_example if size[1:] else 1), 1)
    raise ValueError(f"training.{name} is {value!r}; give examples, as 32, or tokens, as '32768 tokens'")


def parse_duration(text: str) -> float:
    """Return the seconds that a duration like "90s", "30m" or "1.5h" means.

    Raises:
        ValueError: it is none of these.

    >>> parse_duration("1.5h")
    5400.0
    """
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:])
    try:
        duration = float(text[:-1]) * seconds if seconds else 0.0
    except ValueError:
        duration = 0.0
    if duration <= 0:
        raise ValueError(f"training.max_time is {text!r}; give a time greater than 0, as '90s', '30m' or '2h'")
    return duration
