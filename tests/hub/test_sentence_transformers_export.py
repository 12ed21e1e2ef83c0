"""Checkpoints written for sentence-transformers: its vectors are those of `bertkit features`, for every family."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from bertkit import cli
from bertkit.features import extract_features, load_encoder, load_encoder_tokenizer
from bertkit.models import FAMILIES
from bertkit.models.tokenization_elmo import ElmoCharacterTokenizer
from bertkit.stages.formats import export_sentence_transformers
from bertkit.tokenization import TokenizerArguments, frame_texts, train_tokenizer
from tests.features.made_up import FAMILIES_OF_ONE_TEXT, ragged_texts
from tests.hub.conftest import WITHOUT_BERTKIT
from tests.hub.exported_models import small_model, written

sentence_transformers = pytest.importorskip("sentence_transformers")

# Family, head and settings of a checkpoint; what transformers' class for it is, None where it has none.
CHECKPOINTS = {
    "bert": ("bert", "AutoModelForMaskedLM", {}, "BertModel"),
    "bert that labels texts": ("bert", "AutoModelForSequenceClassification", {"pooling": "mean"}, "BertModel"),
    "gpt": ("gpt", "AutoModelForCausalLM", {"norm_first": True}, "GPT2Model"),
    "gpt, norms last": ("gpt", "AutoModel", {"norm_first": False, "intermediate_size": 64}, "OpenAIGPTModel"),
    "gpt, its own way": ("gpt", "AutoModel", {"norm_first": False, "intermediate_size": 24}, None),
    "rnn": ("rnn", "AutoModelForCausalLM", {"num_hidden_layers": 2}, None),
    "elmo": ("elmo", "AutoModelForTokenClassification", {"num_hidden_layers": 2}, None),
    "elmo that spells": ("elmo", "AutoModelForPreTraining", {"token_input": "characters"}, None),
    "static": ("static", "AutoModelForSequenceClassification", {}, None),
}
assert {family for family, *_ in CHECKPOINTS.values()} == set(FAMILIES_OF_ONE_TEXT)
TEXTS = [
    text for text in ragged_texts(12, longest=90, seed=3) if text
]  # the longest have more tokens than a bert takes
VECTORS_ALONE = """
import json
import numpy, sentence_transformers

folders, texts = json.loads(sys.argv[1])
for folder, flag in folders:
    try:
        model = sentence_transformers.SentenceTransformer(folder, device="cpu", local_files_only=True)
    except ValueError as error:
        assert flag and "custom code" in str(error), error
        model = sentence_transformers.SentenceTransformer(folder, device="cpu", local_files_only=True, trust_remote_code=True)
    else:
        assert not flag, folder
    assert type(model[0].model).__module__.startswith("transformers_modules." if flag else "transformers.models.")
    numpy.save(f"{folder}/vectors.npy", model.encode(texts, batch_size=3))
print("bertkit" in sys.modules)
"""


@pytest.fixture(scope="module")
def tokenizer():
    arguments = TokenizerArguments(vocab_size=200, min_frequency=1)
    return train_tokenizer([ragged_texts(20, seed=1)], arguments, quiet=True)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, tokenizer):
    """Return the folders of the checkpoints by name."""
    folders = {}
    for name, (family, head, settings, _) in CHECKPOINTS.items():
        reader = tokenizer
        if name == "elmo that spells":
            reader = ElmoCharacterTokenizer(max_characters=12)
        elif family == "gpt":
            goes_on = head == "AutoModelForCausalLM"  # after a beginning, which is padded on the left
            reader = frame_texts(tokenizer, begin_token_id=2, end_token_id=None if goes_on else 3)
            assert reader.padding_side == ("left" if goes_on else "right")
        model = small_model(family, head, vocab_size=len(tokenizer), **settings)
        folders[name] = written(model, tmp_path_factory.mktemp("checkpoint"), reader)
    return folders


def command(*arguments):
    return cli.main(["export", *map(str, arguments), "--to", "sentence-transformers"])


def features(checkpoint, texts, pooling="mean"):
    return extract_features(
        load_encoder(checkpoint), load_encoder_tokenizer(checkpoint), texts, pooling=pooling, quiet=True
    )


def encoded(folder, texts):
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(texts, batch_size=3)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_vectors_are_those_of_bertkit_features(tmp_path, checkpoints, name, pooling):
    assert command(checkpoints[name], "--pooling", pooling, "--quiet", "true", "--output", tmp_path / "out") == 0
    expected = features(checkpoints[name], TEXTS, pooling)
    if pooling == "mean":  # the first token of a causal model is that of every text
        assert len({tuple(vector.round(3)) for vector in expected}) == len(TEXTS)
    np.testing.assert_allclose(encoded(tmp_path / "out", TEXTS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_they_load_where_bertkit_is_not_natively_without_a_flag(tmp_path, checkpoints):
    folders = []
    for number, (name, (*_, native)) in enumerate(CHECKPOINTS.items()):
        assert command(checkpoints[name], "--quiet", "true", "--output", tmp_path / str(number)) == 0
        folders.append((str(tmp_path / str(number)), native is None))
        settings = json.loads((tmp_path / str(number) / "config.json").read_text())
        assert (settings["architectures"] == [native]) == (native is not None) == ("auto_map" not in settings)
    script = [sys.executable, "-I", "-c", WITHOUT_BERTKIT + VECTORS_ALONE, json.dumps([folders, TEXTS])]
    environment = {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0 and process.stdout == "False\n", process.stderr
    for name, (folder, _) in zip(CHECKPOINTS, folders, strict=True):
        expected = features(checkpoints[name], TEXTS)
        np.testing.assert_allclose(np.load(f"{folder}/vectors.npy"), expected, atol=1e-5, rtol=1e-5)


def test_what_is_said_is_what_was_written(tmp_path, checkpoints, capsys):
    assert command(checkpoints["bert"], "--normalize", "true", "--output", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "BertModel with pooling mean, which SentenceTransformer loads without bertkit" in said
    assert float(said.rsplit(maxsplit=1)[-1]) < 1e-5
    vectors, expected = encoded(tmp_path / "out", TEXTS), features(checkpoints["bert"], TEXTS)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    modules = [
        module["type"].rsplit(".", 1)[-1] for module in json.loads((tmp_path / "out" / "modules.json").read_text())
    ]
    assert modules == ["Transformer", "Pooling", "Normalize"]
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    assert model.max_seq_length == 64
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: sentence-transformers\npipeline_tag: sentence-similarity\n" in card
    written_text = b"".join(
        path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.suffix in (".md", ".json")
    )
    assert str(tmp_path).encode() not in written_text and str(checkpoints["bert"]).encode() not in written_text


def test_half_precision_is_written_in_single_which_features_are_computed_in(tmp_path, tokenizer):
    model = small_model("rnn", "AutoModel", vocab_size=len(tokenizer)).bfloat16()
    written(model, tmp_path / "half", tokenizer)
    assert command(tmp_path / "half", "--quiet", "true", "--output", tmp_path / "out") == 0
    np.testing.assert_allclose(
        encoded(tmp_path / "out", TEXTS), features(tmp_path / "half", TEXTS), atol=1e-5, rtol=1e-5
    )


def test_nothing_is_said_of_weights_that_are_left_out_and_what_is_written_is_the_same_each_time(
    tmp_path, checkpoints, capfd
):
    capfd.readouterr()
    for name in ("one", "other"):
        assert command(checkpoints["bert that labels texts"], "--quiet", "true", "--output", tmp_path / name) == 0
    said = capfd.readouterr()
    assert not said.out and "REPORT" not in said.err
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


def refused(tmp_path, capsys, checkpoint, *arguments):
    capsys.readouterr()
    assert command(checkpoint, "--output", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
    return error


def test_a_pooling_that_sentence_transformers_has_not_is_refused(tmp_path, capsys, checkpoints):
    assert "'concat'" in refused(tmp_path, capsys, checkpoints["static"], "--pooling", "concat")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in FAMILIES_OF_ONE_TEXT])
def test_what_translates_is_refused(tmp_path, capsys, tokenizer, family):
    model = small_model(family, "AutoModelForSeq2SeqLM", vocab_size=len(tokenizer), decoder_start_token_id=1)
    assert "translates and has no features" in refused(tmp_path, capsys, written(model, tmp_path / "ours", tokenizer))


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path, capsys):
    assert "has no tokenizer" in refused(
        tmp_path, capsys, written(small_model("static", "AutoModel"), tmp_path / "ours")
    )


def test_other_vectors_are_refused_and_leave_nothing(tmp_path, capsys, checkpoints, monkeypatch):
    load = export_sentence_transformers._encoder

    def off_by_a_little(*arguments):
        model = load(*arguments)
        with torch.no_grad():
            model.word_embeddings.weight += 1e-3
        return model

    monkeypatch.setattr(export_sentence_transformers, "_encoder", off_by_a_little)
    assert "differ by up to 1.0e-03" in refused(tmp_path, capsys, checkpoints["static"])
