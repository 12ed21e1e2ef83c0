"""Every fine-tuning recipe runs by the commands in its comment: on files, and on a dataset with the columns of the Hub's."""

import json
import random
import re
import shlex
from pathlib import Path

import datasets
import pytest

from bertkit.cli import main

FOLDER = Path(__file__).parents[2] / "recipes" / "finetune"
WORDS = ["good", "great", "fine", "lovely", "brave", "bad", "awful", "poor", "dreadful", "dull"]
TEXT, NUMBER = datasets.Value("string"), datasets.Value("int32")


def text(seed, words=5):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def classes(*names):
    return datasets.ClassLabel(names=list(names))


def label_lines(names):
    return lambda numbers: "".join(f"{names[n % len(names)]} {text(n)}\n" for n in numbers)


def table(*columns):
    return lambda numbers: "".join("\t".join(row) + "\n" for row in [columns, *map(str_row, numbers)])


def str_row(number):
    return str(number), text(number), str(number % 2)


def pair_table(numbers):
    rows = [(str(n), text(n), text(-n), ["entailment", "not_entailment"][n % 2]) for n in numbers]
    return "".join("\t".join(row) + "\n" for row in [("index", "sentence1", "sentence2", "label"), *rows])


def sts_lines(numbers):
    return "".join(f"main\tMSRvid\t2012\t{n}\t{n % 6}.0\t{text(n)}\t{text(-n)}\n" for n in numbers)


TAGS = ["O", "B-person", "I-person", "O", "B-location"]
PARTS_OF_SPEECH = ["NOUN", "PUNCT", "NOUN", "ADJ", "VERB"]


def conll(numbers):
    return "".join("".join(f"{w}\t{t}\n" for w, t in zip(text(n).split(), TAGS, strict=True)) + "\n" for n in numbers)


def conllu(numbers):
    lines = []
    for n in numbers:
        lines.append(f"# sent_id = {n}")
        tagged = zip(text(n).split(), PARTS_OF_SPEECH, strict=True)
        lines += [f"{i}\t{word}\t_\t{tag}\t_\t_\t0\troot\t_\t_" for i, (word, tag) in enumerate(tagged, 1)] + [""]
    return "\n".join(lines) + "\n"


def asked(number):
    context = text(number, 12)
    answer = context.split()[3]
    return context, {"text": [answer], "answer_start": [context.index(answer)]}


def squad(numbers):
    articles = []
    for n in numbers:
        context, answers = asked(n)
        answer = {name: of[0] for name, of in answers.items()}
        questions = [{"id": str(n), "question": "which one", "answers": [answer]}]
        articles.append({"title": str(n), "paragraphs": [{"context": context, "qas": questions}]})
    return json.dumps({"data": articles})


SST = {"idx": NUMBER, "sentence": TEXT, "label": classes("negative", "positive")}
TREC = classes("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM")
PAIR = {"sentence1": TEXT, "sentence2": TEXT}
UPOS = classes("NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ", "PROPN", "PRON", "X", "_", "ADV",
               "INTJ", "VERB", "AUX")  # fmt: skip
ANSWERS = {"text": datasets.List(TEXT), "answer_start": datasets.List(NUMBER)}
LAYOUTS = {
    # recipe: how its files are written, the columns of its dataset, one row of them, and the splits there are
    "sst2": (label_lines("01"), SST, lambda n: (n, text(n), n % 2), ("train", "validation", "test")),
    "trec": (
        label_lines("012345"),
        {"text": TEXT, "coarse_label": TREC, "fine_label": classes(*map(str, range(50)))},
        lambda n: (text(n), n % 6, n % 50),
        ("train", "test"),
    ),
    "nsmc": (
        table("id", "document", "label"),
        {"id": TEXT, "document": TEXT, "label": classes("negative", "positive")},
        lambda n: (str(n), text(n), n % 2),
        ("train", "test"),
    ),
    "stsb": (
        sts_lines,
        {**PAIR, "label": datasets.Value("float32"), "idx": NUMBER},
        lambda n: (text(n), text(-n), n % 6, n),
        ("train", "validation", "test"),
    ),
    "rte": (
        pair_table,
        {**PAIR, "label": classes("entailment", "not_entailment"), "idx": NUMBER},
        lambda n: (text(n), text(-n), n % 2, n),
        ("train", "validation", "test"),
    ),
    "wnut17": (
        conll,
        {"id": TEXT, "tokens": datasets.List(TEXT), "ner_tags": datasets.List(classes(*dict.fromkeys(TAGS)))},
        lambda n: (str(n), text(n).split(), [0, 1, 2, 0, 3]),
        ("train", "validation", "test"),
    ),
    "ewt": (
        conllu,
        {"idx": TEXT, "text": TEXT, "tokens": datasets.List(TEXT), "upos": datasets.List(UPOS)},
        lambda n: (str(n), text(n), text(n).split(), [0, 1, 0, 6, 16]),
        ("train", "validation", "test"),
    ),
    "xquad": (
        squad,
        {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS},
        lambda n: (str(n), asked(n)[0], "which one", asked(n)[1]),
        ("validation",),
    ),
}
HIDDEN = {"sst2", "stsb", "rte"}
"""Datasets whose test split bears −1 for every label."""
SIZES = {"train": 24, "validation": 12, "test": 12}


def commands(recipe):
    """Return the commands in a recipe's comment as lists of arguments."""
    comment = [line[1:] for line in (FOLDER / f"{recipe}.yaml").read_text().splitlines() if line.startswith("#")]
    joined = "\n".join(comment).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in joined.splitlines() if line.startswith("   bertkit ")]


def write_dataset(folder, config, recipe):
    """Write a dataset as the Hub has it: parquet files, and a README that tells the splits of a configuration."""
    _, columns, row, splits = LAYOUTS[recipe]
    files = []
    for seed, split in enumerate(splits):
        rows = [row(number + 1000 * seed) for number in range(SIZES["train" if len(splits) == 1 else split])]
        by_column = {name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}
        if split == "test" and recipe in HIDDEN:
            by_column["label"] = [-1] * len(rows)
        path = folder / (config or "data") / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(by_column, features=datasets.Features(columns)).to_parquet(str(path))
        files.append(f"  - split: {split}\n    path: {path.relative_to(folder)}")
    name = config or "default"
    (folder / "README.md").write_text(
        "---\n" + "\n".join(["configs:", f"- config_name: {name}", "  data_files:", *files]) + "\n---\n"
    )


def run(command, recipe, checkpoint, tmp_path, monkeypatch):
    """Run a command of a recipe's comment for two steps, with the data that it names made up; return its results."""
    monkeypatch.chdir(tmp_path)
    arguments = []
    for before, argument in zip(["", *command], command, strict=False):
        if argument.startswith("hub:"):
            name, config, split = re.fullmatch(r"hub:([^:@]+)(?::([^@]+))?@(.+)", argument).groups()
            write_dataset(tmp_path / name, config, recipe)
            argument = f"hub:{tmp_path / name}{':' + config if config else ''}@{split}"
        elif before.startswith("--data.") and before.split(".")[1] in ("train", "eval", "test"):
            seed = ["train", "eval", "test"].index(before.split(".")[1])
            size = SIZES["train" if seed == 0 else "validation"]
            Path(argument).write_text(LAYOUTS[recipe][0](range(1000 * seed, 1000 * seed + size)), encoding="utf-8")
        arguments.append(argument)
    short = {"--model.from": checkpoint, "--output_dir": "run", "--training.max_steps": 2, "--task.max_length": 48,
             "--training.num_train_epochs": "null", "--quiet": "true"}  # fmt: skip
    if recipe == "xquad":
        short |= {"--task.stride": 8, "--task.max_question_length": 8}
    assert main([*arguments, *(str(part) for option in short.items() for part in option)]) == 0
    return json.loads((tmp_path / "run" / "results.json").read_text())


def test_every_recipe_of_a_public_data_set_is_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*LAYOUTS, "quickstart-word-order"}


@pytest.mark.parametrize("recipe", LAYOUTS)
def test_a_recipe_runs_on_files_and_on_the_hubs_dataset_by_the_commands_in_its_comment(
    recipe, checkpoint, tmp_path, monkeypatch
):
    on_files, on_dataset = commands(recipe)
    assert "hub:" not in " ".join(on_files) and "hub:" in " ".join(on_dataset)
    results = {}
    for kind, command in (("files", on_files), ("dataset", on_dataset)):
        (tmp_path / kind).mkdir()
        results[kind] = run(command, recipe, checkpoint, tmp_path / kind, monkeypatch)
    labels = {kind: len(of["labels"]) for kind, of in results.items()}
    assert labels["files"] == labels["dataset"]
    assert results["files"]["examples"]["train"] > 10 and results["dataset"]["examples"]["train"] > 10
    for kind, of in results.items():
        parts = {
            part for part in ("eval", "test") if f"--data.{part}" in {"files": on_files, "dataset": on_dataset}[kind]
        }
        assert parts | {"eval"} <= {*of["examples"]}
        assert {*of["mean"]} == {*of["examples"]} - {"train"}


def test_a_recipe_of_another_task_is_refused_by_its_name(capsys):
    arguments = ["--config", "sst2", "--task.name", "regression", "--data.train", "x", "--output_dir", "x"]
    assert main(["finetune", *arguments]) == 2
    assert capsys.readouterr().err.endswith(
        "--config sst2 is a recipe of task.name sequence_classification, not regression; leave --task.name out, or take a "
        "recipe of regression (stsb)\n"
    )
