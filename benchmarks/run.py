"""Run the benchmarks, keep their results in docs/benchmarks.json and write docs/benchmarks.md of them.

    python benchmarks/run.py [--full]

On a machine that has other work to do, set OMP_WAIT_POLICY=PASSIVE: threads that wait for one another then sleep instead of
using up the CPU-seconds that are measured. A benchmark that is not run this time keeps its last results, with the date and
the machine they are from.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretraining import format_table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
LIBRARIES = ("bertkit", "torch", "transformers", "accelerate", "tokenizers")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
HEAD = """# Benchmarks

Written by `make bench` (`python benchmarks/run.py`, with `--full` for all of them); the figures of every round are in
[benchmarks.json](benchmarks.json).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the slower benchmarks, too")
    parser.add_argument("--corpus", type=Path, help="pretraining: text to train on")
    parser.add_argument("--rounds", type=int, default=3, help="pretraining: turns of each side")
    parser.add_argument("--steps", type=int, default=5, help="pretraining: optimizer steps of a turn")
    sizes = "token store: sizes of the generated corpora"
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000], help=sizes)
    parser.add_argument("--only", choices=SECTIONS, help="run this one alone")
    arguments = parser.parse_args()
    record = DOCS / "benchmarks.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    measured = circumstances()
    if arguments.only in (None, "pretraining"):
        results["pretraining"] = {"measured": measured, **run_pretraining(arguments)}
    if arguments.full or arguments.only == "token_store_memory":
        results["token_store_memory"] = {"measured": measured, **run_token_store_memory(arguments)}
    record.write_text(json.dumps(results, indent=2) + "\n")
    (DOCS / "benchmarks.md").write_text(render(results))
    print(f"written: {DOCS / 'benchmarks.md'}")


def circumstances() -> dict[str, str]:
    """Return when and on what is measured."""
    measured = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        **{name: os.environ.get(name, "not set") for name in THREAD_SETTINGS},
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    return measured | {library: importlib.metadata.version(library) for library in LIBRARIES}


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# The benchmarks


def run_script(name: str, *options: object, **settings: Any) -> subprocess.CompletedProcess:
    """Run a benchmark of this folder; one that fails ends this program with its exit code."""
    print(f"== {name}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / name), *map(str, options)], text=True, **settings)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done


def run_pretraining(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pretraining.json"
        corpus = () if arguments.corpus is None else ("--corpus", arguments.corpus)
        options = ("--rounds", arguments.rounds, "--steps", arguments.steps, "--output", output)
        run_script("pretraining.py", *options, *corpus)
        return json.loads(output.read_text())


def run_token_store_memory(arguments: argparse.Namespace) -> dict[str, Any]:
    figures = []
    for megabytes in arguments.megabytes:
        done = run_script("token_store_memory.py", "--megabytes", megabytes, stdout=subprocess.PIPE)
        print(done.stdout, end="", flush=True)
        figures.append(dict(line.split(": ", 1) for line in done.stdout.splitlines()))
    return {"figures": figures}


# The page


def render(results: dict[str, Any]) -> str:
    """Return the page of all results there are."""
    sections = [HEAD, *(SECTIONS[name](result) for name, result in results.items())]
    return "\n".join(sections)


def render_circumstances(measured: dict[str, str]) -> str:
    versions = ", ".join(f"{name} {measured[name]}" for name in ("python", *LIBRARIES))
    settings = ", ".join(f"{name} {measured[name]}" for name in THREAD_SETTINGS)
    return (
        f"Measured on {measured['date']}: {measured['machine']}, load average {measured['load']} before it, {settings}; "
        f"{versions}."
    )


def render_pretraining(result: dict[str, Any]) -> str:
    return f"""## Pretraining beside transformers' Trainer

The same BERT (4 layers of 256, vocabulary 8192, float32, dropout 0.1), text, tokenizer, AdamW and batch of 32 rows of 128
tokens, through bertkit's Trainer and through transformers' Trainer, in real (unpadded) tokens per CPU-second. Each side
runs in a process of its own; they take turns of {result["steps"]} steps, and the ratio is the median of {result["rounds"]}
rounds. Collating counts; preparing the data, evaluation and saving do not. Text: {result["corpus"]}.

{format_table(result["work"])}

- *All text in full rows*: transformers trains on the text cut into rows of 128 tokens as its run_mlm does. Neither side
  pads, so the ratio is that of the arithmetic: bertkit scores the vocabulary at the labels only.
- *A paragraph* and *a sentence an example*: transformers trains as run_mlm does with `--line_by_line`: what is longer than
  128 tokens is cut off, and a batch is padded to its longest example. bertkit packs the same lines, with no attention
  between them, and cuts nothing off.
- *Pairs that fill the row*: for transformers pairs made beforehand as in the paper, of as many sentences as the row holds,
  so there is next to no padding on either side.
- *Pairs of sentences*: for transformers two sentences a pair, as most tutorials do; bertkit trains as in the line above.

{render_circumstances(result["measured"])}
"""


def render_token_store_memory(result: dict[str, Any]) -> str:
    names = list(result["figures"][0])
    lines = [names, ["---"] * len(names), *([figures[name] for name in names] for figures in result["figures"])]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""## Tokenizing a corpus: memory and speed

Generated corpora are tokenized into a TokenStore by all cores: neither memory nor the cost of a token grows with the corpus.

{rows}

{render_circumstances(result["measured"])}
"""


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "pretraining": render_pretraining,
    "token_store_memory": render_token_store_memory,
}


if __name__ == "__main__":
    main()
