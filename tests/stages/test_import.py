"""Others' checkpoints and vectors become checkpoints of bertkit, and every verb goes on from them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from bertkit.cli import main
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.hub.native import ARCHITECTURES
from bertkit.hub.native.loading import load_native
from bertkit.models import load_model
from bertkit.tokenization import load_tokenizer, save_tokenizer
from bertkit.training.manifest import find_damage
from tests.hub.native_models import native

NOTHING = {"training.learning_rate": 0.0, "training.weight_decay": 0.0, "training.max_steps": 1}
PLAIN = {"model.num_hidden_layers": None, "model.hidden_size": None, "model.num_attention_heads": None}
PLAIN |= {"model.intermediate_size": None, "model.family": None, "objective.block_size": 24}
ROADS = {
    "bert": ("AutoModelForMaskedLM", {"objective.next_sentence": "false"}),
    "gpt2": ("AutoModelForCausalLM", {"objective.name": "causal"}),
    "openai-gpt": ("AutoModelForCausalLM", {"objective.name": "causal"}),
    "marian": (
        "AutoModelForSeq2SeqLM",
        {
            **{"objective.name": "seq2seq", "data.eval_fraction": None, "objective.block_size": None},
            **{"objective.max_source_length": 24, "objective.max_target_length": 24},
        },
    ),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Write numbers in words and their successors, a pair a line."""
    words = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "so", "tu"]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{one} {other}\t{other} {one}\n" for one in words for other in words))
    return path


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory, corpus_file):
    """Save a tokenizer as GPT-2's is: byte-level pieces, one special token, nothing to pad with, nothing set around a text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train([str(corpus_file)], trainer)
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    folder = tmp_path_factory.mktemp("byte_level")
    PreTrainedTokenizerFast(tokenizer_object=backend, **ends).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(byte_level, tmp_path_factory):
    """Save a GPT-2 of transformers with its tokenizer."""
    folder = tmp_path_factory.mktemp("gpt2")
    size = len(AutoTokenizer.from_pretrained(byte_level))
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    native("gpt2", "AutoModelForCausalLM", vocab_size=size, **ends).save_pretrained(folder)
    AutoTokenizer.from_pretrained(byte_level).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_type", ROADS)
def test_pretraining_starts_with_all_weights_of_a_native_checkpoint_head_and_all(
    tmp_path, pretrain_options, tokenizer_folder, pairs, model_type
):
    head, road = ROADS[model_type]
    if model_type == "marian":
        road = {**road, "data.train": pairs, "data.eval": pairs}
    tokenizer = load_tokenizer(tokenizer_folder)
    ends = {} if model_type == "bert" else {"bos_token_id": 2, "eos_token_id": 3}
    model = native(model_type, head, vocab_size=len(tokenizer), **ends)
    model.save_pretrained(tmp_path / "native")
    save_tokenizer(tokenizer, tmp_path / "native")
    settings = {**PLAIN, **road, **NOTHING, "model.from": tmp_path / "native", "tokenizer": tmp_path / "native"}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 0
    expected = ARCHITECTURES[model_type].to_ours(model.state_dict(), head)
    trained = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert len(trained) > 20
    for name, tensor in trained.items():
        assert torch.equal(tensor, expected[name]), name


def test_a_gpt2_whose_tokenizer_has_nothing_to_pad_with_learns_on(tmp_path, pretrain_options, gpt2):
    settings = {**PLAIN, "objective.name": "causal", "model.from": gpt2, "tokenizer": gpt2, "training.max_steps": 30}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses and losses[-1] < 5.0 < np.log(300) < 5.8
    exported = [
        "export",
        str(tmp_path / "run" / "last"),
        "--to",
        "native",
        "--output",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main(exported) == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("Ba do.")["input_ids"][0] == 0


def test_a_gpt2_whose_tokenizer_has_nothing_to_pad_with_is_fine_tuned(tmp_path, gpt2, reviews):
    run = ["--output_dir", str(tmp_path / "run"), "--model.from", str(gpt2), "--task.max_length", "24", "--quiet"]
    data = ["--data.train", str(reviews["train"]), "--data.eval", str(reviews["eval"])]
    assert main(["finetune", *run, *data, "--training.max_steps", "2"]) == 0
    model = load_model(tmp_path / "run" / "last", "AutoModelForSequenceClassification")
    assert model.config.pad_token_id is None and model.config.pooling == "last"


def test_importing_keeps_tokenizer_weights_and_settings(tmp_path, capsys, gpt2):
    assert main(["import", "native", str(gpt2), "--output", str(tmp_path / "ours")]) == 0
    said = capsys.readouterr().out
    assert (
        "AutoModel and AutoTokenizer load it; largest difference of its outputs from transformers' GPT2LMHeadModel"
        in said
    )
    assert find_damage(tmp_path / "ours") is None
    assert "family `gpt`" in (tmp_path / "ours" / "README.md").read_text()
    ours, expected = load_model(tmp_path / "ours", "AutoModelForCausalLM"), load_native(gpt2, "AutoModelForCausalLM")
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in ours.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "Ba do, naïve 한국어!"
    assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(gpt2)(text)["input_ids"]
    assert tokenizer.pad_token == "<|endoftext|>"


def test_a_fine_tuned_native_model_comes_with_its_head_or_without(tmp_path, tokenizer_folder):
    size = len(load_tokenizer(tokenizer_folder))
    model = native("bert", "AutoModelForTokenClassification", vocab_size=size)
    model.save_pretrained(tmp_path / "native")
    save_tokenizer(load_tokenizer(tokenizer_folder), tmp_path / "native")
    assert main(["import", "native", f"{tmp_path}/native", "--output", f"{tmp_path}/head", "--quiet"]) == 0
    loaded = load_model(tmp_path / "head", "AutoModelForTokenClassification")
    assert torch.equal(loaded.score.weight, model.classifier.weight)
    assert loaded.config.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    base = ["--auto_class", "AutoModel", "--output", f"{tmp_path}/base", "--quiet"]
    assert main(["import", "native", f"{tmp_path}/native", *base]) == 0
    assert json.loads((tmp_path / "base" / "config.json").read_text())["architectures"] == ["BertEncoderModel"]


def test_a_sentencepiece_tokenizer_is_refused_in_a_line_that_says_what_would_do(tmp_path, capsys):
    native("marian", "AutoModelForSeq2SeqLM").save_pretrained(tmp_path / "native")
    (tmp_path / "native" / "vocab.json").write_text(json.dumps({"<pad>": 0, "</s>": 1, "<unk>": 2}))
    (tmp_path / "native" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    for name in ("source.spm", "target.spm"):
        (tmp_path / "native" / name).write_bytes(b"")
    capsys.readouterr()
    command = ["import", "native", f"{tmp_path}/native", "--output", f"{tmp_path}/ours", "--quiet"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--tokenizer none for the model alone" in error
    assert not (tmp_path / "ours").exists()
    assert main([*command, "--tokenizer", "none"]) == 0
    assert load_model(tmp_path / "ours", "AutoModelForSeq2SeqLM").config.vocab_size == 61
    assert not (tmp_path / "ours" / "tokenizer_config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nativ", "x"], "unknown format 'nativ'; choose from native, elmo, word2vec, glove"),
        (["elmo", "options.json"], "takes AllenAI's options.json and its weights.hdf5, and was given 1: options.json"),
        (["native", "/nowhere/at/all"], "there is no checkpoint folder /nowhere/at/all"),
        (["glove", "/nowhere/v.txt", "--tokenizer", "none"], "--tokenizer is for bertkit import native; leave it out"),
        (["glove", "/nowhere/v.txt"], "/nowhere/v.txt"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    assert main(["import", *arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_head_that_bertkit_has_not_can_be_left_out(tmp_path, capsys):
    native("bert", "AutoModelForMaskedLM").save_pretrained(tmp_path / "native")
    config = tmp_path / "native" / "config.json"
    config.write_text(config.read_text().replace("BertForMaskedLM", "BertForSomethingElse"))
    capsys.readouterr()
    command = [
        "import",
        "native",
        f"{tmp_path}/native",
        "--output",
        f"{tmp_path}/ours",
        "--tokenizer",
        "none",
        "--quiet",
    ]
    assert main(command) == 2
    assert (
        "holds a BertForSomethingElse, which bertkit has no head for; give --auto_class AutoModel"
        in capsys.readouterr().err
    )
    assert main([*command, "--auto_class", "AutoModel"]) == 0


@pytest.mark.parametrize(("form", "name"), [("word2vec", "v.bin"), ("glove", "v.txt.gz")])
def test_vectors_become_a_checkpoint_that_plain_tokenizers_feed(tmp_path, capsys, form, name):
    words = ["the", ",", "don't", "new_york", "café", "[UNK]"]
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(6, 5)))
    vectors.save(tmp_path / name, "word2vec_binary" if form == "word2vec" else "glove")
    assert main(["import", form, str(tmp_path / name), "--output", str(tmp_path / "ours")]) == 0
    assert "4 of 6 words are ones that its tokenizer cuts a text into" in capsys.readouterr().out
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path / "ours"), AutoModel.from_pretrained(tmp_path / "ours")
    batch = tokenizer("The café, don't unheard", return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist()) == [
        *("[CLS]", "the", "café", ",", "don't", "[UNK]")
    ]
    states = model(**batch).last_hidden_state[0, 1:].detach().numpy()
    expected = [vectors[word] for word in ("the", "café", ",", "don't", "[UNK]")]
    np.testing.assert_allclose(states, expected, rtol=1e-6)
    place = tokenizer.convert_tokens_to_ids("new_york")
    np.testing.assert_allclose(model.get_input_embeddings().weight[place].detach(), vectors["new_york"], rtol=1e-6)
