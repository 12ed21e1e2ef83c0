"""The two trainers that are compared, each with its batches metered: bertkit's and transformers'."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turns import Meter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.objectives.objective import Objective
    from bertkit.training.arguments import AttentionName

BLOCK_SIZE = 128
BATCH_SIZE = 32
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.01
LOGGING_STEPS = 10


@contextmanager
def output_folder() -> Iterator[str]:
    """Give a trainer a folder of its own, and let nothing be printed."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as name:
        yield name


def train_transformers(
    model: "PreTrainedModel",
    examples: Mapping[str, list],
    collate: Callable[[list], Any],
    meter: Meter,
    *,
    batch_size: int = BATCH_SIZE,
    on_cpu: bool = True,
    bf16: bool = False,
    **settings: Any,
) -> None:
    """Train by transformers' Trainer.

    Args:
        model: of transformers.
        examples: columns of examples made beforehand.
        collate: makes a batch of some.
        meter: measures.
        batch_size: rows of a step.
        on_cpu: or else on the GPU.
        bf16: in bfloat16 by autocast.
        **settings: further ones of transformers' `TrainingArguments`.
    """
    import datasets
    from transformers import Trainer, TrainingArguments

    dataset = datasets.Dataset.from_dict(dict(examples))
    with output_folder() as folder:
        meter.data_is_ready()
        Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=batch_size,
                max_steps=meter.max_steps,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                logging_steps=LOGGING_STEPS,
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=on_cpu,
                bf16=bf16,
                dataloader_pin_memory=not on_cpu,  # it only warns where there is no GPU
                **settings,
            ),
            train_dataset=dataset,
            data_collator=lambda chosen: meter.batch(lambda: collate(chosen)),
        ).train()


def train_bertkit(
    model: "PreTrainedModel",
    objective: "Objective[Any]",
    text: Path,
    tokenizer: "PreTrainedTokenizerBase",
    meter: Meter,
    documents: Literal["blank_line", "line"] = "blank_line",
    *,
    batch_size: int = BATCH_SIZE,
    micro_batch_size: int | None = None,
    bf16: bool = False,
    attn_implementation: "AttentionName | None" = None,
) -> None:
    """Train by bertkit's Trainer.

    Args:
        model: of bertkit.
        objective: makes the batches.
        text: what they are of.
        tokenizer: its tokenizer.
        meter: measures.
        documents: how the text is cut into documents.
        batch_size: rows of a step.
        micro_batch_size: rows that are computed at once; None: all.
        bf16: in bfloat16 by autocast.
        attn_implementation: what computes attention, by its name in transformers; None: as the model has it.
    """
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.trainer import Trainer

    class MeteredBatches(ObjectiveBatches):
        def batch(self, start: int, stop: int, progress: float) -> Any:
            return meter.batch(lambda: ObjectiveBatches.batch(self, start, stop, progress))

    data = DataArguments(train=str(text), documents=documents, cache_dir=str(text.parent / "cache"))
    store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=True)
    with output_folder() as folder:
        meter.data_is_ready()
        Trainer(
            model,
            MeteredBatches(objective, store, batch_size=batch_size, training=True),
            TrainingArguments(
                train_batch_size=batch_size,
                micro_batch_size=micro_batch_size,
                mixed_precision="bf16" if bf16 else None,
                attn_implementation=attn_implementation,
                max_steps=meter.max_steps,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                logging_steps=LOGGING_STEPS,
            ),
            output_dir=folder,
            quiet=True,
        ).train()
