"""A run that goes on by another recipe than its checkpoint's says in one line what is new, and by the same one nothing."""

import pytest
import yaml

from bertkit.cli import main
from bertkit.stages.recipe_changes import check_recipe


@pytest.fixture
def checkpoint(tmp_path):
    recipe = {"output_dir": "a", "quiet": True, "training": {"max_steps": 5, "report_to": ["none"]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def test_what_is_new_is_named_with_what_was(checkpoint):
    now = {"output_dir": "b", "quiet": False, "training": {"max_steps": 9, "report_to": ["none"]}, "seeds": None}
    (finding,) = check_recipe(checkpoint, yaml.safe_dump(now | {"data": {"train": "한국어.txt"}}))
    assert finding.verdict == "warning" and str(checkpoint) in finding.what
    assert finding.what.endswith(': data.train "한국어.txt" (was null), training.max_steps 9 (was 5)')


def test_the_same_recipe_elsewhere_is_no_news(checkpoint):
    now = {"output_dir": "b", "training": {"max_steps": 5, "report_to": ["none"], "resume_from_checkpoint": "auto"}}
    assert check_recipe(checkpoint, yaml.safe_dump(now)) == []


def test_a_checkpoint_without_a_recipe_is_compared_with_none(tmp_path):
    assert check_recipe(tmp_path, "quiet: false\n") == []


def test_pretraining_says_it_in_one_line_even_when_quiet(pretrain_options, tmp_path, capsys):
    settings = {"training.resume_from_checkpoint": "auto", "training.max_steps": 2, "quiet": "true"}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 0
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 0
    assert "warning recipe" not in capsys.readouterr().err
    changed = settings | {"training.max_steps": 3, "training.learning_rate": 0.0001}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **changed)]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning recipe")]
    assert "training.max_steps 3 (was 2)" in line and "training.learning_rate 0.0001 (was " in line
