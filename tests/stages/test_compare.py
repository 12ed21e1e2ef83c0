import json
import re

import pytest

from bertkit.cli import main

TASK = ["--task", "sequence_classification"]


def write(folder, name, right, count=200, labels=("a", "b")):
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"text": f"text {n}", "label": labels[n % 2], "prediction": labels[n % 2 if n < right else (n + 1) % 2]}
        for n in range(count)
    ]
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def a_run(folder, right, seeds=()):
    for seed in seeds:
        write(folder / f"seed-{seed}", "predictions_test.jsonl", right + seed)
    if not seeds:
        write(folder, "predictions_test.jsonl", right)
    (folder / "results.json").write_text(json.dumps({"task": "sequence_classification"}))
    return str(folder)


def a_file(folder, **options):
    return str(write(folder, "predictions.jsonl", 9, **options) / "predictions.jsonl")


def test_a_large_difference_is_more_than_luck_and_a_small_one_is_not(tmp_path, capsys):
    poor, good, better = (a_run(tmp_path / str(right), right) for right in (120, 176, 178))
    assert main(["compare", poor, good]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["first", "0.6000"],
        ["second", "0.8800"],
        ["difference", "+0.2800"],
    ]
    assert "more than luck" in lines[4]
    assert main(["compare", good, better]) == 0
    assert "luck would do it as well" in capsys.readouterr().out


def test_the_seeds_of_a_run_count_together(tmp_path, capsys):
    assert main(["compare", a_run(tmp_path / "a", 100, seeds=(0, 10, 20)), a_run(tmp_path / "b", 150)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1] == "0.5500" and "mean of 3 runs" in lines[1]


def test_the_folds_of_a_run_are_all_examples_once(tmp_path, capsys):
    for name, right in (("a", (100, 120)), ("b", (180, 160))):
        for fold in range(2):
            write(tmp_path / name / f"fold-{fold}", "predictions_eval.jsonl", right[fold])
        (tmp_path / name / "results.json").write_text(json.dumps({"task": "sequence_classification"}))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--part", "eval"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "over 400 texts" in lines[0] and [line.split()[1] for line in lines[1:3]] == ["0.5500", "0.8500"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: [a_run(p / "a", 9), str(p / "b")], "b is no run's folder with a results.json"),
        (lambda p: [a_run(p / "a", 9), a_run(p / "b", 9), "--part", "eval"], "has no predictions_eval.jsonl"),
        (lambda p: [a_run(p / "a", 9), a_file(p / "b", count=100), *TASK], "200 and 100 pred"),
        (lambda p: [a_run(p / "a", 9), a_run(p / "b", 9), "--resamples", "5"], "fewer than 100 say nothing"),
        (lambda p: [a_run(p / "a", 9), a_run(p / "b", 9), "--task", "regression"], "not of this task"),
        (lambda p: [a_run(p / "a", 9), a_file(p / "b", labels="cd"), *TASK], "prediction 1 of .* is about different examples"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_in_one_line(tmp_path, capsys, make, message):
    assert main(["compare", *make(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1

    assert re.search(message, error)
