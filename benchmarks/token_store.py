"""From text to training examples: bertkit's TokenStore beside the `datasets.map` chain of transformers' run_mlm.

    python benchmarks/token_store.py --megabytes 20

A generated corpus (`token_store_memory.py`) is tokenized by the same tokenizer, each time in a fresh process with an empty
cache. run_mlm's chain reads the text with `datasets`, maps the tokenizer over it, and then a function that joins the tokens and
cuts them into rows of 128. bertkit's store keeps the tokens and where sentences and documents begin; rows come of it by
arithmetic when they are trained on. CPU-seconds include the children's; memory is that of all processes together.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

from token_store_memory import train_tokenizer, watch, write_corpus
from turns import OURS, Figures, compare, cpu_seconds, option_parser, report

BLOCK_SIZE = 128
BATCH_LINES = 1000  # of datasets.map, as run_mlm leaves it
PEER = "run_mlm's datasets.map chain"
GOALS = {PEER: 2.0}


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--megabytes", type=int, default=10, help="size of the generated corpus")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that tokenize, on both sides")
    arguments = parser.parse_args()
    if arguments.side:
        build_side(arguments)
        return
    turns, peaks = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus.txt", arguments.megabytes)
        train_tokenizer(folder)
        for number in range(arguments.rounds):
            done = {side: build_in_child(side, folder) for side in ((PEER, OURS), (OURS, PEER))[number % 2]}
            turns.append({side: done[side][0] for side in (PEER, OURS)})
            peaks.append({side: done[side][1] for side in (PEER, OURS)})
            shown = ", ".join(f"{side} {f.speed:,.0f} ({peak / 1e6:,.0f} MB)" for side, (f, peak) in done.items())
            print(f"round {number + 1} of {arguments.rounds}: {shown} tokens per CPU-second", flush=True)
    results = {"token_store": compare(f"text to rows, {arguments.megabytes} MB", turns, GOALS)}
    megabytes = {side: statistics.median(peak[side] for peak in peaks) / 1e6 for side in (PEER, OURS)}
    report(results, arguments, rounds=arguments.rounds, megabytes=arguments.megabytes, peak_megabytes=megabytes)
    print(f"peak memory: {', '.join(f'{side} {peak:,.0f} MB' for side, peak in megabytes.items())}")


def build_in_child(side: str, folder: Path) -> tuple[Figures, int]:
    """Let a fresh process tokenize the corpus; return what it did, and its largest resident memory in bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        command = [sys.executable, *sys.argv, f"--side={side}", f"--folder={cache}"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = watch(child)
        assert child.stdout is not None
        lines = child.stdout.read().splitlines()
    if child.returncode:
        raise SystemExit(f"{side} failed with exit code {child.returncode}")
    return Figures(**json.loads(lines[-1])), peak


def build_side(arguments: argparse.Namespace) -> None:
    from transformers import PreTrainedTokenizerFast

    corpus = arguments.folder.parent / "corpus.txt"
    file = str(arguments.folder.parent / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    num_workers, cache_dir = arguments.num_workers, str(arguments.folder)
    if arguments.side == OURS:
        from bertkit.data.arguments import DataArguments
        from bertkit.data.documents import load_documents
        from bertkit.data.token_store import TokenStore

        data = DataArguments(train=str(corpus), num_workers=num_workers, cache_dir=cache_dir)
        before = cpu_seconds()  # to import is no part of the work
        store = TokenStore.build(load_documents(data.train, data), tokenizer, data, quiet=True)
        num_tokens = store.metadata.num_tokens
    else:
        import datasets

        datasets.disable_progress_bars()

        def tokenize(lines: dict[str, list]) -> dict[str, list]:
            return dict(tokenizer(lines["text"], return_special_tokens_mask=True))

        def group(columns: dict[str, list]) -> dict[str, list]:
            joined = {name: list(chain.from_iterable(rows)) for name, rows in columns.items()}
            last = len(next(iter(joined.values()))) // BLOCK_SIZE * BLOCK_SIZE
            return {
                name: [row[at : at + BLOCK_SIZE] for at in range(0, last, BLOCK_SIZE)] for name, row in joined.items()
            }

        before = cpu_seconds()
        lines = datasets.load_dataset("text", data_files=str(corpus), cache_dir=cache_dir, split="train")
        processes = num_workers if num_workers > 1 else None
        options = {"batched": True, "batch_size": BATCH_LINES, "num_proc": processes}
        tokenized = lines.map(tokenize, remove_columns=["text"], **options)
        num_tokens = BLOCK_SIZE * len(tokenized.map(group, **options))
    print(json.dumps({"cpu_seconds": cpu_seconds() - before, "seconds": 0.0, "tokens": num_tokens}))


if __name__ == "__main__":
    main()
