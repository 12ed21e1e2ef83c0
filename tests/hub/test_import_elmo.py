"""AllenAI's ELMo becomes a checkpoint that gives AllenAI's vectors, also where bertkit is not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from bertkit import cli
from bertkit.features import extract_features, extract_word_features, load_encoder, load_encoder_tokenizer
from bertkit.hub.allenai_elmo import load_allenai_elmo
from bertkit.models import FAMILIES, ElmoCharacterTokenizer, build_config, build_model, load_model
from bertkit.tokenization import load_tokenizer, save_tokenizer
from bertkit.training.manifest import find_damage
from examples.golden_elmo import largest_differences

DATA = os.environ.get("BERTKIT_DATA")
FIXTURE = Path(DATA or ".") / "elmo_fixture"
needs_fixture = pytest.mark.skipif(DATA is None, reason="BERTKIT_DATA is not set")

OPTIONS = {
    "lstm": {
        "dim": 7,
        "projection_dim": 5,
        "n_layers": 2,
        "cell_clip": 3,
        "proj_clip": 2,
        "use_skip_connections": True,
    },
    "char_cnn": {
        "embedding": {"dim": 4},
        "filters": [[1, 3], [3, 6]],
        "n_highway": 1,
        "n_characters": 261,
        "max_characters_per_token": 20,
        "activation": "tanh",
    },
}


def made_up_arrays():
    """Arrays of the shapes that OPTIONS describe, under AllenAI's names."""
    generator = np.random.default_rng(0)
    shapes = {
        "char_embed": (261, 4),
        "CNN/W_cnn_0": (1, 1, 4, 3),
        "CNN/b_cnn_0": (3,),
        "CNN/W_cnn_1": (1, 3, 4, 6),
        "CNN/b_cnn_1": (6,),
        "CNN_high_0/W_carry": (9, 9),
        "CNN_high_0/b_carry": (9,),
        "CNN_high_0/W_transform": (9, 9),
        "CNN_high_0/b_transform": (9,),
        "CNN_proj/W_proj": (9, 5),
        "CNN_proj/b_proj": (5,),
    }
    for direction in (0, 1):
        for layer in (0, 1):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {f"{cell}/W_0": (10, 28), f"{cell}/B": (28,), f"{cell}/W_P_0": (7, 5)}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_files(folder, options=OPTIONS, arrays=None):
    """Write the two files; return their paths as the command line takes them."""
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, array in (arrays or made_up_arrays()).items():
            file[name] = array
    return [str(folder / "options.json"), str(folder / "weights.hdf5")]


def by_tensorflows_equations(arrays, words):
    """The layers of a sentence as bilm-tf computes them, written from its description in numpy: 3 of (tokens, 10)."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    vectors = []
    for word in words:
        inside = {"<S>": [256], "</S>": [257]}.get(word, list(word.encode())[:18])
        ids = [258, *inside, 259] + [260] * (18 - len(inside))
        embedded, pooled = arrays["char_embed"][ids], []
        for index, width in enumerate((1, 3)):
            kernel = arrays[f"CNN/W_cnn_{index}"][0]
            windows = [np.einsum("wd,wdf->f", embedded[i : i + width], kernel) for i in range(20 - width + 1)]
            pooled.append(np.tanh(np.max(windows, axis=0) + arrays[f"CNN/b_cnn_{index}"]))
        x = np.concatenate(pooled)
        carry = sigmoid(x @ arrays["CNN_high_0/W_carry"] + arrays["CNN_high_0/b_carry"])
        x = carry * np.tanh(x @ arrays["CNN_high_0/W_transform"] + arrays["CNN_high_0/b_transform"]) + (1 - carry) * x
        vectors.append(x @ arrays["CNN_proj/W_proj"] + arrays["CNN_proj/b_proj"])
    directions = []
    for direction in (0, 1):
        layers = [np.stack(vectors)]
        for layer in (0, 1):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            h, c, outputs = np.zeros(5), np.zeros(7), [np.zeros(5)] * len(words)
            for t in range(len(words)) if direction == 0 else reversed(range(len(words))):
                gates = np.concatenate([layers[-1][t], h]) @ arrays[f"{cell}/W_0"] + arrays[f"{cell}/B"]
                i, j, f, o = np.split(gates, 4)
                c = np.clip(sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j), -3, 3)
                h = np.clip((sigmoid(o) * np.tanh(c)) @ arrays[f"{cell}/W_P_0"], -2, 2)
                outputs[t] = h + (layers[-1][t] if layer else 0)
            layers.append(np.stack(outputs))
        directions.append(layers)
    return [np.concatenate(pair, axis=1) for pair in zip(*directions, strict=True)]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A checkpoint imported from made-up weights."""
    folder = tmp_path_factory.mktemp("made-up")
    assert cli.main(["import", "elmo", *write_files(folder), "--output", str(folder / "elmo"), "--quiet", "true"]) == 0
    return folder / "elmo"


@needs_fixture
def test_allenais_weights_give_allenais_embeddings(tmp_path):
    files = [str(FIXTURE / "options.json"), str(FIXTURE / "lm_weights.hdf5")]
    assert cli.main(["import", "elmo", *files, "--output", str(tmp_path / "elmo")]) == 0
    with_state, without_state = largest_differences(tmp_path / "elmo", FIXTURE)
    assert with_state < 1e-6 < 0.1 < without_state


def test_the_checkpoint_is_whole_by_its_own_manifest(made_up):
    assert find_damage(made_up) is None
    assert {path.name for path in made_up.iterdir()} >= {"model.safetensors", "config.json", "README.md"}


def test_made_up_weights_give_what_tensorflows_equations_give(made_up):
    model, tokenizer = AutoModel.from_pretrained(made_up), AutoTokenizer.from_pretrained(made_up)
    sentences = ["An exceptionally-long-word , né 漢字 .", "Two words"]
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    layers = model(**inputs, output_hidden_states=True).hidden_states
    assert layers[-1].abs().max() > 2.5  # clipped at 2, and then the residual
    for row, sentence in enumerate(sentences):
        words = ["<S>", *sentence.split(" "), "</S>"]
        for layer, expected in zip(layers, by_tensorflows_equations(made_up_arrays(), words), strict=True):
            actual = layer[row, : len(words)].detach()
            torch.testing.assert_close(actual, torch.from_numpy(expected).float(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_the_tokenizer_spells_pads_and_reads_back(made_up, padding_side):
    tokenizer = AutoTokenizer.from_pretrained(made_up, padding_side=padding_side)
    assert type(tokenizer) is ElmoCharacterTokenizer
    texts = ["né", "new  words"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape == (2, 4, 20)
    real = [[0, 1, 1, 1] if padding_side == "left" else [1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["attention_mask"].tolist() == real
    assert (batch["input_ids"][0, 0 if padding_side == "left" else 3] == 260).all()
    assert tokenizer.batch_decode(batch["input_ids"].tolist(), skip_special_tokens=True) == ["né", "new words"]
    given = tokenizer([["né"], ["new", "words"]], is_split_into_words=True, padding=True, return_tensors="pt")
    assert torch.equal(given["input_ids"], batch["input_ids"])
    single = tokenizer("né", add_special_tokens=False)
    assert single == {"input_ids": [[258, 110, 195, 169, 259] + [260] * 15], "attention_mask": [1]}
    assert tokenizer(texts[1], return_tensors="pt")["input_ids"].shape == (1, 4, 20)
    features = [tokenizer(text) for text in texts]  # as a collator gets them
    assert torch.equal(tokenizer.pad(features, return_tensors="pt")["input_ids"], batch["input_ids"])
    cut = tokenizer("one two three", truncation=True, max_length=4)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(cut) == ["<S>", "one", "two", "</S>"]


def test_the_checkpoint_loads_under_every_head_and_without_bertkit(made_up, tmp_path):
    inputs = ElmoCharacterTokenizer(max_characters=20)(["Some words"], return_tensors="pt")
    expected = load_model(made_up, "AutoModel")(**inputs).last_hidden_state
    pretraining = load_model(made_up, "AutoModelForPreTraining")  # its output layer is new
    torch.testing.assert_close(pretraining.model(**inputs).last_hidden_state, expected)
    program = f"""
import sys
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(made_up)!r}, trust_remote_code=True)
inputs = tokenizer(["Some words"], return_tensors="pt")
model = AutoModel.from_pretrained({str(made_up)!r}, trust_remote_code=True)
tokenizer.save_pretrained("again")
model.save_pretrained("again")
again = AutoTokenizer.from_pretrained("again", trust_remote_code=True)
assert again(["Some words"])["input_ids"] == inputs["input_ids"].tolist()
assert not [name for name in sys.modules if name.partition(".")[0] == "bertkit"]
print(model(**inputs).last_hidden_state.flatten().tolist())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    actual = torch.tensor(json.loads(run.stdout.splitlines()[-1])).view(expected.shape)
    torch.testing.assert_close(actual, expected)
    copied = {path.name for path in made_up.glob("*.py")}
    assert copied == {path.name for path in (tmp_path / "again").glob("*.py")} and "tokenization_elmo.py" in copied


@needs_fixture
def test_features_of_allenais_weights_are_the_models_layers_and_their_mix(tmp_path):
    files = [str(FIXTURE / "options.json"), str(FIXTURE / "lm_weights.hdf5")]
    assert cli.main(["import", "elmo", *files, "--output", str(tmp_path / "elmo"), "--quiet", "true"]) == 0
    sentences = json.loads((FIXTURE / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))[0]
    (tmp_path / "in.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    model, tokenizer = AutoModel.from_pretrained(tmp_path / "elmo"), AutoTokenizer.from_pretrained(tmp_path / "elmo")
    with torch.inference_mode():
        states = [
            [
                layer[0]
                for layer in model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            ]
            for text in sentences
        ]
    layers = {str(layer): [of_text[layer] for of_text in states] for layer in range(3)}
    layers["mix"] = [
        torch.stack(of_text).mean(0) for of_text in states
    ]  # of equal parts until a task has learned others
    for name, expected in layers.items():
        output = tmp_path / f"{name}.npz"
        options = ["--layers", f"[{name}]", "--level", "word", "--output", str(output), "--quiet", "true"]
        assert cli.main(["features", str(tmp_path / "elmo"), f"{tmp_path}/in.txt", *options]) == 0
        words = torch.cat([of_text[1:-1] for of_text in expected]).numpy()
        np.testing.assert_allclose(np.load(output)["features"], words, atol=1e-5, rtol=1e-5)


def test_features_of_pairs_of_spelt_texts_read_both(made_up):
    model, tokenizer = load_encoder(made_up), load_encoder_tokenizer(made_up)
    pairs = [("An apple", "is red ."), ("An apple", ""), ("one two three four five", "six seven")]
    texts, seconds = zip(*pairs, strict=True)
    actual = extract_features(model, tokenizer, texts, text_pairs=seconds, max_length=8, quiet=True)
    for vector, (first, second) in zip(actual, [*pairs[:2], ("one two three", "six seven")], strict=True):
        states = model(**tokenizer([first], [second], return_tensors="pt")).last_hidden_state[0].detach().numpy()
        np.testing.assert_allclose(vector, states.mean(0), atol=1e-5, rtol=1e-5)


def test_features_of_spelt_words_are_the_models_states(made_up, tmp_path):
    model, tokenizer = load_encoder(made_up), load_encoder_tokenizer(made_up)
    texts = ["An exceptionally-long-word , né 漢字 .", "", "Two words", "one"]
    states = [model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True) for text in texts]
    last = [output.hidden_states[-1][0].detach().numpy() for output in states]
    of_texts = extract_features(model, tokenizer, texts, quiet=True)
    np.testing.assert_allclose(of_texts, np.stack([array.mean(0) for array in last]), atol=1e-5, rtol=1e-5)
    of_words = extract_word_features(model, tokenizer, texts, quiet=True)
    assert of_words.words == [text.split() for text in texts]
    np.testing.assert_allclose(of_words.vectors, np.concatenate([array[1:-1] for array in last]), atol=1e-5, rtol=1e-5)
    cut = extract_word_features(model, tokenizer, texts, words="spaces", max_length=4, quiet=True)
    assert (
        cut.words == of_words.words
        and np.isnan(cut.vectors).any(axis=1).tolist() == [False] * 2 + [True] * 4 + [False] * 3
    )
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    assert cli.main(["features", str(made_up), f"{tmp_path}/in.txt", "--output", f"{tmp_path}/o.npz", "--quiet"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["features"], of_texts)


def test_an_elmo_trained_on_wordpiece_keeps_its_wordpiece_tokenizer(tmp_path):
    tokenizer = load_tokenizer(Path(__file__).parents[2] / "tokenizer" / "wordpiece-wikipedia-4k")
    config = build_config(
        "elmo", "tiny", vocab_size=len(tokenizer), token_input="characters", bos_token_id=tokenizer.cls_token_id
    )
    model = build_model(config, "AutoModelForPreTraining").eval()
    model.read_vocabulary(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    model.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    inputs = loaded("Unheard-of words", return_tensors="pt")
    again = FAMILIES["elmo"].auto_classes["AutoModel"].from_pretrained(tmp_path)
    expected = model.model(**inputs).last_hidden_state
    torch.testing.assert_close(again(**inputs).last_hidden_state, expected)
    features = extract_features(
        load_encoder(tmp_path), tokenizer, ["Unheard-of words", "more"], pooling="mean", quiet=True
    )
    torch.testing.assert_close(torch.from_numpy(features[0]), expected[0].mean(dim=0).detach())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("no options", "there is no options file"),
        ("no weights", "there is no weights file"),
        ("options of another kind", r"has no option 'lstm', so it is no ELMo of AllenAI that reads characters"),
        ("damaged options", r"is not an options file of AllenAI's ELMo: Expecting"),
        ("weights of another kind", "is not an hdf5 file"),
        ("a missing array", "has no CNN_proj/W_proj, which its options file asks for"),
        ("another shape", r"lstm.weight_ih would be \(2, 28, 5\) and must be \(2, 32, 5\)"),
        ("an unknown activation", "unknown character_act 'softsign2'"),
        ("a folder that is there", "is there already; give a new folder as --output"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path, capsys, change, says):
    options, arrays, output = json.loads(json.dumps(OPTIONS)), made_up_arrays(), tmp_path / "elmo"
    if change == "options of another kind":
        del options["lstm"]
    elif change == "another shape":
        options["lstm"]["dim"] = 8
    elif change == "an unknown activation":
        options["char_cnn"]["activation"] = "softsign2"
    elif change == "a missing array":
        del arrays["CNN_proj/W_proj"]
    files = write_files(tmp_path, options, arrays)
    if change == "no options":
        files[0] = str(tmp_path / "nowhere.json")
    elif change == "no weights":
        files[1] = str(tmp_path / "nowhere.hdf5")
    elif change == "damaged options":
        Path(files[0]).write_text("{")
    elif change == "weights of another kind":
        Path(files[1]).write_text("weights")
    elif change == "a folder that is there":
        output.mkdir()
    assert cli.main(["import", "elmo", *files, "--output", str(output)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(says, lines[0]), lines
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == (["elmo"] if output.exists() else [])


def test_loading_draws_no_random_number_that_shows(tmp_path):
    first, second = (load_allenai_elmo(*write_files(tmp_path))[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
