"""Where a training step of the small BERT spends its CPU time, and how near it comes to what the core can multiply.

    OMP_NUM_THREADS=1 python benchmarks/step_profile.py

Walks steps of the MLM of `pretraining.py` (32 packed rows of 128 tokens). The parts are then run again, forward and backward,
on the inputs that they had inside the last step, each by itself. The peak is the best product of two matrices that torch's two
libraries for it do in this process. Useful are the multiplications that the loss depends on: no padding, and of the last layer
what the head reads. CPU time, the least of several times.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from corpus import prepare
from torch import nn
from trainers import BATCH_SIZE, BLOCK_SIZE
from turns import verdict

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.token_store import TokenStore
from bertkit.models import build_config, build_model
from bertkit.models.modeling_linear import times
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.masked import MaskedArguments, MaskedObjective
from bertkit.tokenization import load_tokenizer
from bertkit.training.arguments import TrainingArguments
from bertkit.training.host_memory import keep_freed_memory
from bertkit.training.optimization import build_optimizer, set_learning_rate

PEAK_SHAPES = [(4096, 256, 1024), (4096, 1024, 256), (1024, 1024, 1024), (2048, 2048, 2048)]
FORWARD_AND_BACKWARD = 3  # a product is three: of the outputs, to the inputs, to the weights
GOAL = 0.75  # of the peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--steps", type=int, default=6, help="steps; and how often each part is run")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepare(arguments.corpus, Path(name))
        batches, model = build(Path(name))
    keep_freed_memory()
    optimizer = build_optimizer(
        model, TrainingArguments(max_steps=1), {"all": [n for n, _ in model.named_parameters()]}
    )
    set_learning_rate(optimizer, 5e-4)
    made = [batches.batch(BATCH_SIZE * step, BATCH_SIZE * (step + 1), 0.0) for step in range(2)]
    batch = {key: torch.from_numpy(value) for key, value in made[-1].items()}

    def step() -> None:
        model(**batch).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    whole = least(step, arguments.steps)
    calls = record(model, lambda: model(**batch))
    seconds = {"data": least(lambda: batches.batch(BATCH_SIZE, 2 * BATCH_SIZE, 0.0), arguments.steps)}
    for part, of_part in calls.items():
        seconds[part] = sum(least(replay(*call), arguments.steps) for call in of_part)
    model(**batch).loss.backward()
    seconds["clipping and optimizer"] = least(
        lambda: (nn.utils.clip_grad_norm_(model.parameters(), 1.0), optimizer.step()), arguments.steps
    )
    in_step = whole + seconds["data"]
    seconds["the rest: dropout, sums, embeddings, loss"] = in_step - sum(seconds.values())
    result = {
        "threads": torch.get_num_threads(),
        "milliseconds": {part: 1e3 * taken for part, taken in seconds.items()},
        "useful_gigaflop": useful_flops(model.config, batch) / 1e9,
        "peak_gigaflops": peak_flops() / 1e9,
    }
    print(format_table(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def format_table(result: Mapping[str, Any]) -> str:
    """Lay the parts of the step out as a Markdown table, with the share of the peak below it."""
    parts, useful, peak = result["milliseconds"], result["useful_gigaflop"], result["peak_gigaflops"]
    whole = sum(parts.values())
    rows = ["| part of the step | ms | share |", "|---|---:|---:|"]
    for part, taken in sorted(parts.items(), key=lambda item: -item[1]):
        rows.append(f"| {part} | {taken:,.0f} | {100 * taken / whole:.1f} % |")
    speed = useful / whole * 1e3
    rows += [
        f"| **the step** | **{whole:,.0f}** | |",
        "",
        f"{useful:.0f} useful GFLOP a step, {speed:.0f} GFLOP/s; the best product of two matrices in the same process does",
        f"{peak:.0f}, so the step runs at **{speed / peak:.2f}** of the peak; goal: {verdict(speed / peak, GOAL)}.",
    ]
    return "\n".join(rows)


def build(folder: Path) -> tuple[ObjectiveBatches, Any]:
    """Return batches of the text in a folder, and the model."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    data = DataArguments(train=str(folder / "paragraphs.txt"), cache_dir=str(folder / "cache"))
    store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=True)
    objective = MaskedObjective(MaskedArguments(block_size=BLOCK_SIZE), tokenizer)
    config = build_config("bert", "mini", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    batches = ObjectiveBatches(objective, store, batch_size=BATCH_SIZE, training=True)
    batches.batch(0, 1, 0.0)  # the store is mapped, so that its folder may go
    return batches, build_model(config, objective.auto_class).train()


def least(work: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time that some work takes, in seconds."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


Call = tuple[nn.Module, tuple, dict[str, Any]]


def record(model: Any, forward: Callable[[], object]) -> dict[str, list[Call]]:
    """Return the calls of the parts in a forward pass, with their arguments."""
    parts: dict[str, list[nn.Module]] = {
        "attention": [layer.attention for layer in model.model.layers],
        "feed-forward": [layer.feed_forward for layer in model.model.layers],
        "norms": [norm for layer in model.model.layers for norm in (layer.attention_norm, layer.feed_forward_norm)],
        "head": [model.lm_head],
    }
    calls: dict[str, list[Call]] = {part: [] for part in parts}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs, part=part: calls[part].append((module, args, kwargs)), with_kwargs=True
        )
        for part, modules in parts.items()
        for module in modules
    ]
    forward()
    for hook in hooks:
        hook.remove()
    return calls


def replay(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Callable[[], None]:
    """Return what runs a part again, forward and backward."""
    states = args[0].detach().requires_grad_()
    outputs = module(states, *args[1:], **kwargs)
    gradient = torch.randn_like(outputs[0] if isinstance(outputs, tuple) else outputs)

    def run() -> None:
        outputs = module(states, *args[1:], **kwargs)
        (outputs[0] if isinstance(outputs, tuple) else outputs).backward(gradient)
        states.grad = None

    return run


def useful_flops(config: Any, batch: dict[str, torch.Tensor]) -> float:
    """Return the floating-point operations of a step that its loss depends on."""
    tokens, labels = int(batch["attention_mask"].sum()), int((batch["labels"] != -100).sum())
    hidden, inner = config.hidden_size, config.intermediate_size
    lengths = example_lengths(batch)
    pairs = float((lengths**2).sum())  # of queries and keys
    read = tokens * (config.num_hidden_layers - 1) + labels  # positions whose state is read on, over all layers
    weights = 3 * hidden * hidden * config.num_hidden_layers * tokens + (hidden * hidden + 2 * hidden * inner) * read
    weights += labels * hidden * (hidden + config.vocab_size)
    scores = 2 * hidden * pairs * (config.num_hidden_layers - 1 + labels / tokens)
    return 2.0 * FORWARD_AND_BACKWARD * (weights + scores)


def example_lengths(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return how many tokens each example has: (examples,) float."""
    is_token = batch["attention_mask"] != 0
    starts = (batch["position_ids"] == 0) & is_token
    number = starts.flatten().cumsum(0)[is_token.flatten()] - 1
    return number.bincount().double()


def peak_flops() -> float:
    """Return the operations a CPU-second of the best product of two matrices."""
    best = 0.0
    for rows, inner, columns in PEAK_SHAPES:
        left, right = torch.randn(rows, inner), torch.randn(columns, inner)
        for product in (lambda: left @ right.t(), lambda: times(left, right, None)):  # noqa: B023 (called here)
            best = max(best, 2.0 * rows * inner * columns / least(product, 5))
    return best


if __name__ == "__main__":
    main()
