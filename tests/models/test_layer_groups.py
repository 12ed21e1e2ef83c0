"""Every parameter of every class has its place between the bottom and the top."""

import re
from itertools import product

import pytest
from torch import nn

from bertkit.models import FAMILIES, build_config, build_model
from bertkit.models.layer_groups import layer_groups

VARIANTS = {"norm_first": [False, True], "tie_word_embeddings": [False, True], "cell_type": ["gru", "lstm"],
            "attention_type": ["none", "additive", "dot", "general"], "token_input": ["tokens", "characters"]}  # fmt: skip
"""Settings that decide which modules there are."""
CASES = [
    (family, name, variant)
    for family, entry in FAMILIES.items()
    for name in entry.auto_classes
    for variant in product(*(
        [(field, value) for value in values]
        for field, values in VARIANTS.items()
        if field in entry.config_class.__annotations__ or (field == "tie_word_embeddings" and entry.made_by == "pretrain")
    ))
]  # fmt: skip
SMALL = {"hidden_size": 16, "intermediate_size": 16, "embedding_size": 16, "encoder_hidden_size": 16, "cell_size": 16,
         "num_attention_heads": 2, "hidden_sizes": None}  # fmt: skip


def build(family, preset, auto_class, **settings):
    entry = FAMILIES[family]
    fields = entry.config_class.__annotations__
    small = {name: value for name, value in SMALL.items() if name in fields}
    return build_model(build_config(family, preset, **{"vocab_size": 50, **small, **settings}), auto_class)


@pytest.mark.parametrize(("family", "auto_class", "variant"), CASES)
def test_every_parameter_of_every_class_is_in_one_group_and_they_go_from_the_bottom_to_the_top(
    family, auto_class, variant
):
    model = build(family, "tiny" if "tiny" in FAMILIES[family].presets else None, auto_class, **dict(variant))
    groups = layer_groups(model)
    together = [name for names in groups.values() for name in names]
    assert sorted(together) == sorted(name for name, _ in model.named_parameters())
    layers = [name for name in groups if name not in ("embeddings", "head")]
    assert [*groups] == ["embeddings", *layers, *(["head"] if "head" in groups else [])]
    places = [name.rpartition(".") for name in layers]
    numbers = [(FAMILIES[family].layer_lists.index(path), int(number)) for path, _, number in places]
    assert numbers == sorted(numbers)
    lists = [model.base_model.get_submodule(path) for path in FAMILIES[family].layer_lists]
    assert len(layers) == sum(map(len, lists))
    for layer in layers:  # each holds what its layer holds
        own = {name for name, _ in model.base_model.get_submodule(layer).named_parameters()}
        assert own <= {re.sub(rf"^(model\.)?{re.escape(layer)}\.", "", name) for name in groups[layer]}


def test_what_stands_beside_the_layers_goes_where_the_table_says():
    groups = layer_groups(build("gpt", "tiny", "AutoModelForCausalLM"))
    assert (
        "model.final_norm.weight" in [*groups.values()][-1] and "head" not in groups
    )  # the output weights are the embeddings
    groups = layer_groups(build("bert", "tiny", "AutoModelForSequenceClassification", pooling="cls"))
    assert groups["head"] == ["model.pooler.dense.weight", "model.pooler.dense.bias", "score.weight", "score.bias"]
    groups = layer_groups(build("elmo", "tiny", "AutoModelForSequenceClassification"))
    assert groups["head"] == ["scalar_mix.weights", "scalar_mix.gamma", "score.weight", "score.bias"]
    groups = layer_groups(build("rnn_seq2seq", "base", "AutoModel"))
    assert groups["head"] == ["decoder.readout.weight", "decoder.readout.bias"]
    assert {"decoder.bridge.weight", "decoder.key.weight"} <= {*groups["decoder.layers.0"]}


def test_a_module_that_the_table_does_not_place_is_named(monkeypatch):
    monkeypatch.setattr("bertkit.models.layer_groups.FAMILIES", {**FAMILIES, "gpt": FAMILIES["rnn"]})
    with pytest.raises(ValueError, match=r"which layer model\.final_norm\.weight goes with; name it in beside_layers"):
        layer_groups(build("gpt", "tiny", "AutoModelForCausalLM"))


@pytest.mark.parametrize("family", [name for name, entry in FAMILIES.items() if entry.lora_targets])
def test_the_layers_that_lora_adapts_are_linear_and_all_there_are_in_the_layers(family):
    model = build(family, "tiny" if "tiny" in FAMILIES[family].presets else None, "AutoModel")
    linear = {name for name, part in model.named_modules() if isinstance(part, nn.Linear) and "layers." in name}
    targets = FAMILIES[family].lora_targets
    assert {name for name in linear if name.endswith(tuple(f".{target}" for target in targets))} == linear
    assert all(any(name.endswith(f".{target}") for name in linear) for target in targets)
