"""What it takes to begin, and the memory of a training step: bertkit's Trainer beside transformers'.

    python benchmarks/startup.py --rounds 3

Each run is a process of its own that trains the models of `pretraining.py` (MLM, all text in full rows) or `causal.py` for two
steps. Counted from where imports, model and data are ready: the CPU-seconds to the end of the first optimizer step. Memory is
the largest resident memory of the process (ru_maxrss), and by how much it grew from there on, which is what training takes.
`import bertkit` is measured by itself. Medians of the rounds.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import causal
import pretraining
from corpus import prepare
from turns import OURS, Meter, cpu_seconds, option_parser, verdict

HALF = 16  # of the rows of a step, computed at once
SIDES = {
    "masked": ("transformers", OURS),
    "causal": ("transformers' Trainer", OURS),
    "causal_by_halves": ("transformers' Trainer", OURS),
}
TITLES = {"causal_by_halves": f"causal, micro_batch_size {HALF} on our side"}
GOALS = {"first_step_cpu_seconds": 1.0, "peak_megabytes": 0.6, "training_megabytes": 0.6}
NAMES = {
    "first_step_cpu_seconds": "CPU-seconds to the first optimizer step",
    "peak_megabytes": "peak memory of the process, MB",
    "training_megabytes": "memory that training adds, MB",
}
IMPORT_GOAL = 0.3
IMPORT = "import time; before = time.process_time(); import bertkit; print(time.process_time() - before)"
STEPS = 2
CHARACTERS = 400_000


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--size", choices=pretraining.SIZES, default="small", help="shape of the models")
    arguments = parser.parse_args()
    if arguments.side:
        train_side(arguments)
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder, pretraining.SIZES[arguments.size].vocab_size)
        text = folder / "paragraphs.txt"  # enough for the steps: to prepare more would take more memory than training
        text.write_text(text.read_text(encoding="utf-8")[:CHARACTERS], encoding="utf-8")
        for work in arguments.work:
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES[work]}
            for number in range(arguments.rounds):
                for side in SIDES[work][:: 1 if number % 2 == 0 else -1]:
                    runs[side].append(run_child(side, work, folder))
                    print(f"{work}, round {number + 1} of {arguments.rounds}, {side}: {runs[side][-1]}", flush=True)
            results[work] = compare(work, runs)
    seconds = [float(python("-c", IMPORT)) for _ in range(arguments.rounds)]
    result = {"corpus": corpus, "rounds": arguments.rounds, "import_cpu_seconds": statistics.median(seconds)}
    result["work"] = results
    print(format_table(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def python(*arguments: str) -> str:
    """Run Python and return what it prints; one that fails ends this program."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def run_child(side: str, work: str, folder: Path) -> dict[str, float]:
    """Train in a fresh process; return what it took."""
    return json.loads(python(*sys.argv, "--work", work, f"--side={side}", f"--folder={folder}").splitlines()[-1])


def compare(work: str, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return medians and their ratios as they are written down."""
    peer, _ = SIDES[work]
    medians = {
        side: {name: statistics.median(run[name] for run in of_side) for name in GOALS}
        for side, of_side in runs.items()
    }
    ratios = {name: medians[OURS][name] / medians[peer][name] for name in GOALS}
    return {"peer": medians[peer], "bertkit": medians[OURS], "ratios": ratios, "rounds": runs}


def format_table(result: dict[str, Any]) -> str:
    """Lay the results out as a Markdown table."""
    rows = ["| what | transformers' Trainer | bertkit | ratio | goal, at most |", "|---|---:|---:|---:|---:|"]
    for work, figures in result["work"].items():
        for name, goal in GOALS.items():
            peer, ours, ratio = figures["peer"][name], figures["bertkit"][name], figures["ratios"][name]
            digits = 2 if name == "first_step_cpu_seconds" else 0
            cells = [
                f"{TITLES.get(work, work)}: {NAMES[name]}",
                f"{peer:,.{digits}f}",
                f"{ours:,.{digits}f}",
                f"**{ratio:.2f} ×**",
            ]
            rows.append(f"| {' | '.join([*cells, verdict(ratio, goal, at_most=True)])} |")
    seconds = result["import_cpu_seconds"]
    reached = "reached" if seconds <= IMPORT_GOAL else "missed"
    rows.append(f"| `import bertkit`, CPU-seconds | | {seconds:.3f} | | {IMPORT_GOAL} {reached} |")
    return "\n".join(rows)


class Clock(Meter):
    """Notes what the first step took and what memory there was, instead of taking turns."""

    def __init__(self) -> None:
        super().__init__(warmup_steps=0, steps=STEPS, rounds=1)
        self.max_steps = STEPS
        self.began = self.first_step = 0.0
        self.megabytes_before = 0.0

    def data_is_ready(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(self._step_done)
        self.megabytes_before = peak_megabytes()
        self.began = cpu_seconds()

    def batch(self, collate: Any) -> Any:
        return collate()

    def _step_done(self, *_: object) -> None:
        self.first_step = self.first_step or cpu_seconds() - self.began


def peak_megabytes() -> float:
    """Return the largest resident memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def train_side(arguments: argparse.Namespace) -> None:
    clock, folder, size = Clock(), arguments.folder, pretraining.SIZES[arguments.size]
    if arguments.work[0] == "masked":
        pretraining.train_side(arguments.side, pretraining.WORK["grouped"], size, folder, clock)
    else:
        rows = HALF if arguments.work[0] == "causal_by_halves" else None
        causal.train_side(arguments.side, 0.1, size, folder, clock, micro_batch_size=rows)
    peak = peak_megabytes()
    figures = {"first_step_cpu_seconds": clock.first_step, "peak_megabytes": peak}
    print(json.dumps({**figures, "training_megabytes": peak - clock.megabytes_before}))


if __name__ == "__main__":
    main()
