"""Every YAML recipe is commented, and runs for two steps."""

import json
from pathlib import Path

import pytest

from bertkit.cli import main
from bertkit.config import load_yaml
from bertkit.data.arguments import DataArguments, PairDataArguments
from bertkit.models import FAMILIES
from bertkit.objectives import OBJECTIVES

RECIPES = Path(__file__).parents[1] / "recipes"
PRETRAINING = sorted(RECIPES.glob("pretrain/*.yaml"))
TOKENIZER = sorted((RECIPES.parent / "tokenizer" / "configs").glob("*.yaml"))
# A recipe's own size, length and data are not the test's business; everything else runs as it stands.
SHORT = {"training.max_steps": 2, "training.num_train_epochs": "null", "training.train_batch_size": 4,
         "training.micro_batch_size": 2, "quiet": "true"}  # fmt: skip
TRANSFORMER = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SMALL = {
    "rnn": {"embedding_size": 40, "hidden_size": 48, "hidden_sizes": "[56,48]", "num_hidden_layers": 2},
    "elmo": {"hidden_size": 48, "cell_size": 56, "num_hidden_layers": 1, "character_filters": "[[1,8],[2,8]]"},
    "rnn_seq2seq": {"embedding_size": 40, "hidden_size": 48, "encoder_hidden_size": 48, "num_hidden_layers": 1},
    "transformer": TRANSFORMER,
    "gpt": TRANSFORMER,
    "bert": TRANSFORMER,
}


def options(settings):
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def pairs_file(corpus_file, tmp_path_factory):
    """Lines source TAB target: the sentences of the corpus, and their words in reverse."""
    sentences = corpus_file.read_text(encoding="utf-8").replace("\n", " ").split(". ")
    file = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    file.write_text("".join(f"{text}\t{' '.join(reversed(text.split()))}\n" for text in sentences), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def data(corpus_file, pairs_file):
    """The data that an objective reads, by the class of its settings; what a recipe says of it itself is taken back."""
    pairs = {"data.train": pairs_file, "data.train_target": "null", "data.eval": "null", "data.eval_target": "null"}
    return {DataArguments: {"data.train": corpus_file, "data.eval": "null"}, PairDataArguments: pairs}


@pytest.mark.parametrize("recipe", PRETRAINING, ids=lambda path: path.stem)
def test_a_pretraining_recipe_runs_for_two_steps(recipe, data, tokenizer_folder, tmp_path):
    said = load_yaml(recipe)
    size = {f"model.{name}": value for name, value in SMALL[said["model"]["family"]].items()}
    settings = SHORT | size | data[OBJECTIVES[said["objective"]["name"]].data_class]
    settings |= {"output_dir": tmp_path, "tokenizer": tokenizer_folder}
    assert main(["pretrain", "--config", str(recipe), *options(settings)]) == 0
    state = json.loads((tmp_path / "last" / "state" / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and state["metrics"]["eval_loss"] > 0


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.made_by == "pretrain"])
def test_every_family_that_is_pretrained_has_a_recipe_of_its_paper(family):
    assert load_yaml(RECIPES / "pretrain" / f"{family}-base.yaml")["model"]["family"] == family


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("embed/*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_vectors_trains_them(recipe, corpus_file, tmp_path):
    method = load_yaml(recipe)["method"]
    settings = {"output": tmp_path / "vectors", "data.train": corpus_file, f"{method}.epochs": 1, "quiet": "true"}
    assert main(["embed", "--config", recipe.stem, *options(settings)]) == 0
    assert (tmp_path / "vectors" / "model.safetensors").is_file()


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_how_to_run_it_and_what_to_expect(recipe):
    comment = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(comment)
    assert "bertkit" in text or "accelerate launch" in text
    assert "xpect" in text
    listed = (RECIPES / "README.md").read_text(encoding="utf-8")
    [row] = [line for line in listed.splitlines() if f"`{recipe.parent.name}/{recipe.stem}`" in line]
    assert len(row.strip("|").split("|")) == 4  # recipe, command, time, what you should see


@pytest.mark.parametrize("recipe", TOKENIZER, ids=lambda path: path.stem)
def test_a_tokenizer_recipe_trains_a_tokenizer(recipe, corpus_file, tmp_path):
    settings = {"output_dir": tmp_path / "t", "data.train": corpus_file, "data.eval": corpus_file, "quiet": "true"}
    assert main(["tokenizer", "--config", recipe.stem, *options(settings)]) == 0
    assert (tmp_path / "t" / "tokenizer.json").is_file()
