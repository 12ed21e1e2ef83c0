"""What pretraining costs by size of model, row, corpus and number of processes, as far as a CPU tells, beside the arithmetic.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [sizes lengths processes corpora]

Trains BERTs of several sizes and row lengths for a few steps each, in processes of their own, and prints what a token took
beside what `scaling_arithmetic.py` says.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling_arithmetic import GIGA, bert, flops_per_token, memory_of_step, num_parameters, table
from turns import Meter, cpu_seconds

# Size, tokens of a row, rows of a step: as many tokens each, but for the largest model.
BY_SIZE = [("tiny", 128, 32), ("mini", 128, 32), ("small", 128, 32), ("base", 128, 8)]
BY_LENGTH = [("mini", 128, 32), ("mini", 256, 16), ("mini", 512, 8)]
PARTS = ("sizes", "lengths", "processes", "corpora")
MEGABYTES = (1, 10, 100)


class Clock(Meter):
    """Notes the CPU time at every request for a batch, and the memory before training and at its highest."""

    def __init__(self, steps: int) -> None:
        super().__init__(warmup_steps=0, steps=steps, rounds=1)
        self.max_steps = steps + 2  # the first is for warming up; asking for one more ends the last
        self.times: list[float] = []
        self.walls: list[float] = []
        self.tokens: list[int] = []
        self.resident_before = 0

    def data_is_ready(self) -> None:
        import psutil

        self.resident_before = psutil.Process().memory_info().rss

    def batch(self, collate: Any) -> Any:
        self.times.append(cpu_seconds())
        self.walls.append(time.monotonic())
        batch = collate()
        self.tokens.append(int(batch["attention_mask"].sum()))
        return batch

    def report(self) -> dict[str, Any]:
        """Return what a step took, the median, and how much memory training added."""
        steps = range(1, len(self.times) - 1)
        per_token = [(self.times[n + 1] - self.times[n]) / self.tokens[n] for n in steps]
        seconds = [self.walls[n + 1] - self.walls[n] for n in steps]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "cpu_seconds_per_token": statistics.median(per_token),
            "tokens": statistics.median(self.tokens[1:-1]),
            "seconds": statistics.median(seconds),
            "megabytes": (peak - self.resident_before) / 1e6,
        }


def train(preset: str, length: int, rows: int, steps: int, folder: Path) -> dict[str, Any]:
    """Train a masked language model for some steps; return what they took."""
    from trainers import train_bertkit

    from bertkit.models import build_config, build_model
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective
    from bertkit.tokenization import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    objective = MaskedObjective(MaskedArguments(block_size=length, next_sentence=False), tokenizer)
    config = build_config("bert", preset, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    clock = Clock(steps)
    model = build_model(config, objective.auto_class)
    train_bertkit(model, objective, folder / "paragraphs.txt", tokenizer, clock, batch_size=rows)
    memory = memory_of_step(config, length, rows, on_cpu=True)
    return {
        **clock.report(),
        "flops_per_token": flops_per_token(config, length).total,
        "counted_megabytes": (memory.total - memory.weights) / 1e6,  # the weights are there before
        "parameters": model.num_parameters(),
    }


def answer(report: Mapping[str, Any]) -> None:
    """Print what a child has measured, in one piece: other processes print into the same pipe."""
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def run_child(*command: object, processes: int = 1) -> list[dict[str, Any]]:
    """Run this program anew, in one process or several that torchrun starts; return what each of them printed."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    done = subprocess.run([*launcher, __file__, *map(str, command)], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"a measurement failed with exit code {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measure_steps(shapes: Sequence[tuple[str, int, int]], steps: int, folder: Path) -> str:
    rows = []
    for preset, length, batch in shapes:
        [took] = run_child("--train", preset, length, batch, steps, "--folder", folder)
        per_second = took["flops_per_token"] / took["cpu_seconds_per_token"]
        counted, measured = took["counted_megabytes"], took["megabytes"]
        cells = [
            f"{preset}, {batch} × {length}",
            f"{took['parameters'] / 1e6:.1f}",
            f"{took['flops_per_token'] / 1e6:,.1f}",
        ]
        cells += [f"{1e6 * took['cpu_seconds_per_token']:,.0f}", f"{per_second / GIGA:,.0f}"]
        rows.append([*cells, f"{counted:,.0f}", f"{measured:,.0f}", f"{measured / counted:.2f}"])
    head = [
        "size, rows",
        "million weights",
        "MFLOP a token",
        "CPU µs a token",
        "GFLOP/s",
        "MB counted",
        "MB measured",
        "ratio",
    ]
    return table(head, rows)


def measure_processes(steps: int, folder: Path) -> str:
    rows = []
    for processes in (1, 2):
        took = run_child("--train", "mini", 128, 32, steps, "--folder", folder, processes=processes)
        tokens = sum(one["tokens"] for one in took)
        seconds = sum(one["cpu_seconds_per_token"] * one["tokens"] for one in took)
        cells = [f"{processes}", f"{tokens:,.0f}", f"{tokens / seconds:,.0f}"]
        rows.append([*cells, f"{1e3 * seconds:,.0f}", f"{1e3 * max(one['seconds'] for one in took):,.0f}"])
    took = run_child("--reduce", "mini", steps, processes=2)
    text = table(
        ["processes", "tokens a step", "tokens per CPU-second", "CPU ms a step", "ms a step by the clock"], rows
    )
    seconds = sum(one["cpu_seconds"] for one in took)
    sent = took[0]["megabytes"]
    return f"{text}\n\nAn all-reduce of the gradients alone, {sent:,.0f} MB: {1e3 * seconds:,.0f} CPU ms in both processes."


def reduce_gradients(preset: str, steps: int) -> dict[str, Any]:
    """Add up numbers as many as a model has weights, over the processes; return what it took."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    gradients = torch.zeros(num_parameters(bert(preset, 8192)))
    taken = []
    for _ in range(steps + 1):
        distributed.barrier()
        started = time.process_time()
        distributed.all_reduce(gradients)
        taken.append(time.process_time() - started)
    distributed.destroy_process_group()
    return {"cpu_seconds": statistics.median(taken[1:]), "megabytes": gradients.nbytes / 1e6}


def measure_corpora(folder: Path) -> str:
    from token_store_memory import write_corpus

    rows = []
    for megabytes in MEGABYTES:
        write_corpus(folder / "generated.txt", megabytes)
        [built], [opened] = (run_child("--start", "--folder", folder) for _ in range(2))
        cells = [f"{megabytes} MB, {built['tokens']:,} tokens", f"{built['store']:.2f}", f"{opened['store']:.2f}"]
        rows.append([*cells, f"{opened['first_batch']:.2f}", f"{1e3 * opened['next_batch']:.1f}"])
    head = ["corpus", "tokenized, CPU-seconds", "found tokenized", "first batch", "each further batch, ms"]
    return table(head, rows)


def start(folder: Path) -> dict[str, float]:
    """Open a corpus, tokenizing it if it was not yet, and make batches of it; return what that took."""
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective
    from bertkit.tokenization import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    data = DataArguments(train=str(folder / "generated.txt"), cache_dir=str(folder / "cache"))
    began = cpu_seconds()
    store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=True)
    opened = cpu_seconds()
    objective = MaskedObjective(MaskedArguments(block_size=128, next_sentence=False), tokenizer)
    batches = ObjectiveBatches(objective, store, batch_size=32, training=True)
    batches.batch(0, 32, 0.0)
    first = cpu_seconds()
    for number in range(1, 11):
        batches.batch(32 * number, 32 * (number + 1), 0.0)
    further = (cpu_seconds() - first) / 10
    return {
        "store": opened - began,
        "first_batch": first - opened,
        "next_batch": further,
        "tokens": len(store.token_ids),
    }


def measure(parts: Sequence[str], arguments: argparse.Namespace) -> None:
    from corpus import prepare

    with tempfile.TemporaryDirectory() as name:
        folder, steps = Path(name), arguments.steps
        prepare(arguments.corpus, folder)
        run_child("--train", "tiny", 128, 32, 1, "--folder", folder)  # tokenizes, outside of what others measure
        measures = {
            "sizes": lambda: measure_steps(BY_SIZE, steps, folder),
            "lengths": lambda: measure_steps(BY_LENGTH, steps, folder),
            "processes": lambda: measure_processes(steps, folder),
            "corpora": lambda: measure_corpora(folder),
        }
        for part in parts:
            print(f"## {part}, measured\n\n{measures[part]()}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; without a name, all")
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--steps", type=int, default=3, help="steps of each measurement, after one to warm up")
    parser.add_argument("--train", nargs=4, help=argparse.SUPPRESS)  # what a child does: size, tokens, rows, steps
    parser.add_argument("--reduce", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        preset, length, rows, steps = arguments.train
        answer(train(preset, int(length), int(rows), int(steps), arguments.folder))
    elif arguments.reduce:
        answer(reduce_gradients(arguments.reduce[0], int(arguments.reduce[1])))
    elif arguments.start:
        answer(start(arguments.folder))
    elif unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    else:
        measure(arguments.parts or PARTS, arguments)


if __name__ == "__main__":
    main()
