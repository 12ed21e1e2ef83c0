"""CPU time to the evaluation loss that transformers' Trainer has after 2,000 steps: bertkit's quick recipe beside it.

    OMP_NUM_THREADS=1 python benchmarks/time_to_loss.py --peer      # an hour: the Trainer's curve, which is kept
    OMP_NUM_THREADS=1 python benchmarks/time_to_loss.py             # minutes: bertkit's, and how long it took

Masked tokens of Austen's novels, every twentieth chapter held out, 4 layers of 256 and a vocabulary of 8,192 on both sides.
The Trainer trains BertForMaskedLM in the classical way on full rows: AdamW, 32 rows of 128 tokens, dropout 0.1. bertkit
trains by `recipes/pretrain/bert-mini-quick.yaml`, in which all but the size, the text and the tokenizer is free. Both are
asked for the same masked tokens of the same held-out rows, which are cut and masked as the Trainer's own. Of the Trainer its
steps are counted, 2,000 times what one takes it here and now, and neither imports nor evaluations; of bertkit the whole
command, from the text to the saved model. Further options are settings of the recipe.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import lay_text, train_tokenizer_of
from peer_examples import grouped
from trainers import BLOCK_SIZE, train_transformers
from turns import cpu_seconds, processor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RESULTS = Path(__file__).parent.parent / "docs" / "time_to_loss.json"
RECIPE = "bert-mini-quick"
STEPS = 200
PEER_STEPS = 2000
PEER_WARMUP_STEPS = 100
PEER_EVAL_STEPS = 100
HELD_OUT = 20  # one document of so many
EVAL_SEED = 0
GOAL = 1 / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--peer", action="store_true", help="measure the Trainer's curve anew")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where results are kept")
    arguments, recipe_settings = parser.parse_known_args()
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = prepare(arguments.corpus, folder)
        if arguments.peer:
            results["peer"] = {"text": text, **train_peer(folder, PEER_STEPS)}
        elif results.get("peer", {}).get("text", text) != text:
            raise SystemExit(
                f"{arguments.output} has the Trainer's curve on {results['peer']['text']}, and this is {text}"
            )
        else:
            results["bertkit"] = train_by_recipe(folder, recipe_settings)
            results["peer_step_seconds"] = peer_step_seconds(folder)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    if {"peer", "bertkit"} <= set(results):
        print(format_table(results))


def prepare(corpus: Path | None, folder: Path) -> str:
    """Lay text to train on (`train.txt`), text held out (`held_out.txt`) and a tokenizer of the former into the folder.

    Returns:
        What text it is.
    """
    text = lay_text(corpus, folder)
    documents = [text for text in (folder / "paragraphs.txt").read_text(encoding="utf-8").split("\n\n") if text.strip()]
    parts = {"held_out": documents[HELD_OUT - 1 :: HELD_OUT]}
    parts["train"] = [document for number, document in enumerate(documents, 1) if number % HELD_OUT]
    for name, texts in parts.items():
        (folder / f"{name}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    train_tokenizer_of(folder / "train.txt", folder)
    return text


# The two sides


def train_peer(folder: Path, steps: int, eval_steps: int = PEER_EVAL_STEPS) -> dict[str, Any]:
    """Train by transformers' Trainer, and return its curve."""
    from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, set_seed

    from bertkit.tokenization import load_tokenizer

    set_seed(0)
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    curve = Curve(steps, eval_steps, lambda: held_out_loss(model, masked_rows(folder, tokenizer)))
    examples = grouped(folder / "train.txt", tokenizer, BLOCK_SIZE)
    train_transformers(
        model, examples, DataCollatorForLanguageModeling(tokenizer), curve, warmup_steps=PEER_WARMUP_STEPS
    )
    curve.look()
    return {"measured": machine(), "curve": curve.points}


class Curve:
    """Follows a training: where a batch is asked for, now and then, it looks at the loss, and leaves the time for that out.

    Args:
        max_steps: steps of the training.
        eval_steps: steps between two looks.
        evaluate: returns the loss of the model as it is.
    """

    def __init__(self, max_steps: int, eval_steps: int, evaluate: Callable[[], float]) -> None:
        self.max_steps, self.eval_steps, self.evaluate = max_steps, eval_steps, evaluate
        self.points: list[dict[str, float]] = []
        self.requests, self.not_counted = 0, 0.0

    def data_is_ready(self) -> None:
        """Take note that all that is left is to train."""
        self.not_counted = cpu_seconds()

    def batch(self, collate: Callable[[], Any]) -> Any:
        """Return the batch that `collate` makes."""
        if self.steps > 0 and self.steps % self.eval_steps == 0:
            self.look()
        self.requests += 1
        return collate()

    @property
    def steps(self) -> int:
        """Steps that are done: the Trainer asks for a batch before it makes a step of the one before."""
        return self.requests - 1

    def look(self) -> None:
        """Add a point to the curve."""
        before = cpu_seconds()
        point = {"step": self.steps, "cpu_seconds": before - self.not_counted, "loss": self.evaluate()}
        self.not_counted += cpu_seconds() - before
        self.points.append(point)
        print(point, file=sys.__stdout__, flush=True)


def peer_step_seconds(folder: Path) -> float:
    """Return what a step takes transformers' Trainer on this machine, in CPU-seconds."""
    first, last = train_peer(folder, 22, eval_steps=2)["curve"][::10]
    return (last["cpu_seconds"] - first["cpu_seconds"]) / (last["step"] - first["step"])


def train_by_recipe(folder: Path, settings: list[str]) -> dict[str, Any]:
    """Run `bertkit pretrain` in a process, and return the loss of what it saved and the CPU-seconds that it took."""
    run = folder / "run"
    command = ["pretrain", "--config", RECIPE, "--tokenizer", folder / "tokenizer", "--output_dir", run, "--quiet"]
    command += ["--training.max_steps", STEPS]
    before = cpu_seconds()
    subprocess.run(
        [sys.executable, "-m", "bertkit.cli", *map(str, command), "--data.train", str(folder / "train.txt"), *settings],
        check=True,
    )
    taken = cpu_seconds() - before
    from transformers import AutoModelForMaskedLM

    import bertkit.models  # noqa: F401 (the Auto classes know its families)
    from bertkit.tokenization import load_tokenizer

    model = AutoModelForMaskedLM.from_pretrained(run / "last")
    loss = held_out_loss(model, masked_rows(folder, load_tokenizer(folder / "tokenizer")))
    steps = json.loads((run / "last" / "state" / "trainer_state.json").read_text())["global_step"]
    return {"measured": machine(), "steps": steps, "settings": settings, "cpu_seconds": taken, "loss": loss}


# The evaluation


def masked_rows(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> "dict[str, torch.Tensor]":
    """Return the held-out text as rows of tokens, masked always in the same way."""
    import torch
    from transformers import DataCollatorForLanguageModeling

    columns = grouped(folder / "held_out.txt", tokenizer, BLOCK_SIZE)
    rows = [
        {"input_ids": ids, "special_tokens_mask": special}
        for ids, special in zip(columns["input_ids"], columns["special_tokens_mask"], strict=True)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(EVAL_SEED)
        batch = DataCollatorForLanguageModeling(tokenizer)(rows)
    return {name: batch[name] for name in ("input_ids", "labels")}


def held_out_loss(model: "PreTrainedModel", rows: "dict[str, torch.Tensor]") -> float:
    """Return the mean loss in nats of the masked tokens; the model is left in training mode."""
    import torch
    from torch.nn.functional import cross_entropy

    model.eval()
    total = 0.0
    with torch.no_grad():
        for ids, labels in zip(rows["input_ids"].split(32), rows["labels"].split(32), strict=True):
            scores = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            total += float(cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum"))
    model.train()
    return total / int((rows["labels"] != -100).sum())


# The results


def machine() -> dict[str, str]:
    """Return when and on what is measured."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return {"date": datetime.date.today().isoformat(), "machine": processor(), "OMP_NUM_THREADS": threads}


def format_table(results: dict[str, Any]) -> str:
    """Lay the results out as a Markdown table."""
    target, ours = results["peer"]["curve"][-1], results["bertkit"]
    peer_seconds = target["step"] * results["peer_step_seconds"]
    share = ours["cpu_seconds"] / peer_seconds
    reached = "reached" if share <= GOAL and ours["loss"] <= target["loss"] else "missed"
    return "\n".join(
        [
            "| | steps | nats a masked token | CPU-seconds |\n|---|---:|---:|---:|",
            f"| transformers' Trainer | {target['step']:,} | {target['loss']:.3f} | {peer_seconds:,.0f} |",
            f"| bertkit, {RECIPE} | {ours['steps']:,} | {ours['loss']:.3f} | {ours['cpu_seconds']:,.0f} |",
            f"\nbertkit takes 1/{1 / share:.0f} of the Trainer's time; 1/{1 / GOAL:.0f} was aimed at, and is {reached}.",
        ]
    )


if __name__ == "__main__":
    main()
