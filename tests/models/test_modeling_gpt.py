"""GPT against transformers' GPT-2 and OpenAI GPT on copied weights: logits, losses, gradients, what they generate."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    StaticCache,
)
from transformers.activations import ACT2FN

from bertkit.hub.native import ARCHITECTURES
from bertkit.models.modeling_gpt import GPT_PRESETS, GptConfig, GptForCausalLM, GptModel
from bertkit.models.modeling_layers import build_activation

SHAPE = {
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
    "pad_token_id": None,
}
NATIVE_SHAPE = {"vocab_size": 53, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 24, "initializer_range": 0.2}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
close = {"atol": 1e-5, "rtol": 1e-5}
implementations = pytest.mark.parametrize("implementation", ["eager", "sdpa"])
orders = pytest.mark.parametrize("norm_first", [True, False], ids=["gpt2", "gpt"])


def from_native(tensors, norm_first):
    """Rename the tensors of either native model to ours."""
    return ARCHITECTURES["gpt2" if norm_first else "openai-gpt"].to_ours(tensors, "AutoModelForCausalLM")


def native_and_ours(norm_first, implementation="sdpa"):
    """Return transformers' model with random weights, biases included, and ours with the same."""
    torch.manual_seed(0)
    if norm_first:
        native = GPT2LMHeadModel(GPT2Config(**NATIVE_SHAPE, **NO_DROPOUT, bos_token_id=1, eos_token_id=2))
        native.set_attn_implementation(implementation)
    else:
        native = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**NATIVE_SHAPE, **NO_DROPOUT))
    for name, parameter in native.named_parameters():
        if name.endswith("bias") or "ln_" in name:
            torch.nn.init.normal_(parameter, mean="weight" in name, std=0.2)
    ours = GptForCausalLM(GptConfig(**SHAPE, norm_first=norm_first))
    ours.load_state_dict(from_native(native.state_dict(), norm_first))
    ours.set_attn_implementation(implementation)
    return native.eval(), ours.eval()


def small(**settings):
    torch.manual_seed(0)
    return GptForCausalLM(GptConfig(**{**SHAPE, **settings})).eval()


def assert_same_gradients(native, ours):
    gradients = {name: parameter.grad for name, parameter in native.named_parameters()}
    expected = from_native(gradients, ours.config.norm_first)
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, **close, msg=lambda text, name=name: f"{name}: {text}")


def padded_batch(lengths=(9, 4, 7)):
    """Inputs of three rows padded on the right, labels at the real tokens."""
    torch.manual_seed(1)
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.randint(3, SHAPE["vocab_size"], attention_mask.shape)
    return {
        "input_ids": input_ids * attention_mask,
        "attention_mask": attention_mask,
        "labels": input_ids.masked_fill(attention_mask == 0, -100),
    }


def packed_batch(lengths_by_row=((5, 3, 4), (7, 2), (11,))):
    """Packed rows of 12, padded at the end, and each example alone."""
    torch.manual_seed(2)
    rows = {name: torch.zeros(len(lengths_by_row), 12, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    rows["position_ids"] = torch.ones(len(lengths_by_row), 12, dtype=torch.long)
    examples = []
    for row, lengths in enumerate(lengths_by_row):
        start = 0
        for length in lengths:
            span = slice(start, start + length)
            rows["input_ids"][row, span] = torch.randint(3, SHAPE["vocab_size"], (length,))
            rows["attention_mask"][row, span] = 1
            rows["position_ids"][row, span] = torch.arange(length)
            examples.append((row, span, rows["input_ids"][row, span][None]))
            start += length
    return rows, examples


@orders
@implementations
def test_logits_loss_hidden_states_and_gradients_are_those_of_transformers(norm_first, implementation):
    native, ours = native_and_ours(norm_first, implementation)
    batch = padded_batch()
    expected, actual = native(**batch, output_hidden_states=True), ours(**batch, output_hidden_states=True)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(actual.logits[real], expected.logits[real], **close)
    torch.testing.assert_close(actual.loss, expected.loss, **close)
    for ours_states, native_states in zip(actual.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours_states[real], native_states[real], **close)
    expected.loss.backward()
    actual.loss.backward()
    assert_same_gradients(native, ours)


def test_attention_weights_are_those_of_transformers():
    native, ours = native_and_ours(norm_first=True, implementation="eager")
    batch = {"input_ids": padded_batch()["input_ids"]}
    expected, actual = native(**batch, output_attentions=True), ours(**batch, output_attentions=True)
    for ours_weights, native_weights in zip(actual.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(ours_weights, native_weights, **close)


@orders
@implementations
def test_packed_rows_equal_transformers_on_each_example_alone(norm_first, implementation):
    native, ours = native_and_ours(norm_first, implementation)
    rows, examples = packed_batch()
    actual = ours(**rows, labels=rows["input_ids"])
    logits, labels = [], []
    for row, span, input_ids in examples:
        alone = native(input_ids).logits
        torch.testing.assert_close(actual.logits[row, span][None], alone, **close)
        logits.append(alone[0, :-1])
        labels.append(input_ids[0, 1:])
    expected_loss = F.cross_entropy(torch.cat(logits), torch.cat(labels))
    torch.testing.assert_close(actual.loss, expected_loss, **close)
    expected_loss.backward()
    actual.loss.backward()
    assert_same_gradients(native, ours)


@pytest.mark.parametrize("padded", [True, False])
def test_labels_handed_over_where_they_are_predicted_give_the_same_loss_divided_as_told(padded):
    model, (rows, examples) = small(), packed_batch()
    if not padded:
        rows = {name: rows[name][:1] for name in ("input_ids", "position_ids")}
        examples = examples[:3]
    shift_labels = torch.full_like(rows["input_ids"], -100)
    for row, span, input_ids in examples:
        shift_labels[row, span.start : span.stop - 1] = input_ids[0, 1:]
    expected = model(**rows, labels=rows["input_ids"]).loss
    torch.testing.assert_close(model(**rows, shift_labels=shift_labels).loss, expected)
    count = (shift_labels != -100).sum()
    shared = model(**rows, shift_labels=shift_labels, num_items_in_batch=2 * count).loss
    torch.testing.assert_close(shared, expected / 2)


@implementations
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_changing_one_example_leaves_the_logits_of_its_neighbours_unchanged(implementation, data):
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    changed_example = data.draw(st.integers(0, len(lengths) - 1))
    rows, examples = packed_batch((tuple(lengths), (3, 4)))
    _, span, _ = examples[changed_example]
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][0, span] = 1
    changed["input_ids"][0, sum(lengths) :] = 2  # the padding too
    model = small()
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        difference = (model(**rows).logits - model(**changed).logits).abs().amax(dim=-1)
    others = rows["attention_mask"].bool()
    others[0, span] = False
    assert difference[others].max() <= 1e-6


@implementations
@pytest.mark.parametrize("layout", ["plain", "padded", "packed"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_no_gradient_comes_from_the_future_in_training_either(implementation, layout, dropout):
    model = small(attention_probs_dropout_prob=dropout, _attn_implementation=implementation).train()
    embeds = torch.randn(1, 8, SHAPE["hidden_size"], requires_grad=True)
    given = {
        "plain": {},
        "padded": {"attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0]])},
        "packed": {"position_ids": torch.tensor([[0, 1, 0, 1, 2, 3, 4, 5]])},
    }[layout]
    model(inputs_embeds=embeds, **given).logits[0, 4].sum().backward()
    seen = embeds.grad[0].abs().amax(dim=-1) > 0
    first = {"plain": 0, "padded": 1, "packed": 2}[layout]
    assert seen[4] and not seen[5:].any() and not seen[:first].any()
    assert dropout or seen[first:5].all()


@orders
@implementations
def test_padding_on_the_left_moves_nobody(norm_first, implementation):
    model = small(norm_first=norm_first, _attn_implementation=implementation)
    input_ids = padded_batch()["input_ids"][:1, :6]
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), input_ids], dim=1)
    attention_mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    expected = model(input_ids, labels=input_ids)
    actual = model(padded, attention_mask=attention_mask, labels=padded)
    torch.testing.assert_close(actual.logits[:, 3:], expected.logits, **close)
    torch.testing.assert_close(actual.loss, expected.loss, **close)


@pytest.mark.parametrize(
    "how", [{"num_beams": 3}, {"do_sample": True, "top_k": 5}, {}], ids=["beam", "sampled", "greedy"]
)
@pytest.mark.parametrize("cache", ["dynamic", "static", None])
def test_what_is_generated_is_what_gpt2_of_transformers_generates(how, cache):
    native, ours = native_and_ours(norm_first=True)
    input_ids = padded_batch()["input_ids"].flip(1)  # padded on the left
    caching = {"use_cache": False} if cache is None else {"cache_implementation": cache}
    generated = []
    for model, settings_ in ((native, {}), (ours, caching)):
        torch.manual_seed(3)
        generated.append(
            model.generate(
                input_ids,
                attention_mask=(input_ids != 0).long(),
                max_new_tokens=12,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                **how,
                **settings_,
            )
        )
    assert generated[1].shape[1] > 12 and torch.equal(*generated)


@orders
@implementations
def test_a_cache_fed_in_pieces_gives_the_logits_of_the_whole_row(norm_first, implementation):
    model = small(norm_first=norm_first, _attn_implementation=implementation)
    input_ids = padded_batch((9, 9))["input_ids"]
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, :2] = 0
    cache, pieces = DynamicCache(config=model.config), []
    for start, stop in ((0, 4), (4, 8), (8, 9)):
        outputs = model(
            input_ids[:, start:stop], attention_mask=attention_mask[:, :stop], past_key_values=cache, use_cache=True
        )
        pieces.append(outputs.logits)
    assert outputs.past_key_values is cache and cache.get_seq_length() == 9
    whole = model(input_ids, attention_mask=attention_mask).logits
    real = attention_mask.bool()
    torch.testing.assert_close(torch.cat(pieces, dim=1)[real], whole[real], **close)


def test_a_step_with_a_cache_of_fixed_size_is_one_graph_that_never_asks_the_device():
    model, input_ids = small(), padded_batch((9, 9))["input_ids"]
    compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
    cache = StaticCache(config=model.config, max_cache_len=12)
    model(input_ids[:, :8], past_key_values=cache, position_ids=torch.arange(8)[None])
    with torch.no_grad():
        logits = compiled(input_ids[:, 8:], past_key_values=cache, position_ids=torch.tensor([[8]])).logits
    torch.testing.assert_close(logits, model(input_ids).logits[:, 8:], **close)


def test_no_cache_is_kept_in_training_or_with_labels_unless_asked_for():
    model, input_ids = small(), padded_batch((5,))["input_ids"]
    assert model(input_ids).past_key_values is not None
    assert model(input_ids, labels=input_ids).past_key_values is None
    assert model(input_ids, labels=input_ids, use_cache=True).past_key_values is not None
    assert model.train()(input_ids).past_key_values is None


def test_logits_are_computed_where_they_are_kept_alone():
    model, input_ids = small(), padded_batch((9, 9))["input_ids"]
    logits = model(input_ids).logits
    torch.testing.assert_close(model(input_ids, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(input_ids, logits_to_keep=torch.tensor([0, 5])).logits, logits[:, [0, 5]])


@pytest.mark.parametrize(
    ("settings_", "trained"), [({"pad_token_id": 0}, False), ({"pad_token_id": 0, "eos_token_id": [2, 0]}, True)]
)
def test_padding_is_no_trained_input_unless_it_has_another_meaning(settings_, trained):
    model = small(**settings_, tie_word_embeddings=False)
    model(torch.zeros(1, 4, dtype=torch.long)).logits.square().sum().backward()
    assert (model.model.embeddings.word_embeddings.weight.grad[0].abs().max() > 0) == trained


def test_fresh_weights_of_gpt2_write_less_into_the_sum_the_deeper_it_is():
    for norm_first, expected in ((True, 0.5 / 4), (False, 0.5)):
        model = GptModel(
            GptConfig(**{**SHAPE, "num_hidden_layers": 8, "initializer_range": 0.5}, norm_first=norm_first)
        )
        for part in (model.layers[0].attention.output, model.layers[7].feed_forward.output):
            assert part.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert model.layers[3].attention.qkv.weight.std().item() == pytest.approx(0.5, rel=0.1)


def test_inputs_that_cannot_be_read_are_refused_in_words():
    model, input_ids = small(), torch.ones(1, 24, dtype=torch.long)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="rows of 25 tokens are longer than max_position_embeddings 24"):
        model(torch.ones(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match=r"rows of 25 tokens .*generate fewer"):
        model.generate(input_ids, max_new_tokens=2, pad_token_id=0)
    model(torch.ones(1, 48, dtype=torch.long), position_ids=torch.arange(24).repeat(2)[None])  # packed: long enough


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it must be at least 1"),
        ({"hidden_size": 30}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1; it must be at least 0 and below 1"),
        ({"eos_token_id": [2, 53]}, r"eos_token_id is \[2, 53\]; it must be below vocab_size 53"),
        ({"hidden_act": "gelo"}, "unknown hidden_act .gelo.; choose from .*gelu_new"),
    ],
)
def test_a_config_no_model_can_be_built_from_is_refused_by_name(setting, message):
    with pytest.raises(Exception, match=message):
        GptConfig(**{**SHAPE, **setting})


def test_presets_are_the_sizes_of_berts_and_base_is_gpt2():
    widths = {name: preset["hidden_size"] for name, preset in GPT_PRESETS.items()}
    assert widths == {"tiny": 128, "mini": 256, "small": 512, "base": 768}
    with torch.device("meta"):
        model = GptForCausalLM(GptConfig(**GPT_PRESETS["base"]))
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808  # as published


def test_the_activation_in_one_operation_is_the_papers():
    inputs = torch.linspace(-12, 12, 1001, dtype=torch.float64, requires_grad=True)
    ours, theirs = build_activation("gelu_new")(inputs), ACT2FN["gelu_new"](inputs)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(outputs.sum(), inputs) for outputs in (ours, theirs)))
