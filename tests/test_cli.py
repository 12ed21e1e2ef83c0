"""The command line answers fast, and every mistake in one line with exit code 2."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import bertkit
from bertkit import cli

COMMAND = [sys.executable, "-m", "bertkit.cli"]
NEEDED = ["--output_dir", "run", "--tokenizer", "folder", "--data.train", "corpus.txt"]
HEAVY = {"accelerate", "datasets", "jsonargparse", "numpy", "tokenizers", "torch", "transformers"}


def cpu_seconds(command: list[str], *, limit: float) -> float:
    """Return the CPU time of a command, of up to three tries the first under the limit: the machine may be busy."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if seconds < limit:
            break
    return seconds


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command line that is wrong; return its one line."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


def test_help_lists_every_verb_in_half_a_cpu_second(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb, does in cli.VERBS.items():
        assert verb in shown and does in shown
    assert cpu_seconds([*COMMAND, "--help"], limit=0.5) < 0.5


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_takes_at_most_one_and_a_half_cpu_seconds(verb):
    assert cpu_seconds([*COMMAND, verb, "--help"], limit=1.5) < 1.5


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_every_setting_of_a_recipe_has_its_help(verb):
    from bertkit.stages import finetune, pretrain

    parser = {"pretrain": pretrain, "finetune": finetune}[verb].build_parser([])
    helps = {action.dest: action.help for action in parser._actions if action.dest != "help"}
    assert len(helps) > 40 and set(parser.known_keys()) < set(helps)
    assert [key for key, text in helps.items() if not text or len(text) < 10] == []
    shown = subprocess.run([*COMMAND, verb, "--help"], check=True, capture_output=True, text=True).stdout
    assert "Gradients are scaled down to this global norm" in " ".join(shown.split())


def test_help_of_pretraining_names_every_objective_and_every_family_that_has_one():
    from bertkit.models import FAMILIES
    from bertkit.objectives import OBJECTIVES
    from bertkit.stages import pretrain

    for objective in OBJECTIVES:
        parser = pretrain.build_parser(["--objective.name", objective])
        helps = {action.dest: re.split(r"[^\w.-]+", action.help or "") for action in parser._actions}
        assert {*OBJECTIVES, "--objective.name", "--help"} <= set(helps["objective.name"])
        pretrained = {name for name, family in FAMILIES.items() if family.made_by == "pretrain"}
        assert {*pretrained, "--model.family"} <= set(helps["model"])


def test_bars_move_seldom_where_they_are_no_bars(monkeypatch, capsys):
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    assert "unknown verb" in complaint(["nothing"], capsys)
    assert os.environ["TQDM_MININTERVAL"] == "10"  # what is captured is no terminal


def test_a_length_of_training_on_the_command_line_takes_the_place_of_the_recipes(capsys):
    from bertkit.config import overrule
    from bertkit.training.arguments import LENGTHS

    given = ["--config", "sst2", "--training.max_steps", "5"]
    assert overrule(given, LENGTHS) == [*given, "--training.num_train_epochs", "null"]  # what the recipe has
    assert overrule(given[:2], LENGTHS) == given[:2]
    assert overrule(["--training.max_steps=null"], LENGTHS) == ["--training.max_steps=null"]
    both = ["--training.max_steps", "5", "--training.max_time", "1h"]
    assert "training.max_steps and training.max_time are given" in complaint(["pretrain", *NEEDED, *both], capsys)


def test_import_of_the_package_imports_nothing_heavy_and_takes_less_than_a_third_of_a_cpu_second():
    program = "import sys, json, bertkit; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(json.loads(imported))
    assert cpu_seconds([sys.executable, "-c", "import bertkit"], limit=0.3) < 0.3


@pytest.mark.parametrize("name", bertkit.__all__)
def test_every_public_name_is_what_its_home_defines(name):
    value = getattr(bertkit, name)
    assert name in dir(bertkit)
    assert getattr(sys.modules[bertkit._HOMES[name]], name) is value


def test_names_for_type_checkers_are_the_public_names():
    source = Path(bertkit.__file__).read_text(encoding="utf-8")
    for name, home in bertkit._HOMES.items():
        assert f"    from {home} import {name} as {name}\n" in source
    assert source.count("    from bertkit.") == len(bertkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train_tokenzier'"):
        bertkit.train_tokenzier  # noqa: B018


def test_version_is_that_of_the_installed_package(capsys):
    from importlib.metadata import version

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"bertkit {version('bertkit')}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pretran"], "unknown verb 'pretran'; did you mean pretrain?"),
        (["pretrain"], "required: output_dir, tokenizer, data.train"),
        (["pretrain", *NEEDED, "--training.max_step", "5"], "--training.max_step; did you mean --training.max_steps?"),
        (["pretrain", *NEEDED, "--training.max_step=5"], "did you mean --training.max_steps?"),
        (["pretrain", *NEEDED, "--max_steps", "5"], "did you mean --training.max_steps?"),
        (["pretrain", *NEEDED, "--training.save", "5"], "unknown option --training.save"),
        (["pretrain", *NEEDED, "--training.max_steps", "five"], "max_steps is 'five'; it takes a whole number or null"),
        (["pretrain", *NEEDED, "--training.max_steps", "0"], "training.max_steps is 0; it must be greater than 0"),
        (["pretrain", *NEEDED, "--objective.next_sentence", "maybe"], "next_sentence is 'maybe'; it takes true or false"),
        (["pretrain", *NEEDED, "--objective.masking_unit", "words"], "it takes token, whole_word or span"),
        (
            ["pretrain", *NEEDED, "--objective.name", "maskd"],
            "unknown objective 'maskd'; choose from bidirectional, causal, masked",
        ),
        (["pretrain", *NEEDED, "--model", "3"], "model is '3'; it takes a mapping"),
        (["pretrain", *NEEDED, "stray"], "unrecognized arguments: stray"),
        (["pretrain", "--config"], "argument --config: expected one argument"),
        (["pretrain", "--config", "missing.yaml"], "--config missing.yaml: there is no such file"),
        (["pretrain", "--config", "bert-tinny"], "no recipe of that name; did you mean bert-tiny?"),
        (
            ["pretrain", *NEEDED, "--config", "rnn-tiny", "--objective.name", "bidirectional"],
            "--config rnn-tiny is a recipe of objective.name causal, not bidirectional; leave --objective.name out, or take a "
            "recipe of bidirectional (elmo-base, elmo-tiny)",
        ),
        (
            ["pretrain", *NEEDED, "--config", "gpt-tiny", "--objective.name=masked"],
            "leave --objective.name out, or take a recipe of masked (bert-base, bert-mini, bert-mini-quick, bert-tiny",
        ),
        (
            ["pretrain", *NEEDED, "--objective.name", "causal", "--objective.mlm_probability", "0.3"],
            "unknown option --objective.mlm_probability; it goes with objective.name masked",
        ),
        (
            ["pretrain", *NEEDED, "--data.train_target", "x"],
            "unknown option --data.train_target; it goes with objective.name seq2seq",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_command_line_is_answered_in_one_line_that_names_what_would_do(arguments, says, capsys):
    assert says in complaint(arguments, capsys)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("training:\n  max_step: 5\n", "recipe.yaml: unknown key training.max_step; did you mean training.max_steps?"),
        ("trainng:\n  max_steps: 5\n", "unknown key trainng.max_steps; did you mean training.max_steps?"),
        ("objective:\n  carry_state: true\n", "key objective.carry_state; it goes with objective.name causal"),
        ("max_steps: 5\n", "unknown key max_steps; did you mean training.max_steps?"),
        ("training:\n  max_steps: five\n", "training.max_steps is 'five'; it takes a whole number or null"),
        ("training: 5\n", "recipe.yaml: training is a section; give settings under it, or leave it out"),
        ("training:\n", "recipe.yaml: training is a section"),
        ("training: [5\n", "recipe.yaml, line 2: this is not YAML"),
        (
            "training:\n  seed: 1\n  seed: 2\n",
            "recipe.yaml, line 3: this is not YAML: seed is given twice; leave one out",
        ),
        ("- training\n", "a recipe must be a mapping of keys to values, and this is list"),
        ("", "a recipe must be a mapping of keys to values, and this is NoneType"),
        ("model: bert\n", "model is 'bert'; it takes a mapping"),
    ],
)
def test_wrong_recipe_is_answered_in_one_line_that_names_the_file_or_the_key(recipe, says, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    assert says in complaint(["pretrain", "--config", str(path), *NEEDED], capsys)


def test_corpus_that_is_not_there_is_answered_in_one_line_before_anything_is_built(tmp_path, capsys):
    output_dir = tmp_path / "tokenizer"
    line = complaint(["tokenizer", "--output_dir", str(output_dir), "--data.train", str(tmp_path / "no.txt")], capsys)
    assert str(tmp_path / "no.txt") in line
    assert not output_dir.exists()


def test_print_config_shows_a_recipe_that_config_takes_again(tmp_path, capsys):
    path = tmp_path / "printed.yaml"
    printed = []
    for arguments in (["--config", "bert-tiny", *NEEDED, "--training.seed", "7"], ["--config", str(path)]):
        with pytest.raises(SystemExit) as finished:
            cli.main(["pretrain", *arguments, "--print_config"])
        assert finished.value.code == 0
        printed.append(capsys.readouterr().out)
        path.write_text(printed[-1])
    assert printed[0] == printed[1]
    assert "  seed: 7\n" in printed[0] and "output_dir: run\n" in printed[0]


@pytest.mark.parametrize("recipes_come", ["first", "last"])
def test_command_line_wins_over_a_recipe_and_a_later_recipe_over_an_earlier_one(tmp_path, capsys, recipes_come):
    for name, steps in (("first", 1), ("second", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"training:\n  max_steps: {steps}\n  seed: {steps}\n")
    recipes = ["--config", str(tmp_path / "first.yaml"), f"--config={tmp_path / 'second.yaml'}"]
    settings = [*NEEDED, "--training.seed", "3", "--print_config"]
    with pytest.raises(SystemExit):
        cli.main(["pretrain", *recipes, *settings] if recipes_come == "first" else ["pretrain", *settings, *recipes])
    shown = capsys.readouterr().out
    assert "  max_steps: 2\n" in shown and "  seed: 3\n" in shown


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["pretrain", *NEEDED, "--quiet"], "quiet: true"),
        (["pretrain", "--quiet", "--data.streaming", *NEEDED], "streaming: true"),
        (["pretrain", "--quiet", "false", *NEEDED], "quiet: false"),
        (["pretrain", "--quiet=false", *NEEDED], "quiet: false"),
        (["finetune", *NEEDED, "--from_scratch", "--quiet"], "from_scratch: true"),
        (["pretrain", *NEEDED, "--model.tie_word_embeddings", "--quiet"], "tie_word_embeddings: true"),
        (["pretrain", "--model.preset=tiny", *NEEDED], "preset: tiny"),
        (["pretrain", *NEEDED, "--quiet", "--model.tie_word_embeddings", "false"], "tie_word_embeddings: false"),
        (["evaluate", "--quiet", "folder", "text.txt"], "input: text.txt"),
        (["evaluate", "folder", "text.txt", "--quiet"], "quiet: true"),
        (["evaluate", "folder", "--quiet", "false", "text.txt"], "quiet: false"),
        (["features", "folder", "--quiet", "text.txt", "--output", "o.npz"], "input: text.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_switch_needs_no_value_and_takes_one(arguments, shown, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([*arguments, "--print_config"])
    assert exit.value.code == 0
    assert shown in capsys.readouterr().out


def test_bug_is_not_passed_off_as_a_mistake_of_the_user(monkeypatch):
    from bertkit.stages import tokenizer

    def buggy(arguments):
        int("no number")

    monkeypatch.setattr(tokenizer, "main", buggy)
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(["tokenizer"])


def test_interrupt_ends_without_a_traceback(monkeypatch, capsys):
    from bertkit.stages import tokenizer

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "main", interrupted)
    assert cli.main(["tokenizer"]) == 130
    assert capsys.readouterr().err == "bertkit tokenizer: interrupted\n"


def test_installed_command_is_the_same_as_the_module():
    command = Path(sys.executable).with_name("bertkit")
    if not command.exists():
        pytest.skip("bertkit is not installed in this environment")
    shown = [
        subprocess.run([*start, "--help"], check=True, capture_output=True).stdout for start in ([command], COMMAND)
    ]
    assert shown[0] == shown[1]
