"""What pretraining costs by size: arithmetic for one GPU to many. Run, it prints its tables.

    python benchmarks/scaling_arithmetic.py

The functions count a masked language model of the family bert as bertkit trains it: AdamW over float32 weights, the vocabulary
scored at the labels only, and in the last layer only what the head reads. `scaling.py` measures what a CPU can tell of it.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# Positions whose vocabulary is scored at once, on CPUs and on GPUs; or fewer, or up to one and a half times as many.
BLOCK = 256, 2048
LABELLED = 0.15  # of the tokens: Devlin et al. 2019, section 3.1
FORWARD_AND_BACKWARD = 3  # a product is three: of the outputs, to the inputs, to the weights
VOCAB_SIZE = 30522

# The paper's pretraining (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, appendix A.2).
STEPS, BATCH_SIZE, LONG = 1_000_000, 256, 512
SHORT, SHORT_SHARE = 128, 0.9  # "90 % of the steps" are of 128 tokens

GIGA = 1e9
FILLED = 0.65  # of a GPU's memory: measured on CPUs, a step takes up to 1.5 times what is counted

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


def flops_per_token(config: Any, length: float, *, labelled: float = LABELLED, trims: bool = True) -> Flops:
    """Count the multiplications and additions of forward and backward, by token.

    Args:
        config: of bert or gpt; a causal model's half of the scores that nobody sees is not counted.
        length: tokens that see each other: of a full row; of rows of several lengths, the mean over their tokens.
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
    head: float
    """The gradient of the output layer, which is computed with the loss, and what is there beside it: a block of scores, then
    the gradient once more, scaled."""

    @property
    def state(self) -> float:
        """What is there from step to step."""
        return self.weights + self.moments + self.buckets

    @property
    def total(self) -> float:
        """The most that is there at a time: gradients come as activations go, but for those of the output layer."""
        return self.state + max(self.activations + self.head + self.copies, self.gradients)


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
    block = min(BLOCK[0] if on_cpu else BLOCK[1], LABELLED * length * rows)
    of_score = 4 if on_cpu else 2 + 4 + 2  # becomes its gradient in place; or with both in bfloat16 beside it
    output_layer = 4 * config.vocab_size * config.hidden_size if rows else 0
    kept = activations_of_row(config, length, checkpointing=checkpointing, on_cpu=on_cpu)
    return Memory(
        weights=4 * share,
        gradients=4 * share,
        moments=8 * share,
        copies=2 * in_bfloat16,
        buckets=4 * share if sharing == "ddp" else 0,
        activations=rows * kept,
        head=output_layer + max(block * config.vocab_size * of_score, output_layer),
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
    head = LABELLED * (size * 3 + 4) * hidden  # the last is the gradient to what the output layer reads
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


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print_arithmetic()
