"""Kill a real pretraining with SIGKILL again and again; it must end with the bits of one that was left alone.

    make chaos                                  50 kills
    python -m tests.training.chaos --kills 5

The moments are spread over the whole run: of ten kills five come while the next checkpoint behind a random step is being
written, four at such a step, and one while the process starts. After each the run is told to go on by itself. At the end every
file of the last checkpoint and every number of the log must be the same, but for what a clock measures.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.corpus import write_corpus

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "objective.block_size": 64,
    "objective.mlm_probability_end": 0.1,
    "model.preset": "tiny",
    "model.hidden_size": 64,
    "model.intermediate_size": 128,
    "model.hidden_dropout_prob": 0.1,
    "training.train_batch_size": 12,
    "training.train_batch_size_start": 6,
    "training.batch_size_warmup_steps": 50,
    "training.micro_batch_size": 5,
    "training.save_steps": 9,
    "training.logging_steps": 1,
    "training.learning_rate": 0.002,
    "training.resume_from_checkpoint": "auto",
    "quiet": "true",
}
CLOCKS = ("tokens_per_second", "elapsed_seconds")
"""What differs between two runs of the same recipe."""


def chaos(kills: int, seed: int, folder: Path, max_steps: int = 240) -> list[str]:
    """Run once unbroken and once killed `kills` times; print what happened.

    Args:
        kills: how often.
        seed: of the moments.
        folder: for the runs.
        max_steps: length of the runs.

    Returns:
        What differs in the end; nothing, if the promise holds.
    """
    chance = random.Random(seed)
    options = {
        "tokenizer": ROOT / "tokenizer" / "wordpiece-wikipedia-4k",
        "data.train": write_corpus(folder / "corpus.txt"),
        "training.max_steps": max_steps,
    }
    subprocess.run(command(folder / "unbroken", options), check=True, env=environment(folder))
    print(f"the unbroken run is done; now with {kills} kills, seed {seed}", flush=True)

    broken = folder / "broken"
    moments = sorted(chance.uniform(0, 0.95 * max_steps) for _ in range(kills))
    for number, moment in enumerate(moments):
        log_of_the_last = modified(broken)
        child = subprocess.Popen(command(broken, options), env=environment(folder))
        if number % 10 == 9:
            # The seconds that it takes to start; it must not get to the last step.
            end = time.monotonic() + chance.uniform(0, 4)
            wait_for(child, lambda end=end, old=log_of_the_last: time.monotonic() >= end or modified(broken) != old)
        elif number % 2:
            wait_for(child, lambda child=child, moment=moment: is_saving(broken, moment, child.pid))
        else:
            wait_for(
                child,
                lambda old=log_of_the_last, moment=moment: modified(broken) != old and step_of_log(broken) >= moment,
            )
        time.sleep(chance.uniform(0, 0.02))  # somewhere in the step or in the writing
        if child.poll() is not None:
            return [f"the run ended by itself after {number} of {kills} kills"]
        child.kill()
        child.wait()
        torn = [path.name for path in broken.glob(".checkpoint-*")]
        last = (broken / "last").resolve().name if (broken / "last").exists() else "no checkpoint"
        at = f"step {step_of_log(broken)}, {'left ' + ', '.join(torn) if torn else 'between two saves'}"
        print(f"kill {number + 1}: {at}; {last}", flush=True)
    subprocess.run(command(broken, options), check=True, env=environment(folder))
    return differences(folder / "unbroken", broken)


def step_of_log(run: Path) -> int:
    """Return the last step that a run has logged; 0 before the first."""
    log = run / "log.jsonl"
    whole = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")] if log.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def modified(run: Path) -> int | None:
    """Return when the log of a run was written to; None where there is none."""
    log = run / "log.jsonl"
    return log.stat().st_mtime_ns if log.exists() else None


def is_saving(run: Path, moment: float, process: int) -> bool:
    """Return whether a process itself is writing a checkpoint of a step at or behind a moment."""
    written_aside = run.glob(f".checkpoint-*.{process}")
    return any(int(path.name.removeprefix(".checkpoint-").split(".")[0]) >= moment for path in written_aside)


def wait_for(child: subprocess.Popen[bytes], has_come: Callable[[], bool]) -> None:
    """Wait until the moment to kill a process has come, or it ends."""
    while child.poll() is None and not has_come():
        time.sleep(0.0005)


def command(output_dir: Path, options: dict[str, object]) -> list[str]:
    """Return the command line of the pretraining."""
    settings = {**SETTINGS, **options, "output_dir": output_dir}
    parts = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, str(ROOT / "recipes" / "pretrain.py"), *parts]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the child: one thread, and a cache of its own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "BERTKIT_CACHE": str(folder / "cache")}


def differences(one: Path, other: Path) -> list[str]:
    """Name what two finished runs do not have in common, clocks and folder names aside."""
    found = []
    names = [
        {path.relative_to(run / "last") for path in (run / "last").rglob("*") if path.is_file()} for run in (one, other)
    ]
    if names[0] != names[1]:
        found.append(f"files of the last checkpoint: {names[0] ^ names[1]}")
    for name in sorted(names[0] & names[1]):
        contents = [(run / "last" / name).read_bytes() for run in (one, other)]
        if name.name in ("recipe.yaml", "README.md"):  # they name the output_dir
            contents = [
                content.replace(str(run).encode(), b"") for content, run in zip(contents, (one, other), strict=True)
            ]
            contents = [re.sub(rb"[\d.]+ (hours|minutes|seconds) of training", b"", content) for content in contents]
            contents = [re.sub(rb"(?m)^(output_dir:|- name:) \S+$", b"", content) for content in contents]
        elif name.name == "trainer_state.json":
            contents = [json.dumps(without_clocks(json.loads(content))).encode() for content in contents]
        elif name.name == "manifest.json":
            continue  # checksums of the files above
        if contents[0] != contents[1]:
            found.append(f"last/{name}")
    logs = [[without_clocks(json.loads(line)) for line in (run / "log.jsonl").open()] for run in (one, other)]
    if logs[0] != logs[1]:
        found.append("log.jsonl")
    return found


def without_clocks(values: dict[str, object]) -> dict[str, object]:
    """Return what does not depend on the time it took."""
    return {name: value for name, value in values.items() if name not in CLOCKS}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        different = chaos(arguments.kills, arguments.seed, Path(temporary))
    print(
        f"NOT the same: {', '.join(different)}" if different else "the same to the bit: weights, optimizer, state, log"
    )
    sys.exit(bool(different))
