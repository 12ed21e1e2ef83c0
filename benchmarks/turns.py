"""The sides of a comparison take turns in one run; what counts is the median, over the rounds, of the ratio of their speeds.

Each side is a process of its own that stands still but in its turns. Speed is real (unpadded) tokens per CPU-second,
children that have ended included: what else runs on the machine weighs less on that than on the clock on the wall.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OURS = "bertkit"


@dataclass
class Figures:
    """What a turn of one side has done."""

    cpu_seconds: float
    seconds: float
    """By the clock on the wall."""
    tokens: int
    """Those that are no padding."""
    positions: int = 0
    """Tokens and padding that went through the model, where both are counted."""
    pairs: int = 0
    """Positions times positions of their rows: the scores that a head of attention computes."""
    labels: int = 0
    """What was predicted, where it is counted."""
    peak_bytes: int = 0
    """The most memory that tensors had on the device so far, where it is measured."""

    @property
    def speed(self) -> float:
        """Real tokens per CPU-second."""
        return self.tokens / self.cpu_seconds

    @property
    def speed_by_clock(self) -> float:
        """Real tokens per second by the clock on the wall."""
        return self.tokens / self.seconds


def cpu_seconds() -> float:
    """Return the CPU time of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def processor() -> str:
    """Return the name of the processor, with its family and model where the system tells: virtual machines hide the name."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in cpuinfo.read_text().split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    name = facts.get("model name", platform.machine())
    return f"{name}, family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else name


# The parent: give the turns, compare


def option_parser(description: str | None, *, rounds: int = 3) -> argparse.ArgumentParser:
    """Return a parser of what all comparisons take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # what a child is
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # where the parent has prepared the text
    return parser


def take_turns(
    title: str, sides: Sequence[str], *, rounds: int, folder: Path, options: Sequence[str] = (), on_cpu: bool = True
) -> list[dict[str, Figures]]:
    """Let all sides work in turn, those of every other round in reverse order.

    Args:
        title: what is printed before the speeds.
        sides: their names; each is this program once more, with its own options, `options` and `--side`.
        rounds: turns of each side.
        folder: what the children read.
        options: further options of all children.
        on_cpu: keep them off the GPU, of which CPU-seconds say nothing, and print tokens per CPU-second; or else by the clock.

    Returns:
        The figures of each side, round by round.

    Raises:
        SystemExit: a side has failed.
    """
    with contextlib.ExitStack() as stack:
        children = {}
        for side in sides:
            command = [sys.executable, *sys.argv, *options, f"--side={side}", f"--folder={folder}"]
            children[side] = stack.enter_context(Side(f"{side} on {title}", command, on_cpu=on_cpu))
        results: list[dict[str, Figures]] = []
        for number in range(rounds):
            order = sides if number % 2 == 0 else sides[::-1]
            figures = {side: children[side].take_turn() for side in order}
            results.append({side: figures[side] for side in sides})
            speeds = {side: figures[side].speed if on_cpu else figures[side].speed_by_clock for side in sides}
            listed = ", ".join(f"{side} {speed:,.0f}" for side, speed in speeds.items())
            unit = "CPU-second" if on_cpu else "second"
            print(f"{title}, round {number + 1} of {rounds}: {listed} tokens per {unit}", flush=True)
    return results


class Side:
    """A child process that stands still but in its turns.

    Args:
        name: for messages.
        command: starts it; it prints a line when it is ready, and `Figures` as a line of JSON for every line that it reads.
        on_cpu: keep it off the GPU.
    """

    def __init__(self, name: str, command: Sequence[str], *, on_cpu: bool = True) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ACCELERATE_USE_CPU": "true" if on_cpu else "false"},
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
        """Let it work."""
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


def compare(
    title: str, rounds: list[dict[str, Figures]], goals: Mapping[str, float], ours: str = OURS
) -> dict[str, Any]:
    """Return the results of a comparison as they are written down.

    Args:
        title: what was done.
        rounds: the figures of each side.
        goals: side -> the ratio of our speed to its that is aimed at.
        ours: the side that is compared with them.
    """
    peers = {}
    for peer, goal in goals.items():
        ratios = [figures[ours].speed / figures[peer].speed for figures in rounds]
        peers[peer] = {"goal": goal, "ratio": statistics.median(ratios), "ratios": ratios}
    sides = {
        side: {
            "tokens_per_cpu_second": statistics.median(figures[side].speed for figures in rounds),
            "rounds": [asdict(figures[side]) for figures in rounds],
        }
        for side in rounds[0]
    }
    return {"title": title, "ours": ours, "peers": peers, "sides": sides}


def verdict(ratio: float, goal: float, *, at_most: bool = False) -> str:
    """Return the goal, which is to be reached or, with `at_most`, not to be exceeded, and whether it is."""
    is_reached = ratio <= goal if at_most else ratio >= goal
    return f"{goal} × {'reached' if is_reached else 'missed'}"


def ratio_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the results of `compare` out as a Markdown table."""
    rows = [
        "| work | beside | its tokens per CPU-second | bertkit's | ratio (lowest to highest round) | goal "
        "| its padding | bertkit's |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results.values():
        ours = result["sides"][result.get("ours", OURS)]
        for peer, figures in result["peers"].items():
            its = result["sides"][peer]
            cells = [
                result["title"],
                peer,
                f"{its['tokens_per_cpu_second']:,.0f}",
                f"{ours['tokens_per_cpu_second']:,.0f}",
                f"**{figures['ratio']:.2f} ×** ({min(figures['ratios']):.2f} to {max(figures['ratios']):.2f})",
                verdict(figures["ratio"], figures["goal"]),
                padding_of(its["rounds"]),
                padding_of(ours["rounds"]),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def padding_of(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Return the share of the positions that is padding, as it is written down; nothing where positions are not counted."""
    positions = sum(turn["positions"] for turn in rounds)
    return f"{100 * (1 - sum(turn['tokens'] for turn in rounds) / positions):.1f} %" if positions else ""


def report(results: Mapping[str, Mapping[str, Any]], arguments: argparse.Namespace, **settings: Any) -> None:
    """Print the results of `compare` by name, and write them with the settings where `--output` says."""
    print(ratio_table(results))
    if arguments.output:
        arguments.output.write_text(json.dumps({**settings, "work": results}, indent=2) + "\n")


# The children: work, and measure


@contextlib.contextmanager
def private_stdout() -> Any:
    """Keep stdout for the reports to the parent; what libraries print goes to stderr. Yields the file of the reports."""
    with contextlib.redirect_stdout(sys.stderr):
        yield sys.__stdout__


def answer(work: Callable[[], int], *, rounds: int, warm_up: Callable[[], object] | None = None) -> None:
    """Do a piece of work for each turn.

    Args:
        work: does it, and returns how many real tokens it was.
        rounds: turns.
        warm_up: what is done before the first turn; None: the work itself.
    """
    with private_stdout() as reports:
        (warm_up or work)()
        print("ready", file=reports, flush=True)
        for _ in range(rounds):
            _await_turn()
            before, started = cpu_seconds(), time.monotonic()
            tokens = work()
            figures = Figures(cpu_seconds() - before, time.monotonic() - started, tokens)
            print(json.dumps(asdict(figures)), file=reports, flush=True)
        sys.stdin.read()


def _await_turn() -> None:
    if not sys.stdin.readline():
        raise SystemExit("the benchmark was stopped")


class Meter:
    """Measures turns of `steps` training steps, each from one request for a batch to another, and stands still between turns.

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

    def data_is_ready(self) -> None:
        """Take note that all that is left is to make a trainer and to train; here it is of no interest."""

    def batch(self, collate: Callable[[], Any]) -> Any:
        """Return the batch that `collate` makes; a trainer asks for each of its batches here."""
        turns, step = divmod(self.requests - self.warmup_steps, self.steps)
        if step == 0 and 0 <= turns <= self.rounds:
            self._report()
            self.turn = self._begin_turn() if turns < self.rounds else None
            if turns == self.rounds:
                sys.stdin.read()  # the others may have their last turn yet: stand still until all is done
        self.requests += 1
        batch = collate()
        if self.turn is not None:
            labels = batch["shift_labels" if "shift_labels" in batch else "labels"]
            number, length = batch["input_ids"].shape
            self.turn.positions += number * length
            self.turn.pairs += number * length**2
            self.turn.tokens += int(batch["attention_mask"].sum())
            self.turn.labels += int((labels != -100).sum())
        return batch

    def settle(self) -> None:
        """Wait for what has been handed to the device; on a CPU there is nothing to wait for."""

    def _report(self) -> None:
        self.settle()
        if self.turn is None:
            print("ready", file=self.reports, flush=True)
            return
        self.turn.cpu_seconds += cpu_seconds()
        self.turn.seconds += time.monotonic()
        print(json.dumps(asdict(self.turn)), file=self.reports, flush=True)

    def _begin_turn(self) -> Figures:
        _await_turn()
        return Figures(cpu_seconds=-cpu_seconds(), seconds=-time.monotonic(), tokens=0)
