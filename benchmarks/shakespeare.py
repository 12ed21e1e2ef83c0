"""A character model of Shakespeare down to nanoGPT's published loss on a CPU: bertkit beside a plain AdamW loop.

    OMP_NUM_THREADS=1 python benchmarks/shakespeare.py --text input.txt

nanoGPT (https://github.com/karpathy/nanoGPT) publishes a validation loss of 1.88 nats a character for 4 layers of 128, 4
heads and a context of 64, after 2,000 steps of 12 rows. Both sides train that size on the first 90 % of the text, in windows
of 64 characters at random places, and are asked for all of the rest in windows that follow one another. The plain loop has
nanoGPT's settings (no dropout, AdamW, cosine from 1e-3 to 1e-4). bertkit's Trainer trains a GPT of the same size
and activation (GELU without GPT-2's approximation), with weights drawn twice as wide, by Muon on a shorter schedule. Counted
is the CPU time of the training, from the first batch to the last update; bertkit's saved model is counted, too.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from causal import plain_gpt
from pretraining import Size, shape_of
from trainers import output_folder
from turns import OURS, cpu_seconds, private_stdout

if TYPE_CHECKING:
    import torch

PEER = "plain AdamW loop"
PUBLISHED_LOSS = 1.88
GOAL = 1 / 3
CONTEXT, HIDDEN, LAYERS, HEADS = 64, 128, 4, 4
PEER_STEPS, PEER_ROWS, PEER_RATE, PEER_LEAST_RATE, PEER_WARMUP_STEPS = 2000, 12, 1e-3, 1e-4, 100
OUR_SETTINGS: dict[str, Any] = {
    "optimizer": "muon",
    "train_batch_size": 24,
    "train_batch_size_start": 12,
    "batch_size_warmup_steps": 200,
    "max_steps": 291,
    "learning_rate": 6e-3,
    "muon_rate_factor": 3.0,
    "momentum": 0.85,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.15,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="default: Shakespeare of $BERTKIT_DATA")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of each side, in turn")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: other training settings of bertkit")
    parser.add_argument("--sides", nargs="+", default=[PEER, OURS])
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    text = arguments.text or Path(os.environ.get("BERTKIT_DATA", "."), "shakespeare", "input.txt")
    if not text.is_file():
        raise SystemExit(f"there is no file {text}; give one with --text, or set BERTKIT_DATA")
    if arguments.side:
        with private_stdout() as reports:
            trained = train(arguments.side, text, OUR_SETTINGS | arguments.settings)
            print(json.dumps(trained), file=reports)
        return
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        rounds.append({})
        for side in arguments.sides:
            done = subprocess.run([sys.executable, *sys.argv, f"--side={side}"], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(done.returncode)
            rounds[-1][side] = json.loads(done.stdout)
            print(f"round {number + 1}, {side}: {rounds[-1][side]}", flush=True)
    if {PEER, OURS} <= set(arguments.sides):
        print(format_table({"rounds": rounds}))
    if arguments.output:
        arguments.output.write_text(json.dumps({"text": text.name, "rounds": rounds}, indent=2) + "\n")


def format_table(results: dict[str, Any]) -> str:
    """Lay the results out as a Markdown table."""
    rows = ["| | steps x rows | nats a character | CPU-seconds |", "|---|---:|---:|---:|"]
    for trained in results["rounds"]:
        for side, figures in trained.items():
            shape = f"{figures['steps']:,} x {figures['rows']}"
            rows.append(f"| {side} | {shape} | {figures['loss']:.3f} | {figures['cpu_seconds']:.1f} |")
    shares = [trained[OURS]["cpu_seconds"] / trained[PEER]["cpu_seconds"] for trained in results["rounds"]]
    share, loss = statistics.median(shares), max(trained[OURS]["loss"] for trained in results["rounds"])
    reached = "reached" if share <= GOAL and loss <= PUBLISHED_LOSS else "missed"
    goal = f"{PUBLISHED_LOSS} nats in {GOAL:.2f} of the time was aimed at, and is {reached}"
    return "\n".join([*rows, f"\nbertkit takes {share:.2f} of the plain loop's time; {goal}."])


def train(side: str, text: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Train one side, and return its loss on the part held out and the CPU-seconds that it took."""
    import torch

    characters = np.array(list(text.read_text(encoding="utf-8")))
    vocabulary, ids = np.unique(characters, return_inverse=True)
    boundary = len(ids) * 9 // 10
    torch.manual_seed(0)
    if side == OURS:
        model, taken = train_ours(ids[:boundary], len(vocabulary), settings)
    else:
        model, taken = train_plainly(torch.from_numpy(ids[:boundary]), len(vocabulary))
    steps, rows = (settings["max_steps"], settings["train_batch_size"]) if side == OURS else (PEER_STEPS, PEER_ROWS)
    loss = held_out_loss(model, torch.from_numpy(ids[boundary:]))
    return {"loss": loss, "cpu_seconds": taken, "steps": steps, "rows": rows}


def held_out_loss(model: "torch.nn.Module", ids: "torch.Tensor") -> float:
    """Return the mean loss in nats of the characters of a text, read in windows."""
    import torch

    windows = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    following = ids[1 : windows.numel() + 1]
    following = torch.cat([following, torch.full((windows.numel() - len(following),), -100)]).view(-1, CONTEXT)
    model.eval()
    total, count = 0.0, int((following != -100).sum())
    with torch.no_grad():
        for rows, labels in zip(windows.split(64), following.split(64), strict=True):
            scores = model(rows)
            scores = scores if isinstance(scores, torch.Tensor) else scores.logits
            total += float(torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum"))
    return total / count


def train_plainly(ids: "torch.Tensor", vocab_size: int) -> tuple["torch.nn.Module", float]:
    """Train as nanoGPT does."""
    import torch

    model = plain_gpt(Size(LAYERS, HIDDEN, HEADS, vocab_size), 0.0, context=CONTEXT)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEER_RATE, betas=(0.9, 0.99), fused=True)
    before = cpu_seconds()
    for step in range(PEER_STEPS):
        share = (step - PEER_WARMUP_STEPS) / (PEER_STEPS - PEER_WARMUP_STEPS)
        falling = PEER_LEAST_RATE + 0.5 * (1 + math.cos(math.pi * share)) * (PEER_RATE - PEER_LEAST_RATE)
        for group in optimizer.param_groups:
            group["lr"] = PEER_RATE * (step + 1) / (PEER_WARMUP_STEPS + 1) if share < 0 else falling
        starts = torch.randint(len(ids) - CONTEXT, (PEER_ROWS,)).tolist()
        rows = torch.stack([ids[start : start + CONTEXT + 1] for start in starts])
        logits = model(rows[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model, cpu_seconds() - before


class Windows:
    """Windows of a text at random places, as bertkit's Trainer draws them: each from its number alone.

    Args:
        ids: (characters,) of the text.
    """

    loss_terms, metric_names = ("loss",), ("loss",)
    tokens_per_example, carried_rows = CONTEXT, 0
    floor_name, loss_unit, loss_floor = "entropy of the characters", "nats", math.inf
    label_counts = {"num_items_in_batch": "shift_labels"}  # noqa: RUF012 (the Trainer reads it)
    bits_per_nat: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids) // CONTEXT

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Return the windows of numbers `start` to `stop`."""
        places = np.random.default_rng(start).integers(len(self.ids) - CONTEXT, size=stop - start)
        rows = self.ids[places[:, None] + np.arange(CONTEXT + 1)]
        return {"input_ids": rows[:, :-1], "shift_labels": rows[:, 1:]}

    def num_tokens(self, batch: dict[str, Any]) -> int:
        """Return the characters of a batch."""
        return batch["input_ids"].numel()


def train_ours(ids: np.ndarray, vocab_size: int, settings: dict[str, Any]) -> tuple["torch.nn.Module", float]:
    """Train by bertkit's Trainer."""
    from bertkit.models import build_config, build_model
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.trainer import Trainer

    shape = {**shape_of(Size(LAYERS, HIDDEN, HEADS, vocab_size)), "max_position_embeddings": CONTEXT}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    as_the_loop = {**no_dropout, "hidden_act": "gelu", "pad_token_id": None}
    config = build_config("gpt", "tiny", **shape, **as_the_loop, initializer_range=0.04)
    model = build_model(config, "AutoModelForCausalLM")
    with output_folder() as folder:
        batches: Any = Windows(ids)
        trainer = Trainer(model, batches, TrainingArguments(**settings), output_dir=folder, quiet=True)
        before = cpu_seconds()
        trainer.train()
        return model, cpu_seconds() - before


if __name__ == "__main__":
    main()
