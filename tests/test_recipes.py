"""Every YAML recipe is commented, and runs for two steps."""

import json
from pathlib import Path

import pytest
import yaml

from bertkit.cli import main
from bertkit.models import FAMILIES

RECIPES = Path(__file__).parents[1] / "recipes"
PRETRAINING = sorted(RECIPES.glob("pretrain/*.yaml"))
TOKENIZER = sorted((RECIPES.parent / "tokenizer" / "configs").glob("*.yaml"))
# A recipe's own size and length are not the test's business; everything else runs as it stands.
SHORT = {"training.max_steps": 2, "training.train_batch_size": 4, "training.micro_batch_size": 2, "quiet": "true"}
SMALL = {"hidden_size": 48, "embedding_size": 48, "encoder_hidden_size": 48, "cell_size": 64, "num_attention_heads": 2,
         "num_hidden_layers": 1, "intermediate_size": 64, "hidden_sizes": "null"}  # fmt: skip


def options(settings):
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def pairs_file(corpus_file, tmp_path_factory):
    """Sentences of the corpus and, as their translation, the same from end to beginning."""
    lines = [line.split()[:20] for line in corpus_file.read_text(encoding="utf-8").splitlines() if line]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{' '.join(words)}\t{' '.join(words[::-1])}\n" for words in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", PRETRAINING, ids=lambda path: path.stem)
def test_a_pretraining_recipe_runs_for_two_steps(recipe, corpus_file, pairs_file, tokenizer_folder, tmp_path):
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    train = pairs_file if content["objective"]["name"] == "seq2seq" else corpus_file
    settings = SHORT | {"output_dir": tmp_path, "tokenizer": tokenizer_folder, "data.train": train}
    fields = FAMILIES[content["model"]["family"]].config_class.__annotations__
    settings |= {f"model.{name}": value for name, value in SMALL.items() if name in fields}
    assert main(["pretrain", "--config", str(recipe), *options(settings)]) == 0
    state = json.loads((tmp_path / "last" / "state" / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and state["metrics"]["eval_loss"] > 0


def test_every_family_has_a_recipe_to_try_and_the_full_one_of_its_paper():
    families = {}
    for recipe in PRETRAINING:
        family = yaml.safe_load(recipe.read_text(encoding="utf-8"))["model"]["family"]
        families.setdefault(family, []).append("full" if recipe.stem.endswith("-base") else "small")
    assert families.keys() == FAMILIES.keys()
    assert all({"full", "small"} <= set(kinds) for kinds in families.values()), families


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
