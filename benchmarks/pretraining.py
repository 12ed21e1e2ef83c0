"""Pretraining speed: bertkit beside transformers' Trainer, in real (unpadded) tokens per CPU-second.

    python benchmarks/pretraining.py --rounds 3 --steps 5

The same model (4 layers of 256, vocabulary 8192, float32, dropout 0.1), text, tokenizer, optimizer and batch (32 rows of
128 tokens) on both sides. Each side walks its own public road in a process of its own; the two take turns of some steps,
and the figure is the median over the rounds of the ratio of their speeds. It counts CPU-seconds, because what else runs
on the machine weighs less on them than on the clock on the wall. Counted are whole steps, collating included, after a
warm-up; not counted are the preparation of the data, evaluation and saving.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peer_examples import PEER_EXAMPLES, write_one_sentence_a_line
from token_store_memory import write_corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK_SIZE = 128
BATCH_SIZE = 32
VOCAB_SIZE = 8192
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.01
LOGGING_STEPS = 10
GENERATED_MEGABYTES = 4
SIDES = ("transformers", "bertkit")


@dataclass(frozen=True)
class Work:
    """A kind of pretraining, and how each side sees the text."""

    title: str
    goal: float
    """Ratio of bertkit's speed to transformers' that is aimed at."""
    peer_examples: str
    """How the examples of transformers are made: a name in `PEER_EXAMPLES`."""
    documents: Literal["blank_line", "line"] = "blank_line"
    """How bertkit cuts the text into documents."""
    text: Literal["paragraphs", "sentences"] = "paragraphs"
    """What a line of the text file is."""
    next_sentence: bool = False


WORK = {
    "grouped": Work("MLM, all text in full rows", goal=1.8, peer_examples="grouped"),
    "paragraphs": Work("MLM, a paragraph an example", goal=5.0, peer_examples="lines", documents="line"),
    "sentences": Work(
        "MLM, a sentence an example", goal=5.0, peer_examples="lines", documents="line", text="sentences"
    ),
    "filled_pairs": Work("MLM + NSP, pairs that fill the row", 3.5, peer_examples="filled_pairs", next_sentence=True),
    "sentence_pairs": Work("MLM + NSP, pairs of sentences", 3.5, peer_examples="sentence_pairs", next_sentence=True),
}


@dataclass
class Figures:
    """What a turn of one side has done."""

    cpu_seconds: float
    seconds: float
    """By the clock on the wall."""
    positions: int
    """Tokens and padding that went through the model."""
    tokens: int
    """Those that are no padding."""
    labels: int

    @property
    def speed(self) -> float:
        """Real tokens per CPU-second."""
        return self.tokens / self.cpu_seconds


# The parent: prepare the text, give the turns, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, a paragraph a line, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="kinds of pretraining to compare")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps of a turn")
    parser.add_argument("--warmup_steps", type=int, default=2, help="steps before the first turn")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # what a child is
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # where the parent has prepared the text
    arguments = parser.parse_args()
    meter = Meter(warmup_steps=arguments.warmup_steps, steps=arguments.steps, rounds=arguments.rounds)
    if arguments.side:
        train_side(arguments.work[0], arguments.side, arguments.folder, meter)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder)
        rounds = {work: take_turns(work, folder, meter) for work in arguments.work}
    work_results = {work: compare(work, figures) for work, figures in rounds.items()}
    print(format_table(work_results))
    if arguments.output:
        settings = {"corpus": corpus, "steps": arguments.steps, "rounds": arguments.rounds}
        arguments.output.write_text(json.dumps({**settings, "work": work_results}, indent=2) + "\n")


def prepare(corpus: Path | None, folder: Path) -> str:
    """Lay text and tokenizer into the folder.

    Args:
        corpus: a text file. None: a real one of $BERTKIT_DATA, or generated text where that is not set.
        folder: where they are put.

    Returns:
        What text it is.
    """
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.tokenization import TokenizerArguments, save_tokenizer, train_tokenizer

    paragraphs = folder / "paragraphs.txt"
    if corpus is None and "BERTKIT_DATA" in os.environ:
        corpus = Path(os.environ["BERTKIT_DATA"]) / "pretrain_en" / "austen.txt"
    if corpus is None:
        write_corpus(paragraphs, GENERATED_MEGABYTES)
    elif not corpus.is_file():
        raise SystemExit(f"there is no text file {corpus}; give another with --corpus")
    else:
        paragraphs.write_bytes(corpus.read_bytes())
    write_one_sentence_a_line(paragraphs, folder / "sentences.txt")
    data = DataArguments(train=str(paragraphs))
    tokenizer = train_tokenizer(load_documents(data.train, data), TokenizerArguments(vocab_size=VOCAB_SIZE), quiet=True)
    save_tokenizer(tokenizer, folder / "tokenizer")
    description = f"{corpus.name} ({paragraphs.stat().st_size / 1e6:.1f} MB)" if corpus else "generated text"
    print(f"text: {description}; tokenizer of {len(tokenizer)} tokens trained on it", flush=True)
    return description


def take_turns(work: str, folder: Path, meter: "Meter") -> list[dict[str, Figures]]:
    """Let both sides train in turn, the first of a round being the second of the next.

    Returns:
        The figures of each side, round by round.

    Raises:
        SystemExit: a side has failed.
    """
    with contextlib.ExitStack() as stack:
        sides = {side: stack.enter_context(Side(work, side, folder, meter)) for side in SIDES}
        rounds: list[dict[str, Figures]] = []
        for number in range(meter.rounds):
            order = SIDES if number % 2 == 0 else SIDES[::-1]
            figures = {side: sides[side].take_turn() for side in order}
            rounds.append(figures)
            speeds = ", ".join(f"{side} {figures[side].speed:,.0f}" for side in SIDES)
            ratio = figures["bertkit"].speed / figures["transformers"].speed
            print(
                f"{work}, round {number + 1} of {meter.rounds}: {speeds} tokens per CPU-second, {ratio:.2f} x",
                flush=True,
            )
    return rounds


class Side:
    """A child process that trains one side, and stands still but in its turns."""

    def __init__(self, work: str, side: str, folder: Path, meter: "Meter") -> None:
        self.name = f"{side} on {work}"
        numbers = {"warmup_steps": meter.warmup_steps, "steps": meter.steps, "rounds": meter.rounds}
        options = {"work": work, "side": side, "folder": folder, **numbers}
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ACCELERATE_USE_CPU": "true"},  # CPU-seconds say nothing of a GPU
        )

    def __enter__(self) -> "Side":
        self._hear()  # the warm-up is done
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if self.process.wait():
            raise SystemExit(f"{self.name} failed with exit code {self.process.returncode}")

    def take_turn(self) -> Figures:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return Figures(**json.loads(self._hear()))

    def _hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed with exit code {self.process.wait()}")
        return line


def compare(work: str, rounds: list[dict[str, Figures]]) -> dict[str, Any]:
    """Return the results of a kind of work as they are written down."""
    ratios = [figures["bertkit"].speed / figures["transformers"].speed for figures in rounds]
    results: dict[str, Any] = {"title": WORK[work].title, "goal": WORK[work].goal}
    results |= {"ratio": statistics.median(ratios), "ratios": ratios}
    for side in SIDES:
        turns = [figures[side] for figures in rounds]
        tokens = sum(turn.tokens for turn in turns)
        results[side] = {
            "tokens_per_cpu_second": statistics.median(turn.speed for turn in turns),
            "padding_share": 1 - tokens / sum(turn.positions for turn in turns),
            "labels_per_token": sum(turn.labels for turn in turns) / tokens,
            "rounds": [asdict(turn) for turn in turns],
        }
    return results


def format_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the results out as a Markdown table."""
    rows = [
        "| work | transformers, tokens per CPU-second | bertkit | ratio (lowest to highest round) | goal "
        "| padding: transformers | bertkit | labels per 100 tokens: transformers | bertkit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results.values():
        peer, ours = result["transformers"], result["bertkit"]
        verdict = "reached" if result["ratio"] >= result["goal"] else "missed"
        cells = [
            result["title"],
            f"{peer['tokens_per_cpu_second']:,.0f}",
            f"{ours['tokens_per_cpu_second']:,.0f}",
            f"**{result['ratio']:.2f} ×** ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})",
            f"{result['goal']} × {verdict}",
            *(f"{100 * side['padding_share']:.1f} %" for side in (peer, ours)),
            *(f"{100 * side['labels_per_token']:.1f}" for side in (peer, ours)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


# The children: train, and measure


class Meter:
    """Measures turns of `steps` steps, each from one request for a batch to another, and stands still between turns.

    Args:
        warmup_steps: steps before the first turn.
        steps: steps of a turn.
        rounds: turns.
    """

    def __init__(self, *, warmup_steps: int, steps: int, rounds: int) -> None:
        self.warmup_steps, self.steps, self.rounds = warmup_steps, steps, rounds
        self.max_steps = warmup_steps + steps * rounds + 1  # asking for the last batch ends the last turn
        self.reports = sys.stdout
        self.requests = 0
        self.turn: Figures | None = None

    def batch(self, collate: Callable[[], Any]) -> Any:
        """Return the batch that `collate` makes; a trainer asks for each of its batches here."""
        turns, step = divmod(self.requests - self.warmup_steps, self.steps)
        if step == 0 and 0 <= turns <= self.rounds:
            self._report()
            self.turn = self._begin_turn() if turns < self.rounds else None
            if turns == self.rounds:
                sys.stdin.read()  # the other side may have its last turn yet: stand still until all is done
        self.requests += 1
        batch = collate()
        if self.turn is not None:
            self.turn.positions += batch["input_ids"].shape[0] * batch["input_ids"].shape[1]
            self.turn.tokens += int(batch["attention_mask"].sum())
            self.turn.labels += int((batch["labels"] != -100).sum())
        return batch

    def _report(self) -> None:
        if self.turn is None:
            print("ready", file=self.reports, flush=True)
            return
        self.turn.cpu_seconds += cpu_seconds()
        self.turn.seconds += time.monotonic()
        print(json.dumps(asdict(self.turn)), file=self.reports, flush=True)

    def _begin_turn(self) -> Figures:
        if not sys.stdin.readline():
            raise SystemExit("the benchmark was stopped")
        return Figures(cpu_seconds=-cpu_seconds(), seconds=-time.monotonic(), positions=0, tokens=0, labels=0)


def cpu_seconds() -> float:
    """Return the CPU time of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def train_side(work: str, side: str, folder: Path, meter: Meter) -> None:
    import transformers

    from bertkit.tokenization import load_tokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = load_tokenizer(folder / "tokenizer")
    train = {"transformers": train_transformers, "bertkit": train_bertkit}[side]
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as output_dir:
        train(WORK[work], folder, tokenizer, meter, output_dir)


def train_transformers(
    work: Work, folder: Path, tokenizer: "PreTrainedTokenizerBase", meter: Meter, output_dir: str
) -> None:
    import datasets
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertForPreTraining,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    examples = PEER_EXAMPLES[work.peer_examples](folder / f"{work.text}.txt", tokenizer, BLOCK_SIZE)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        pad_token_id=tokenizer.pad_token_id,
    )
    collate = DataCollatorForLanguageModeling(tokenizer)
    Trainer(
        model=(BertForPreTraining if work.next_sentence else BertForMaskedLM)(config),
        args=TrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=BATCH_SIZE,
            max_steps=meter.max_steps,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            logging_steps=LOGGING_STEPS,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,  # it only warns where there is no GPU
        ),
        train_dataset=datasets.Dataset.from_dict(examples),
        data_collator=lambda chosen: meter.batch(lambda: collate(chosen)),
    ).train()


def train_bertkit(
    work: Work, folder: Path, tokenizer: "PreTrainedTokenizerBase", meter: Meter, output_dir: str
) -> None:
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore
    from bertkit.models import build_config, build_model
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.trainer import Trainer

    class MeteredBatches(ObjectiveBatches):
        def batch(self, start: int, stop: int, progress: float) -> Any:
            return meter.batch(lambda: ObjectiveBatches.batch(self, start, stop, progress))

    data = DataArguments(
        train=str(folder / f"{work.text}.txt"), documents=work.documents, cache_dir=str(folder / "cache")
    )
    store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=True)
    objective = MaskedObjective(MaskedArguments(block_size=BLOCK_SIZE, next_sentence=work.next_sentence), tokenizer)
    config = build_config("bert", "mini", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    Trainer(
        build_model(config, objective.auto_class),
        MeteredBatches(objective, store, batch_size=BATCH_SIZE, training=True),
        TrainingArguments(
            train_batch_size=BATCH_SIZE,
            max_steps=meter.max_steps,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            logging_steps=LOGGING_STEPS,
        ),
        output_dir=output_dir,
        quiet=True,
    ).train()


if __name__ == "__main__":
    main()
