"""The table of families: configs from words, models from configs, and errors that name what would do."""

import pytest
import torch
import transformers
from transformers import AutoConfig, BertConfig

from bertkit.models import (
    AUTO_CLASSES,
    FAMILIES,
    auto_map,
    build_config,
    build_model,
    describe_config,
    load_model,
)

every_family = pytest.mark.parametrize("family", FAMILIES)
every_preset = pytest.mark.parametrize(("family", "preset"), [(f, p) for f, m in FAMILIES.items() for p in m.presets])


@every_preset
def test_every_preset_builds_its_config(family, preset):
    config = build_config(family, preset, vocab_size=99)
    assert config.vocab_size == 99
    assert {name: getattr(config, name) for name in FAMILIES[family].presets[preset]} == FAMILIES[family].presets[
        preset
    ]


@every_family
def test_the_default_preset_is_used_where_none_is_named(family):
    assert build_config(family).to_dict() == build_config(family, FAMILIES[family].default_preset).to_dict()


@every_family
def test_every_setting_is_described_with_type_default_and_words(family):
    described = describe_config(family)
    assert [field.name for field in described] == list(FAMILIES[family].config_class.__annotations__)
    config = build_config(family)
    for name, type_name, default, doc in described:
        assert type_name and doc.endswith(".")
        assert default == getattr(config, name)


@every_family
def test_an_unknown_setting_is_refused_and_the_nearest_known_one_named(family):
    with pytest.raises(ValueError, match=r"unknown setting 'vocab_sise' .*did you mean 'vocab_size'\?$"):
        build_config(family, vocab_sise=10)


@every_family
def test_a_setting_that_other_families_have_is_refused_with_their_names(family):
    known = FAMILIES[family].config_class.__annotations__
    for other, members in FAMILIES.items():
        for name in set(members.config_class.__annotations__) - set(known):
            with pytest.raises(
                ValueError, match=f"unknown setting '{name}' .*; it is one of .*{other}.*; leave it out"
            ):
                build_config(family, **{name: 1})


@every_family
def test_a_setting_of_the_wrong_type_is_refused_in_one_line(family):
    with pytest.raises(ValueError, match=r"Field 'vocab_size' expected int, got str \(value: 'many'\)") as caught:
        build_config(family, vocab_size="many")
    assert "\n" not in str(caught.value)


def test_an_unknown_family_preset_or_head_is_refused_and_the_choices_named():
    with pytest.raises(ValueError, match=r"unknown model family 'bart'; choose from .*bert"):
        build_config("bart")
    with pytest.raises(
        ValueError, match="unknown bert preset 'huge'; choose from tiny, mini, small, base, large, mini-pre-norm"
    ):
        build_config("bert", "huge")
    with pytest.raises(
        ValueError, match="unknown head of model family 'bert' 'AutoModelForCausalLM'; choose from Auto"
    ):
        build_model(build_config("bert", "tiny"), "AutoModelForCausalLM")
    with pytest.raises(ValueError, match="unknown Auto class 'AutoModelForMaskedLn'; choose from Auto"):
        load_model("anywhere", "AutoModelForMaskedLn")


def test_a_config_of_another_library_is_refused():
    with pytest.raises(ValueError, match="model type 'bert' is not of bertkit; its model types are bertkit-rnn, "):
        build_model(BertConfig(), "AutoModel")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json; give the folder of a checkpoint"):
        load_model(tmp_path, "AutoModel")


@pytest.mark.parametrize(
    "family", [f for f, m in FAMILIES.items() if "AutoModelForSequenceClassification" in m.auto_classes]
)
def test_task_settings_reach_the_head(family):
    config = build_config(family, **{**FAMILIES[family].presets[next(iter(FAMILIES[family].presets))]}, num_labels=5)
    model = build_model(config, "AutoModelForSequenceClassification")
    assert model.score.weight.shape[0] == 5


@every_family
def test_the_same_seed_builds_the_same_weights(family):
    config = build_config(family, next(iter(FAMILIES[family].presets)), vocab_size=50)
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = build_model(config, "AutoModel")
        assert model.training
        weights.append(model.get_input_embeddings().weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@every_family
def test_transformers_knows_every_class_by_its_auto_class(family):
    members = FAMILIES[family]
    config = AutoConfig.for_model(members.config_class.model_type)
    assert type(config) is members.config_class
    for name, model_class in members.auto_classes.items():
        assert getattr(transformers, name)._model_mapping[members.config_class] is model_class
        assert AUTO_CLASSES[name] is getattr(transformers, name)
        assert auto_map(family)[name].endswith(f".{model_class.__name__}")
    assert auto_map(family)["AutoConfig"].endswith(f".{members.config_class.__name__}")


@every_family
def test_building_and_loading_complete_the_auto_map(family, tmp_path):
    members = FAMILIES[family]
    settings = members.presets[next(iter(members.presets))]
    assert build_model(members.config_class(**settings), "AutoModel").config.auto_map == auto_map(family)
    members.auto_classes["AutoModel"](members.config_class(**settings)).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).auto_map.keys() == {"AutoConfig", "AutoModel"}
    assert load_model(tmp_path, "AutoModel").config.auto_map == auto_map(family)
