"""Pretraining speed: bertkit beside transformers' Trainer, in real (unpadded) tokens per CPU-second.

    python benchmarks/pretraining.py --rounds 3 --steps 5

The same model (4 layers of 256, vocabulary 8192, float32, dropout 0.1; `--size large`: 6 of 384, vocabulary 30522), text,
tokenizer, optimizer and batch (32 rows of 128 tokens) on both sides. Each side walks its own public road in a process of
its own; the two take turns of some steps, and the figure is the median over the rounds of the ratio of their speeds. It
counts CPU-seconds, because what else runs on the machine weighs less on them than on the clock on the wall. Counted are
whole steps, collating included, after a warm-up; not counted are the preparation of the data, evaluation and saving.
"""

import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from corpus import prepare
from peer_examples import PEER_EXAMPLES
from scaling_arithmetic import flops_per_token
from trainers import BLOCK_SIZE, train_bertkit, train_transformers
from turns import Figures, Meter, option_parser, take_turns, verdict

SIDES = ("transformers", "bertkit")


@dataclass(frozen=True)
class Work:
    """A kind of pretraining, and how each side sees the text."""

    title: str
    goal: float
    """Ratio of bertkit's speed to transformers' that is aimed at."""
    goal_large: float
    """The same with the larger vocabulary."""
    peer_examples: str
    """How the examples of transformers are made: a name in `PEER_EXAMPLES`."""
    documents: Literal["blank_line", "line"] = "blank_line"
    """How bertkit cuts the text into documents."""
    text: Literal["paragraphs", "sentences"] = "paragraphs"
    """What a line of the text file is."""
    next_sentence: bool = False


class Size(NamedTuple):
    """Shape of the model."""

    layers: int
    hidden: int
    heads: int
    vocab_size: int


SIZES = {"small": Size(4, 256, 4, 8192), "large": Size(6, 384, 6, 30522)}
WORK = {
    "grouped": Work("MLM, all text in full rows", goal=2.0, goal_large=3.0, peer_examples="grouped"),
    "paragraphs": Work(
        "MLM, a paragraph an example", goal=6.0, goal_large=6.0, peer_examples="lines", documents="line"
    ),
    "sentences": Work(
        "MLM, a sentence an example",
        goal=6.0,
        goal_large=6.0,
        peer_examples="lines",
        documents="line",
        text="sentences",
    ),
    "filled_pairs": Work(
        "MLM + NSP, pairs that fill the row", 4.0, 4.0, peer_examples="filled_pairs", next_sentence=True
    ),
    "sentence_pairs": Work(
        "MLM + NSP, pairs of sentences", 4.0, 4.0, peer_examples="sentence_pairs", next_sentence=True
    ),
}


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, a paragraph a line, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="kinds of pretraining to compare")
    parser.add_argument("--size", choices=SIZES, default="small", help="shape of the model")
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps of a turn")
    parser.add_argument("--warmup_steps", type=int, default=2, help="steps before the first turn")
    arguments = parser.parse_args()
    if arguments.side:
        meter = Meter(warmup_steps=arguments.warmup_steps, steps=arguments.steps, rounds=arguments.rounds)
        train_side(arguments.side, WORK[arguments.work[0]], SIZES[arguments.size], arguments.folder, meter)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder, SIZES[arguments.size].vocab_size)
        work_results = {}
        for work in arguments.work:
            figures = take_turns(work, SIDES, rounds=arguments.rounds, folder=folder, options=["--work", work])
            work_results[work] = compare(work, figures, arguments.size)
    print(format_table(work_results))
    if arguments.output:
        settings = {"corpus": corpus, "steps": arguments.steps, "rounds": arguments.rounds}
        arguments.output.write_text(json.dumps({**settings, "work": work_results}, indent=2) + "\n")


def compare(work: str, rounds: list[dict[str, Figures]], size: str) -> dict[str, Any]:
    """Return the results of a kind of work as they are written down."""
    ratios = [figures["bertkit"].speed / figures["transformers"].speed for figures in rounds]
    goal = WORK[work].goal if size == "small" else WORK[work].goal_large
    results: dict[str, Any] = {"title": WORK[work].title, "goal": goal}
    results |= {"ratio": statistics.median(ratios), "ratios": ratios}
    for side in SIDES:
        turns = [figures[side] for figures in rounds]
        tokens, positions = sum(turn.tokens for turn in turns), sum(turn.positions for turn in turns)
        labels = sum(turn.labels for turn in turns)
        results[side] = {
            "tokens_per_cpu_second": statistics.median(turn.speed for turn in turns),
            "padding_share": 1 - tokens / positions,
            "labels_per_token": labels / tokens,
            "flops_per_token": positions
            / tokens
            * flops_per_position(side, SIZES[size], sum(turn.pairs for turn in turns) / positions, labels / positions),
            "rounds": [asdict(turn) for turn in turns],
        }
    return results


def flops_per_position(side: str, size: Size, length: float, labelled: float) -> float:
    """Count the operations of a position, padding or not: transformers scores the vocabulary everywhere, bertkit at labels."""
    from bertkit.models import build_config

    config = build_config("bert", "mini", **shape_of(size))
    if side == "transformers":
        return flops_per_token(config, length, labelled=1, trims=False).total
    return flops_per_token(config, length, labelled=labelled).total


def shape_of(size: Size) -> dict[str, int]:
    """Return a size as settings of a configuration."""
    return {
        "vocab_size": size.vocab_size,  # a text may be too small for a tokenizer of as many
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.hidden,
    }


def format_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the results out as a Markdown table."""
    rows = [
        "| work | transformers, tokens per CPU-second | bertkit | ratio (lowest to highest round) | goal "
        "| padding: transformers | bertkit | labels per 100 tokens: transformers | bertkit "
        "| MFLOP per real token: transformers | bertkit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results.values():
        peer, ours = result["transformers"], result["bertkit"]
        cells = [
            result["title"],
            f"{peer['tokens_per_cpu_second']:,.0f}",
            f"{ours['tokens_per_cpu_second']:,.0f}",
            f"**{result['ratio']:.2f} ×** ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})",
            verdict(result["ratio"], result["goal"]),
            *(f"{100 * side['padding_share']:.1f} %" for side in (peer, ours)),
            *(f"{100 * side['labels_per_token']:.1f}" for side in (peer, ours)),
            *(f"{side['flops_per_token'] / 1e6:.1f}" for side in (peer, ours)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def train_side(side: str, work: Work, size: Size, folder: Path, meter: Meter) -> None:
    from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, DataCollatorForLanguageModeling

    from bertkit.models import build_config, build_model
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective
    from bertkit.tokenization import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    text = folder / f"{work.text}.txt"
    shape = {**shape_of(size), "pad_token_id": tokenizer.pad_token_id}
    if side == "bertkit":
        objective = MaskedObjective(MaskedArguments(block_size=BLOCK_SIZE, next_sentence=work.next_sentence), tokenizer)
        model = build_model(build_config("bert", "mini", **shape), objective.auto_class)
        train_bertkit(model, objective, text, tokenizer, meter, work.documents)
        return
    config = BertConfig(**shape)
    peer = (BertForPreTraining if work.next_sentence else BertForMaskedLM)(config)
    examples = PEER_EXAMPLES[work.peer_examples](text, tokenizer, BLOCK_SIZE)
    train_transformers(peer, examples, DataCollatorForLanguageModeling(tokenizer), meter)


if __name__ == "__main__":
    main()
