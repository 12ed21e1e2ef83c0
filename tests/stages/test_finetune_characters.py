"""An ELMo that reads words by their characters is fine-tuned, evaluated, asked, and travels without bertkit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bertkit.cli import main
from bertkit.features import extract_features, load_encoder, load_encoder_tokenizer
from bertkit.models import ElmoCharacterTokenizer, build_config, build_model, load_model
from bertkit.prediction import Predictor
from tests.tasks import made_up

TASKS = ("sequence_classification", "token_classification")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny ELMo with its tokenizer, as `bertkit import elmo` leaves it."""
    folder = tmp_path_factory.mktemp("characters")
    torch.manual_seed(0)
    config = build_config(
        "elmo", None, vocab_size=3, token_input="characters", max_characters=20, hidden_size=32, cell_size=48,
        num_hidden_layers=2, character_filters=[[1, 16], [3, 32]], bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    build_model(config, "AutoModel").save_pretrained(folder)
    ElmoCharacterTokenizer(max_characters=20).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run_of(checkpoint, tmp_path_factory):
    """Fine-tune for a task once; give its files' folder and the run's."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def run(task):
        if task not in done:
            parts = {part: made_up.write(task, folder, part, count) for part, count in (("train", 96), ("eval", 24))}
            data = [option for part, path in parts.items() for option in (f"--data.{part}", path)]
            settings = ["--training.max_steps", 40, "--training.learning_rate", 0.01, "--task.max_length", 16]
            options = ["--task.name", task, "--model.from", checkpoint, *data, *settings, "--output_dir", folder / task]
            assert main(["finetune", "--quiet", "true", *map(str, options)]) == 0
            done[task] = parts["eval"], folder / task
        return done[task]

    return run


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_learned_and_evaluate_says_what_the_run_said(run_of, task, capsys):
    file, run = run_of(task)
    results = json.loads((run / "results.json").read_text())
    metric = "accuracy" if task == "sequence_classification" else "f1"
    assert results["mean"]["eval"][metric] > 0.9 > 0.7 > results["guess"]["eval"][metric]
    capsys.readouterr()
    assert main(["evaluate", str(run / "best"), str(file), "--quiet", "true"]) == 0
    lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith(metric))
    assert float(lines[metric]) == pytest.approx(results["mean"]["eval"][metric], abs=1e-4)


def test_predictions_for_new_text_are_those_of_model_and_tokenizer_without_bertkit(run_of, tmp_path):
    sequence, token = (run_of(task)[1] / "best" for task in TASKS)
    text = "the lovely story was goood , never-seen words and all"
    program = f"""
import json, sys, torch
from transformers import AutoTokenizer, AutoModelForSequenceClassification, AutoModelForTokenClassification
for folder, auto_class in (
    ({str(sequence)!r}, AutoModelForSequenceClassification), ({str(token)!r}, AutoModelForTokenClassification)
):
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = auto_class.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        shares, numbers = model(**tokenizer({text!r}, return_tensors="pt")).logits.double().softmax(-1).max(-1)
    print(json.dumps([[model.config.id2label[n] for n in numbers.flatten().tolist()], shares.flatten().tolist()]))
assert not any(name.split(".")[0] == "bertkit" for name in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    of_text, of_words = map(json.loads, done.stdout.splitlines()[-2:])
    found = Predictor(sequence)([text])[0]
    assert [found["prediction"]] == of_text[0]
    assert [found["probabilities"][found["prediction"]]] == pytest.approx(of_text[1], abs=1e-5)
    found = Predictor(token)([text])[0]
    assert found["words"] == text.split()
    assert found["predictions"] == of_words[0][1:-1]  # between <S> and </S>
    assert found["probabilities"] == pytest.approx(of_words[1][1:-1], abs=1e-5)


def test_features_of_a_fine_tuned_checkpoint_are_its_learned_mix(run_of):
    best = run_of("sequence_classification")[1] / "best"
    tokenizer, texts = load_encoder_tokenizer(best), ["a lovely story", "never-seen words , all of them"]
    actual = extract_features(load_encoder(best), tokenizer, texts, layers="mix", quiet=True)
    head = load_model(best, "AutoModelForSequenceClassification").eval()
    assert head.scalar_mix.weights.std() > 0.01  # learned: it was 0
    shares = head.scalar_mix.weights.softmax(0) * head.scalar_mix.gamma
    for vector, text in zip(actual, texts, strict=True):
        with torch.no_grad():
            layers = head.model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            mixed = sum(share * layer[0] for share, layer in zip(shares, layers, strict=True))
        np.testing.assert_allclose(vector, mixed.mean(0).numpy(), atol=1e-5, rtol=1e-5)


def test_a_fresh_model_takes_its_shape_from_the_tokenizer(checkpoint, run_of, tmp_path):
    file, _ = run_of("sequence_classification")
    size = ["--model.hidden_size", "8", "--model.cell_size", "8", "--model.character_filters", "[[2,8]]"]
    options = ["--tokenizer", str(checkpoint), "--model.family", "elmo", *size, "--data.train", str(file)]
    length = ["--training.max_steps", "2", "--output_dir", str(tmp_path / "run"), "--quiet", "true"]
    assert main(["finetune", *options, *length]) == 0
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert (config["token_input"], config["max_characters"], config["pad_token_id"]) == ("characters", 20, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["finetune", "--model.family", "bert", "--data.train", "{file}"],
            "spells each word by 20 characters, but the model reads token ids; give another --tokenizer, or a model of the "
            "family elmo",
        ),
        (
            ["finetune", "--model.family", "elmo", "--model.max_characters", "30", "--data.train", "{file}"],
            "spells each word by 20 characters, but the model reads 30 characters a word",
        ),
        (
            ["pretrain", "--data.train", "{file}"],
            "spells words and gives no token ids: it is for `bertkit features`, `probe` and `finetune`",
        ),
    ],
)
def test_a_tokenizer_that_spells_is_refused_where_it_is_of_no_use(
    checkpoint, run_of, tmp_path, capsys, options, message
):
    file, _ = run_of("sequence_classification")
    verb, *options = [option.format(file=file) for option in options]
    common = ["--tokenizer", str(checkpoint), "--training.max_steps", "2", "--output_dir", str(tmp_path / "run")]
    capsys.readouterr()
    assert main([verb, *common, *options, "--quiet", "true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bertkit {verb}: ") and message in line
