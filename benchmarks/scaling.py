"""What pretraining costs by size: arithmetic for one GPU to many, and what of it can be measured on a CPU.

    python benchmarks/scaling.py                          print the tables of the arithmetic
    OMP_NUM_THREADS=1 python benchmarks/scaling.py --measure [sizes lengths processes corpora]

The functions count a masked language model of the family bert as bertkit trains it: AdamW over float32 weights, the vocabulary
scored at the labels only, and in the last layer only what the head reads. `--measure` trains BERTs of several sizes and row
lengths for a few steps each, in processes of their own, and prints what a token took beside what the functions say.
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from turns import Meter, cpu_seconds

LABELLED = 0.15  # of the tokens: Devlin et al. 2019, section 3.1
FORWARD_AND_BACKWARD = 3  # a product is three: of the outputs, to the inputs, to the weights
VOCAB_SIZE = 30522

# The paper's pretraining (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, appendix A.2).
STEPS, BATCH_SIZE, LONG = 1_000_000, 256, 512
SHORT, SHORT_SHARE = 128, 0.9  # "90 % of the steps" are of 128 tokens

GIGA = 1e9
FILLED = 0.7  # of a GPU's memory: measured on CPUs, a step takes up to 1.4 times what is counted

Sharing = Literal["ddp", "fsdp2"]
SHARING: tuple[Sharing, ...] = ("ddp", "fsdp2")


# The arithmetic


def num_parameters(config: Any, *, next_sentence: bool = False) -> int:
    """Return the number of weights of a BERT with its output layer tied.

    Args:
        config: a `BertEncoderConfig`.
        next_sentence: with pooler and next sentence head.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    embeddings = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size + 2) * hidden
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * inner + inner + hidden
    head = hidden * hidden + 3 * hidden + config.vocab_size
    pair_head = hidden * hidden + hidden + 2 * hidden + 2 if next_sentence else 0
    final_norm = 2 * hidden if config.norm_first else 0
    return (
        embeddings + config.num_hidden_layers * (attention + feed_forward + 4 * hidden) + final_norm + head + pair_head
    )


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a training step, by token of the rows."""

    linear: float
    """Of the layers' linear parts."""
    scores: float
    """Of attention's two products that grow with the row."""
    head: float
    """From the last states to the vocabulary."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.linear + self.scores + self.head


def flops_per_token(config: Any, length: int, *, labelled: float = LABELLED, trims: bool = True) -> Flops:
    """Count the multiplications and additions of forward and backward, by token.

    Args:
        config: of bert or gpt; a causal model's half of the scores that nobody sees is not counted.
        length: tokens that see each other: of a full row.
        labelled: share of the tokens whose vocabulary is scored.
        trims: in the last layer only the labelled tokens pass what is behind the attention, as in bertkit's bert.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    passing = layers - 1 + (labelled if trims else 1)  # layers that a token passes behind the attention, on average
    linear = 3 * hidden * hidden * layers + (hidden * hidden + 2 * hidden * inner) * passing
    seen = (length + 1) / 2 if config.model_type == "bertkit-gpt" else length
    dense = hidden * hidden if config.model_type == "bertkit-bert" else 0
    head = labelled * (dense + hidden * config.vocab_size)
    each = 2.0 * FORWARD_AND_BACKWARD
    return Flops(linear=each * linear, scores=each * 2 * hidden * seen * layers, head=each * head)


@dataclass(frozen=True)
class Memory:
    """What a training step keeps in memory, in bytes."""

    weights: float
    gradients: float
    moments: float
    copies: float
    """The weights once more in bfloat16, which autocast keeps from forward to backward."""
    buckets: float
    """The gradients once more, laid out as DDP sends them."""
    activations: float

    @property
    def state(self) -> float:
        """What is there from step to step."""
        return self.weights + self.moments + self.buckets

    @property
    def total(self) -> float:
        """The most that is there at a time: gradients come as activations go."""
        return self.state + max(self.activations + self.copies, self.gradients)


def memory_of_step(
    config: Any,
    length: int,
    rows: int,
    *,
    sharing: Sharing | None = None,
    processes: int = 1,
    checkpointing: bool = False,
    on_cpu: bool = False,
) -> Memory:
    """Count what a process keeps.

    Args:
        config: a `BertEncoderConfig`.
        length: tokens of a row.
        rows: of the micro-batch.
        sharing: how several processes train together; None: there is one.
        processes: how many.
        checkpointing: layers keep only what they were given, and compute the rest again.
        on_cpu: float32 and one thread, else bfloat16 autocast on a GPU with fused attention.
    """
    share = num_parameters(config) / (processes if sharing == "fsdp2" else 1)
    in_bfloat16 = 0 if on_cpu else share - config.max_position_embeddings * config.hidden_size
    scores = LABELLED * length * config.vocab_size * 4  # and their logarithms and gradient, of which one is kept
    kept = activations_of_row(config, length, checkpointing=checkpointing, on_cpu=on_cpu)
    return Memory(
        weights=4 * share,
        gradients=4 * share,
        moments=8 * share,
        copies=2 * in_bfloat16,
        buckets=4 * share if sharing == "ddp" else 0,
        activations=rows * (kept + 2 * scores),
    )


def activations_of_row(config: Any, length: int, *, checkpointing: bool = False, on_cpu: bool = False) -> float:
    """Count the bytes that the forward pass of a row keeps for the backward pass.

    On a GPU a layer keeps, by token: the input of query, key and value, these three, the context, the input of the feed-forward
    part and what is on both sides of its activation, in bfloat16; two masks of dropout, a byte an element; and both sums that
    are normalised, in float32: 38 hidden sizes where Korthikanti et al. 2022 (https://arxiv.org/abs/2205.05198, section 4.1),
    whose norms are in 16 bits, count 34. On a CPU all is float32, masks as well, and the attention weights are kept with
    16 random bits each.

    Args:
        config: a `BertEncoderConfig`.
        length: tokens of a row.
        checkpointing: layers keep only what they were given; one layer is computed again at a time.
        on_cpu: as in `memory_of_step`.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    size, mask = (4, 4) if on_cpu else (2, 1)
    weights = 6 * config.num_attention_heads * length if on_cpu else 0  # of a query
    attention = size * 5 * hidden  # input, query, key, value, context
    behind = 2 * (mask + 4) * hidden + size * (hidden + 2 * inner)
    layer = attention + weights + behind
    last = attention + LABELLED * (weights + behind)
    kept = layers * 4 * hidden + layer if checkpointing else (layers - 1) * layer + last
    embedded = (mask + 4) * hidden
    head = LABELLED * (size * 4 * hidden + 4 * config.vocab_size)
    bias = 0 if on_cpu else 2 * length  # of the scores, which keeps packed examples apart
    return length * (embedded + kept + head + bias)


def sent_in_step(config: Any, processes: int) -> float:
    """Return the bytes that each process sends in a step (and receives) where rings carry them.

    A ring all-reduce of n processes sends 2 (n-1)/n of the gradients (Patarasuk & Yuan 2009,
    https://doi.org/10.1016/j.jpdc.2008.09.002), which are float32. FSDP2 gathers the weights forward and again backward, in
    bfloat16 under bf16, and scatters the sums of the gradients, in float32 (`bertkit/training/sharding.py`): as many bytes.

    Args:
        config: a `BertEncoderConfig`.
        processes: n.
    """
    return 2 * 4 * (processes - 1) / processes * num_parameters(config)


@dataclass(frozen=True)
class Hardware:
    """What is assumed of the machines."""

    flops: float = 312e12
    """Of a GPU in bfloat16: NVIDIA A100 data sheet, dense."""
    utilisation: float = 0.4
    """Share of it that useful multiplications reach. An assumption."""
    gpus_of_machine: int = 8
    link: float = 300e9
    """Bytes a second that a GPU sends to others of its machine: NVLink's 600 GB/s (A100 data sheet) are of both directions."""
    network: float = 25e9
    """Bytes a second through an adapter to other machines: 200 Gb/s, one adapter a GPU (DGX A100 data sheet)."""
    rings: int = 1
    """Rings that carry a share of the sums each, through an adapter of its own; NCCL makes as many as there are adapters."""

    def bandwidth(self, gpus: int) -> float:
        """Return the speed of the slowest link, over all rings."""
        return self.link if gpus <= self.gpus_of_machine else min(self.link, self.rings * self.network)


@dataclass(frozen=True)
class Step:
    """How long a step takes, in seconds."""

    computing: float
    sending: float

    @property
    def seconds(self) -> float:
        """Of a step whose sums are sent while the backward pass goes on, which is two thirds of the computing."""
        return self.computing + max(0.0, self.sending - self.computing * 2 / 3)


def step_of(config: Any, length: int, gpus: int, hardware: Hardware) -> Step:
    """Return how long a step of the paper's batch takes under DDP.

    Args:
        config: a `BertEncoderConfig`.
        length: tokens of a row.
        gpus: how many share the batch.
        hardware: what is assumed of them.
    """
    flops = flops_per_token(config, length).total * BATCH_SIZE * length
    return Step(
        computing=flops / (gpus * hardware.flops * hardware.utilisation),
        sending=sent_in_step(config, gpus) / hardware.bandwidth(gpus),
    )


def days_of_paper(config: Any, gpus: int, hardware: Hardware, *, short_share: float) -> float:
    """Return the days of the paper's 1,000,000 steps, a share of which are of 128 tokens and the others of 512."""
    short, long = (step_of(config, length, gpus, hardware).seconds for length in (SHORT, LONG))
    return STEPS * (short_share * short + (1 - short_share) * long) / 86400


# The tables of the arithmetic


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay rows out as a Markdown table; the first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bert(preset: str, vocab_size: int = VOCAB_SIZE) -> Any:
    """Return the shape of a size of BERT."""
    from bertkit.models import build_config

    return build_config("bert", preset, vocab_size=vocab_size)


def table_of_parameters() -> str:
    from bertkit.models.modeling_bert import BERT_PRESETS

    rows = []
    for preset in BERT_PRESETS:
        config = bert(preset)
        if config.norm_first:
            continue  # but for one norm the size of another
        count, pairs = num_parameters(config), num_parameters(config, next_sentence=True)
        embeddings = config.vocab_size * config.hidden_size
        rows.append([preset, f"{count:,}", f"{pairs:,}", f"{100 * embeddings / count:.0f} %"])
    return table(["size", "masked LM", "with next sentences", "of which token embeddings"], rows)


def table_of_flops() -> str:
    rows = []
    for preset in ("mini", "base", "large"):
        for length in (SHORT, LONG):
            config = bert(preset)
            flops, peer = flops_per_token(config, length), flops_per_token(config, length, labelled=1, trims=False)
            six = 6 * num_parameters(config)
            shares = [f"{100 * part / flops.total:.0f} %" for part in (flops.linear, flops.scores, flops.head)]
            numbers = [f"{number / GIGA:.3f}" for number in (flops.total, six, peer.total)]
            rows.append([f"{preset}, {length}", *numbers, f"{peer.total / flops.total:.2f} ×", *shares])
    head = ["size, row", "GFLOP a token", "6 N", "all positions scored", "ratio", "linear", "scores", "head"]
    return table(head, rows)


def table_of_memory() -> str:
    rows = []
    for preset in ("base", "large"):
        shared: list[tuple[str, Sharing | None]] = [("one GPU", None), ("DDP", "ddp"), ("FSDP2, 8 GPUs", "fsdp2")]
        for how, sharing in shared:
            memory = memory_of_step(bert(preset), LONG, 0, sharing=sharing, processes=8)
            parts = (memory.weights, memory.moments, memory.buckets, memory.copies, memory.gradients, memory.total)
            rows.append([f"{preset}, {how}", *(f"{part / GIGA:.2f}" for part in parts)])
    return table(["size", "weights", "moments", "buckets", "bf16 copies", "gradients", "at least"], rows)


def table_of_activations() -> str:
    rows = []
    for preset in ("base", "large"):
        for length in (SHORT, LONG):
            for checkpointing in (False, True):
                cells = [f"{preset}, {length}", "yes" if checkpointing else "no"]
                row = activations_of_row(bert(preset), length, checkpointing=checkpointing)
                cells.append(f"{row / 1e6:,.0f}")
                for gigabytes in (16, 40, 80):
                    fitting = [
                        f"{rows_that_fit(bert(preset), length, gigabytes, sharing, checkpointing=checkpointing):,}"
                        for sharing in SHARING
                    ]
                    cells.append(", ".join(fitting))
                rows.append(cells)
    head = ["size, row", "recomputed", "MB kept a row", "rows in 16 GB: DDP, FSDP2 of 8", "40 GB", "80 GB"]
    return table(head, rows)


def rows_that_fit(config: Any, length: int, gigabytes: float, sharing: Sharing, *, checkpointing: bool) -> int:
    """Return the rows of the largest micro-batch in a part of a GPU's memory, `FILLED` of it, of 8 GPUs."""

    def total(rows: int) -> float:
        return memory_of_step(config, length, rows, sharing=sharing, processes=8, checkpointing=checkpointing).total

    room, rows = FILLED * gigabytes * GIGA, 0
    step = 2**14
    while step:
        rows += step if total(rows + step) <= room else 0
        step //= 2
    return rows


def table_of_days(preset: str) -> str:
    config, rows = bert(preset), []
    for gpus in (1, 2, 4, 8, 16, 32, 64):
        slow, fast = Hardware(utilisation=0.4), Hardware(utilisation=0.5)
        step = step_of(config, LONG, gpus, slow)
        cells = [
            f"{gpus}",
            f"{sent_in_step(config, gpus) / GIGA:.2f}",
        ]
        many = step_of(config, LONG, gpus, Hardware(utilisation=0.4, rings=8))
        cells += [f"{step.computing * 1e3:,.0f}", f"{step.sending * 1e3:,.1f}, {many.sending * 1e3:,.1f}"]
        cells.append(f"{BATCH_SIZE * LONG / step.seconds:,.0f}")
        for share in (0.0, SHORT_SHARE):
            days = [days_of_paper(config, gpus, hardware, short_share=share) for hardware in (slow, fast)]
            cells.append(f"{days[0]:,.1f} to {days[1]:,.1f}")
        rows.append(cells)
    head = ["GPUs", "GB sent a step and GPU", "computing, ms", "sending, ms: one ring, eight"]
    return table([*head, "tokens a second", "days, all rows of 512", "days, 90 % of 128"], rows)


def print_arithmetic() -> None:
    for title, text in (
        ("Parameters", table_of_parameters()),
        ("FLOPs of training by token", table_of_flops()),
        ("Memory that does not grow with the batch, GB", table_of_memory()),
        ("Activations", table_of_activations()),
        ("BERT base", table_of_days("base")),
        ("BERT large", table_of_days("large")),
    ):
        print(f"## {title}\n\n{text}\n")


# What can be measured on a CPU

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
        launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=29571"]
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
    parser.add_argument(
        "--measure", nargs="*", choices=PARTS, help="what to measure instead; without a name, all of it"
    )
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
    elif arguments.measure is None:
        print_arithmetic()
    else:
        measure(arguments.measure or PARTS, arguments)


if __name__ == "__main__":
    main()
