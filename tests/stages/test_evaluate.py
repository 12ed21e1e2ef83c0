import json
import math
import random
import shutil
import sys
from importlib.metadata import packages_distributions

import pytest
import torch

from bertkit.cli import main
from bertkit.config import RECIPES
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.token_store import TokenStore
from bertkit.models import load_model
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.masked import MaskedArguments, MaskedObjective
from bertkit.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def classifier(checkpoint, reviews, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    data = [f"--data.{part}={path}" for part, path in reviews.items()]
    training = ["--training.max_steps=20", "--training.learning_rate=0.01", "--task.max_length=16"]
    assert (
        main(["finetune", f"--output_dir={folder}", f"--model.from={checkpoint}", *data, *training, "--quiet=true"])
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path, generator = tmp_path_factory.mktemp("corpus") / "corpus.txt", random.Random(1)
    words = ["good", "great", "bad", "awful", "film", "actor", "story", "scene", "the", "a", "was", "is"]
    documents = [[" ".join(generator.choices(words, k=8)) + "." for _ in range(6)] for _ in range(12)]
    path.write_text("\n\n".join("\n".join(document) for document in documents) + "\n")
    return path


def table(output):
    """Read the numbers of every line that has some, by the words of the line."""
    found = {}
    for line in output.splitlines():
        words = line.split()
        name = " ".join(word for word in words if not word.replace(".", "").lstrip("-").isdigit())
        numbers = [float(word) for word in words if word.replace(".", "").lstrip("-").isdigit()]
        if numbers and name not in found:
            found[name] = numbers
    return found


def test_a_classifier_gets_the_metrics_and_predictions_of_its_own_training(classifier, reviews, tmp_path, capsys):
    output = tmp_path / "predictions.jsonl"
    assert main(["evaluate", str(classifier / "best"), str(reviews["test"]), "--output", str(output)]) == 0
    results = json.loads((classifier / "results.json").read_text())
    printed = table(capsys.readouterr().out)
    for name, value in results["runs"][0]["test"].items():
        assert printed[name.replace("_", " ")][0] == pytest.approx(value, abs=5e-5)
    assert output.read_text() == (classifier / "predictions_test.jsonl").read_text()


def test_the_batch_size_does_not_change_the_metrics(classifier, reviews, capsys):
    tables = []
    for size in ("1", "7"):
        assert main(["evaluate", str(classifier / "best"), str(reviews["test"]), "--batch_size", size]) == 0
        tables.append(table(capsys.readouterr().out))
    assert tables[0] == tables[1]


def test_columns_come_from_the_command_line_where_they_differ_from_training(classifier, tmp_path, capsys):
    path = tmp_path / "reviews.csv"
    path.write_text("review,mark\na good film,pos\na bad film,neg\n")
    options = ["--data.text_column", "review", "--data.label_column", "mark"]
    assert main(["evaluate", str(classifier / "best"), str(path), *options]) == 0
    assert capsys.readouterr().out.startswith("2 texts of")


@pytest.mark.parametrize("next_sentence", [True, False])
def test_a_pretraining_checkpoint_gets_the_losses_of_the_fixed_masks(
    checkpoint, corpus, tmp_path, capsys, next_sentence
):
    folder = checkpoint
    if not next_sentence:
        folder = tmp_path / "masked"
        load_model(checkpoint, "AutoModelForMaskedLM").save_pretrained(folder)
        load_tokenizer(checkpoint).save_pretrained(folder)
    options = ["--max_length", "32", "--batch_size", "4", "--data.sentences", "line"]
    assert main(["evaluate", str(folder), str(corpus), *options]) == 0
    printed = table(capsys.readouterr().out)

    tokenizer = load_tokenizer(folder)
    arguments = DataArguments(train=str(corpus), sentences="line")
    store = TokenStore.build(load_documents(str(corpus), arguments), tokenizer, arguments, quiet=True)
    objective = MaskedObjective(MaskedArguments(block_size=32, next_sentence=next_sentence), tokenizer)
    batches = ObjectiveBatches(objective, store, batch_size=64, training=False)
    model = load_model(folder, objective.auto_class).eval()
    batch = {name: torch.from_numpy(array) for name, array in batches.batch(0, len(batches), 1.0).items()}
    with torch.no_grad():
        outputs = model(**batch)
    loss = outputs.mlm_loss if next_sentence else outputs.loss
    name = "mlm loss" if next_sentence else "loss"
    assert printed[name][0] == pytest.approx(loss.item(), abs=1e-4)
    assert printed["perplexity of masked tokens"][0] == pytest.approx(math.exp(loss.item()), rel=1e-4)
    assert printed[f"unigram floor of the {name}"][0] == pytest.approx(store.unigram_entropy(), abs=1e-4)
    assert ("next sentence accuracy" in printed) == next_sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.documents", "line"], "--data.documents says nothing to this kind of checkpoint"),
        (["--max_length", "65"], "65 tokens at once are more than the model's 64 positions"),
        (["--batch_size", "0"], "--batch_size is 0"),
        (["--data.text_colum", "x"], "did you mean --data.text_column?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(classifier, reviews, capsys, options, message):
    assert main(["evaluate", str(classifier / "best"), str(reviews["test"]), *options]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_predictions_are_not_asked_of_a_language_model(checkpoint, corpus, tmp_path, capsys):
    assert main(["evaluate", str(checkpoint), str(corpus), "--output", str(tmp_path / "p.jsonl")]) == 2
    assert "--output says nothing to the measure loss" in capsys.readouterr().err


def test_an_encoder_without_a_head_cannot_be_evaluated(checkpoint, corpus, tmp_path, capsys):
    load_model(checkpoint, "AutoModel").save_pretrained(tmp_path / "encoder")
    assert main(["evaluate", str(tmp_path / "encoder"), str(corpus)]) == 2
    assert "neither a language model nor a head for a task" in capsys.readouterr().err


def test_no_recipe_stands_in_front_of_a_library_that_it_needs():
    """A script's own folder comes first where Python looks for modules."""
    scripts = {path.stem for path in RECIPES[0].glob("*.py")}
    assert scripts and not scripts & {*packages_distributions(), *sys.stdlib_module_names}


def test_a_text_that_asks_no_next_sentence_question_is_evaluated_on_masked_tokens(checkpoint, tmp_path, capsys):
    path = tmp_path / "one.txt"
    path.write_text("The film was great. The actor was awful.\nA good story.\n")
    assert main(["evaluate", str(checkpoint), str(path), "--max_length", "64", "--quiet", "true"]) == 0
    shown = capsys.readouterr().out
    assert "next sentences are not evaluated" in shown and "next sentence loss" not in shown
    assert table(shown)["loss"][0] > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x10", "the weights in"),
        ("config.json", b"{", "config.json is damaged"),
        ("recipe.yaml", b"data: 3", "recipe.yaml is damaged: data is 3"),
    ],
)
def test_a_damaged_file_of_a_checkpoint_is_named_in_one_line(
    checkpoint, reviews, tmp_path, capsys, name, content, message
):
    shutil.copytree(checkpoint, tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_bytes(content)
    assert main(["evaluate", str(tmp_path / "damaged"), str(reviews["test"]), "--quiet", "true"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
