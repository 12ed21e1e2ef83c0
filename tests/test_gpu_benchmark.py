"""benchmarks/gpu.py where there is no GPU: it says so, and its road can be walked all the same."""

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*options, **environment):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_without_a_gpu_one_line_says_so_and_the_exit_code_is_2():
    done = run(CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and "needs a GPU" in done.stderr


def test_a_turn_ends_when_the_gpu_is_done_and_tells_its_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    gpu = importlib.import_module("gpu")
    now, waited = [0.0], []

    def synchronize():
        waited.append(now[0])
        now[0] += 10  # what had been handed over takes as long

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
    meter = gpu.GpuMeter(warmup_steps=0, steps=2, rounds=1)
    meter.reports = io.StringIO()
    batch = {name: torch.ones(2, 4, dtype=torch.long) for name in ("input_ids", "attention_mask", "labels")}
    for _ in range(3):
        meter.batch(lambda: batch)
    ready, report = meter.reports.getvalue().splitlines()
    turn = json.loads(report)
    assert (ready, turn["seconds"], turn["tokens"], turn["peak_bytes"]) == ("ready", 10, 16, 7) and len(waited) == 2


@pytest.mark.slow
def test_the_same_road_without_a_gpu_gives_a_table_and_a_file(corpus_file, tmp_path):
    output = tmp_path / "gpu.json"
    small = {
        "preset": "tiny",
        "vocab_size": 9000,
        "block_size": 32,
        "batch_size": 4,
        "steps": 1,
        "rounds": 1,
        "warmup_steps": 1,
    }
    done = run(
        "--device=cpu", "--precision=no", f"--corpus={corpus_file}", f"--output={output}", "--peak_tflops=1",
        *(f"--{name}={value}" for name, value in small.items()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert set(results["work"]) == {"masked", "causal"} and results["block_size"] == 32
    for result in results["work"].values():
        assert result["title"] in done.stdout
        for side in ("transformers", "bertkit"):
            [turn] = result[side]["rounds"]
            assert (
                0 < turn["tokens"] <= 4 * 32 and result[side]["tokens_per_second"] == turn["tokens"] / turn["seconds"]
            )
            assert result[side]["utilisation"] > 0
