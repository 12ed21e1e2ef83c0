"""Takes a checkpoint of each family through everything that reads checkpoints, and prints the table of what was checked.

    .venv/bin/python -m examples.every_consumer                                # small models with fresh weights, minutes
    .venv/bin/python -m examples.every_consumer --checkpoint runs/bert-tiny/best
    .venv/bin/python -m examples.every_consumer --only rnn --consumer 'peft LoRA' 'torch.compile'

Exits with 1, and says what failed, unless all that is not left out holds. Nothing is downloaded: the Hub is one on loopback.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # before the client is imported; the process that speaks to the Hub has its own

from examples.consumers.consumer import Consumer
from examples.consumers.ecosystem_page import Cell, update, with_letters
from examples.consumers.table import CONSUMERS
from examples.consumers.workbench import KINDS, Kind, Workbench


def check_all(bench: Workbench, consumers: Mapping[str, Consumer]) -> tuple[dict[str, dict[str, Cell]], list[str]]:
    """Take every kind of model through every consumer.

    Args:
        bench: with the kinds.
        consumers: by name.

    Returns:
        Consumer -> kind -> what its cell says; and a line for each that failed.
    """
    table: dict[str, dict[str, Cell]] = {}
    failures = []
    for consumer_name, consumer in consumers.items():
        table[consumer_name] = {}
        for name, kind in bench.kinds.items():
            if reason := consumer.left_out(name, kind):
                table[consumer_name][name] = Cell("–", reason)
                continue
            try:
                consumer.take(bench, kind)
            except Exception as error:
                table[consumer_name][name] = Cell("FAILED")
                failures.append(f"{consumer_name}, {name}: {type(error).__name__}: {error}")
                print(failures[-1], file=sys.stderr, flush=True)
            else:
                table[consumer_name][name] = Cell("ok", consumer.remark(name, kind))
    return table, failures


def print_table(table: Mapping[str, Mapping[str, Cell]]) -> None:
    """Print a line a consumer and a column a kind of model, and below what its letters mean."""
    marked, notes = with_letters(table)
    head = ["", *next(iter(marked.values()))]
    rows = [head, *([name, *cells.values()] for name, cells in marked.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for letter, note in notes.items():
        print(f"{letter}  {note}")


def main() -> int:
    """Check, print and write as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="One of bertkit's, instead of small ones with fresh weights.")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="Kinds of model; default: all.")
    parser.add_argument("--consumer", nargs="+", choices=CONSUMERS, default=list(CONSUMERS), help="Default: all.")
    parser.add_argument("--compiler", default="inductor", help="Backend of torch.compile; aot_eager takes seconds.")
    parser.add_argument("--folder", type=Path, help="Keep checkpoints and exports here; default: nowhere.")
    parser.add_argument("--markdown", type=Path, help="Write the table into this page, between its markers.")
    arguments = parser.parse_args()
    kinds = {name: KINDS[name] for name in arguments.only}
    if arguments.checkpoint is not None:
        from bertkit.hub.checkpoints import read_config, saved_family

        if not (arguments.checkpoint / "config.json").is_file():
            parser.error(f"{arguments.checkpoint} has no config.json, so it is no checkpoint")
        family = saved_family(arguments.checkpoint)
        if family is None:
            parser.error(f"{arguments.checkpoint} holds no model of a family of bertkit")
        settings = {name: value for name, value in read_config(arguments.checkpoint).items() if name == "token_input"}
        kind = Kind(family, settings, source=arguments.checkpoint)
        kinds = {"elmo, characters" if kind.spells else family: kind}
    if arguments.markdown and (len(kinds) < len(KINDS) or len(arguments.consumer) < len(CONSUMERS)):
        parser.error("--markdown writes the whole table; leave the other options out")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Workbench(arguments.folder or Path(temporary), kinds, arguments.compiler)
        table, failures = check_all(bench, {name: CONSUMERS[name] for name in arguments.consumer})
    print_table(table)
    if failures:
        print(f"\n{len(failures)} failed:", *failures, sep="\n", file=sys.stderr)
        return 1
    if arguments.markdown:
        update(arguments.markdown, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
