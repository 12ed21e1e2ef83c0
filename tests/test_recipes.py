"""Every YAML recipe is commented, and runs for two steps."""

import json
from pathlib import Path

import pytest

from bertkit.cli import main

RECIPES = Path(__file__).parents[1] / "recipes"
PRETRAINING = sorted(RECIPES.glob("pretrain/*.yaml"))
TOKENIZER = sorted((RECIPES.parent / "tokenizer" / "configs").glob("*.yaml"))
# A recipe's own size and length are not the test's business; everything else runs as it stands.
SMALL = {"training.max_steps": 2, "training.train_batch_size": 4, "training.micro_batch_size": 2, "model.hidden_size": 48,
         "model.num_attention_heads": 2, "model.num_hidden_layers": 1, "model.intermediate_size": 64}  # fmt: skip


def options(settings):
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize("recipe", PRETRAINING, ids=lambda path: path.stem)
def test_a_pretraining_recipe_runs_for_two_steps(recipe, corpus_file, tokenizer_folder, tmp_path):
    settings = {"output_dir": tmp_path, "tokenizer": tokenizer_folder, "data.train": corpus_file, "quiet": "true"}
    assert main(["pretrain", "--config", str(recipe), *options(settings | SMALL)]) == 0
    state = json.loads((tmp_path / "last" / "state" / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and state["metrics"]["eval_loss"] > 0


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_how_to_run_it_and_what_to_expect(recipe):
    comment = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(comment)
    assert "bertkit" in text or "accelerate launch" in text
    assert "xpect" in text
    listed = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert f"{recipe.parent.name}/{recipe.stem}" in listed


@pytest.mark.parametrize("recipe", TOKENIZER, ids=lambda path: path.stem)
def test_a_tokenizer_recipe_trains_a_tokenizer(recipe, corpus_file, tmp_path):
    settings = {"output_dir": tmp_path / "t", "data.train": corpus_file, "data.eval": corpus_file, "quiet": "true"}
    assert main(["tokenizer", "--config", recipe.stem, *options(settings)]) == 0
    assert (tmp_path / "t" / "tokenizer.json").is_file()
