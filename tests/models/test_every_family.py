"""One contract for every family in the table and every head it has."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers.initialization import no_init_weights
from transformers.modeling_layers import GradientCheckpointingLayer

from bertkit.models import FAMILIES, load_model
from bertkit.models.modeling_elmo import TOKEN_INPUTS
from bertkit.models.modeling_recurrent import CELLS, TORCH_CELLS
from bertkit.models.modeling_rnn_seq2seq import ATTENTION_TYPES

HEADS = [(family, name) for family, members in FAMILIES.items() for name in members.auto_classes]
HEADS_WITH_LOSS = [(family, name) for family, name in HEADS if name != "AutoModel"]
HEADS_WITH_OUTPUT_LAYER = [
    (family, name)
    for family, name in HEADS
    if name.endswith(("ForPreTraining", "ForMaskedLM", "ForCausalLM", "ForSeq2SeqLM"))
]
HEADS_ON_PACKED_ROWS = [
    (family, name) for family, name in HEADS if not FAMILIES[family].config_class().is_encoder_decoder
]
# What adds the same to all scores that a softmax compares, and so changes nothing: the bias of the head, of a norm before it.
NORMS = {"model.final_norm.bias", "model.layers.1.feed_forward_norm.bias"}
SHIFTS = {
    "AutoModelForMultipleChoice": {"score.bias"} | NORMS,
    "AutoModelForQuestionAnswering": {"qa_outputs.bias"} | NORMS,
}
HEADS_WITH_LAYERS = [
    (family, name) for family, name in HEADS if "num_hidden_layers" in FAMILIES[family].config_class.__annotations__
]
HEADS_WITH_ATTENTION = [
    (family, name) for family, name in HEADS if "num_attention_heads" in FAMILIES[family].config_class.__annotations__
]
# Every head, and once more for each choice of its family by which it has other weights or buffers.
CHOICES = [{}, {"share_encoder_decoder_embeddings": False}, {"token_input": "characters"}]
HEADS_BY_CHOICE = [
    (family, name, choice)
    for family, name in HEADS
    for choice in CHOICES
    if choice.keys() <= FAMILIES[family].config_class.__annotations__.keys()
]
# What a family is made of decides how it reads on from token to token; one that has nothing to choose is of one kind.
NORMS_STAND = [{"norm_first": False}, {"norm_first": True}]
KINDS = {
    "rnn": [{"cell_type": cell} for cell in CELLS],
    "rnn_seq2seq": [
        {"attention_type": attention, "cell_type": cell} for attention in ATTENTION_TYPES for cell in TORCH_CELLS
    ],
    "elmo": [{"token_input": token_input} for token_input in TOKEN_INPUTS],
    "gpt": NORMS_STAND,
    "transformer": NORMS_STAND,
}
GENERATING_HEADS = [
    (family, name, kind)
    for family, name in HEADS
    if FAMILIES[family].auto_classes[name].can_generate()
    for kind in KINDS.get(family, [{}])
]
# (family, head, kind, scores, whether these read from the left)
SCORES_OF_NEIGHBOURS = [(*head, "logits", True) for head in GENERATING_HEADS] + [
    ("elmo", "AutoModelForPreTraining", kind, f"{direction}_logits", direction == "forward")
    for kind in KINDS["elmo"]
    for direction in ("forward", "backward")
]
every_head = pytest.mark.parametrize(("family", "head"), HEADS)
every_head_with_layers = pytest.mark.parametrize(("family", "head"), HEADS_WITH_LAYERS)
every_head_by_choice = pytest.mark.parametrize(("family", "head", "choice"), HEADS_BY_CHOICE)
every_generating_head = pytest.mark.parametrize(("family", "head", "kind"), GENERATING_HEADS)
every_head_with_attention = pytest.mark.parametrize(("family", "head"), HEADS_WITH_ATTENTION)
every_head_with_loss = pytest.mark.parametrize(("family", "head"), HEADS_WITH_LOSS)
every_head_on_packed_rows = pytest.mark.parametrize(("family", "head"), HEADS_ON_PACKED_ROWS)
every_head_with_output_layer = pytest.mark.parametrize(("family", "head"), HEADS_WITH_OUTPUT_LAYER)


def tensors(outputs):
    """All floating-point tensors of an output, by name."""
    return {name: value for name, value in outputs.items() if torch.is_tensor(value)}


def without_labels(batch):
    return {name: values for name, values in batch.items() if not {"label", "labels", "positions"} & {*name.split("_")}}


def of_last_stack(outputs, name):
    """What an output calls `name`, where there are two stacks that of the decoder."""
    return getattr(outputs, f"decoder_{name}" if hasattr(outputs, f"decoder_{name}") else name)


def a_loss(model, batch):
    """The model's loss, or a number that depends on all of a base model's outputs."""
    outputs = model(**batch)
    if "loss" in outputs:
        return outputs.loss
    weights = torch.linspace(-1, 1, model.config.hidden_size)
    return sum((value * weights).sum() for value in tensors(outputs).values())


@every_head
def test_outputs_have_their_documented_shapes(small_model, small_batch, family, head):
    outputs = tensors(small_model(family, head)(**small_batch(head)))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    encoded = {"encoder_last_hidden_state": (3, 10, 32)}
    # what a base model returns besides its last hidden state
    besides = {"bert": {"pooler_output": (3, 32)}, "transformer": encoded, "rnn_seq2seq": encoded}
    pretraining = {
        "bert": {
            "mlm_loss": (),
            "next_sentence_loss": (),
            "prediction_logits": (3, 10, 61),
            "seq_relationship_logits": (3, 2),
        },
        "elmo": {
            "forward_loss": (),
            "backward_loss": (),
            "forward_logits": (3, 10, 61),
            "backward_logits": (3, 10, 61),
        },
    }
    assert (
        shapes
        == {
            "AutoModel": {"last_hidden_state": (3, 10, 32), **besides.get(family, {})},
            "AutoModelForPreTraining": {"loss": (), **pretraining.get(family, {})},
            "AutoModelForMaskedLM": {"loss": (), "logits": (3, 10, 61)},
            "AutoModelForCausalLM": {"loss": (), "logits": (3, 10, 61)},
            "AutoModelForSeq2SeqLM": {"loss": (), "logits": (3, 10, 61), **encoded},
            "AutoModelForNextSentencePrediction": {"loss": (), "logits": (3, 2)},
            "AutoModelForSequenceClassification": {"loss": (), "logits": (3, 2)},
            "AutoModelForTokenClassification": {"loss": (), "logits": (3, 10, 2)},
            "AutoModelForQuestionAnswering": {"loss": (), "start_logits": (3, 10), "end_logits": (3, 10)},
            "AutoModelForMultipleChoice": {"loss": (), "logits": (2, 2)},
        }[head]
    )
    assert all(value.isfinite().all() for value in outputs.values())


@every_head
def test_every_parameter_gets_a_gradient(small_model, small_batch, family, head):
    model = small_model(family, head)
    a_loss(model, small_batch(head)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    without = {name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 1e-6}
    assert without <= SHIFTS.get(head, set())


@every_head_with_loss
def test_one_batch_can_be_learnt_by_heart(small_model, small_batch, family, head):
    model, batch = small_model(family, head, initializer_range=0.05).train(), small_batch(head)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.1 * losses[0]:
            return
    raise AssertionError(losses)


@every_head
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_real_position(small_model, small_batch, family, head, side):
    model, inputs = small_model(family, head), without_labels(small_batch(head))
    input_ids = inputs["input_ids"]
    position_ids = torch.arange(10).expand(3, 10)
    pads = torch.zeros(3, 4, dtype=torch.long)

    def pad(values, filler):
        return torch.cat([filler, values] if side == "left" else [values, filler], dim=1)

    padded_inputs = {"input_ids": pad(input_ids, pads), "attention_mask": pad(torch.ones_like(input_ids), pads)}
    if (family, head) in HEADS_ON_PACKED_ROWS:
        padded_inputs["position_ids"] = pad(position_ids, pads + 1)
    padded = model(**{**inputs, **padded_inputs})
    real = slice(4, None) if side == "left" else slice(0, 10)
    for name, expected in tensors(model(**inputs)).items():
        actual = getattr(padded, name)
        was_padded = actual.shape != expected.shape
        torch.testing.assert_close(actual[:, real] if was_padded else actual, expected, atol=1e-5, rtol=1e-5)


@every_head_on_packed_rows
def test_packing_changes_no_real_position(small_model, small_batch, family, head):
    model = small_model(family, head)
    inputs = without_labels(small_batch(head))
    rows = {"input_ids": inputs["input_ids"].flatten()[None], "position_ids": torch.arange(10).repeat(3)[None]}
    packed = model(**{**inputs, **rows})
    for name, expected in tensors(model(**inputs)).items():
        actual = getattr(packed, name)
        torch.testing.assert_close(actual.view(expected.shape), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "head", "kind", "scores", "from_the_left"), SCORES_OF_NEIGHBOURS)
def test_no_score_sees_what_it_is_to_predict(small_model, small_batch, family, head, kind, scores, from_the_left):
    model, inputs = small_model(family, head, **kind).double(), without_labels(small_batch(head))
    read = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    changed = {**inputs, read: inputs[read].clone()}
    changed[read][:, 4] = changed[read][:, 4] % 60 + 1
    difference = (model(**changed)[scores] - model(**inputs)[scores]).abs().amax(dim=-1)  # (batch, seq)
    sees = torch.arange(10) >= 4 if from_the_left else torch.arange(10) <= 4
    assert difference[:, ~sees].max() < 1e-12 and difference[:, sees].min() > 1e-9


@every_generating_head
def test_what_is_generated_is_the_argmax_step_by_step_of_a_model_that_reads_all_anew(
    small_model, small_batch, family, head, kind
):
    model, batch = small_model(family, head, eos_token_id=None, **kind), small_batch(head)
    inputs = {"input_ids": batch["input_ids"]}
    grows = "decoder_input_ids" if "decoder_input_ids" in batch else "input_ids"
    generated = model.generate(
        **inputs, do_sample=False, max_new_tokens=8, output_logits=True, return_dict_in_generate=True
    )
    expected = inputs.get(grows, torch.ones(3, 1, dtype=torch.long))  # a decoder starts from token 1
    for step in range(8):
        logits = model(**{**inputs, grows: expected}, use_cache=False).logits[:, -1]
        torch.testing.assert_close(generated.logits[step], logits)
        expected = torch.cat([expected, logits.argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(generated.sequences, expected)


@every_generating_head
def test_labels_at_positions_without_scores_are_refused(small_model, small_batch, family, head, kind):
    model, batch = small_model(family, head, **kind), small_batch(head)
    message = r"the scores are of \(3, 2\) positions and the labels of \(3, 10\); .* leave out logits_to_keep"
    with pytest.raises(ValueError, match=message):
        model(**batch, logits_to_keep=2)


@every_head
def test_a_saved_model_loads_with_equal_weights_and_outputs(small_model, small_batch, family, head, tmp_path):
    model, batch = small_model(family, head), small_batch(head)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, head)
    assert type(loaded) is FAMILIES[family].auto_classes[head]
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    weights = loaded.state_dict()
    assert all(torch.equal(weights.pop(name), value) for name, value in model.state_dict().items()) and not weights
    expected, actual = tensors(model(**batch)), tensors(loaded(**batch))
    for name, value in expected.items():  # a product by one row of weights rounds by where the file has it in memory
        torch.testing.assert_close(actual[name], value, atol=1e-6, rtol=1e-6)


@every_head
def test_saving_a_loaded_model_again_keeps_all_heads_and_files(small_model, family, head, tmp_path):
    small_model(family, head).save_pretrained(tmp_path / "first")
    load_model(tmp_path / "first", head).save_pretrained(tmp_path / "second")
    first, second = ((tmp_path / name) for name in ("first", "second"))
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    auto_map = json.loads((second / "config.json").read_text())["auto_map"]
    assert auto_map.keys() == {"AutoConfig", *FAMILIES[family].auto_classes}
    for reference in auto_map.values():
        assert (second / f"{reference.partition('.')[0]}.py").is_file()


@every_head
def test_a_model_built_on_the_meta_device_has_the_same_weights_by_name_and_shape(small_model, family, head):
    model = small_model(family, head)
    with torch.device("meta"):
        meta = type(model)(model.config)
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (model, meta)]
    assert shapes[0] == shapes[1]


@every_head_by_choice
def test_buffers_are_the_same_whether_built_in_memory_or_filled_afterwards(small_model, family, head, choice):
    config = small_model(family, head, **choice).config
    with no_init_weights():
        built = FAMILIES[family].auto_classes[head](config)
    with torch.device("meta"):
        filled = FAMILIES[family].auto_classes[head](config)
    filled.to_empty(device="cpu").init_weights()
    torch.testing.assert_close(dict(filled.named_buffers()), dict(built.named_buffers()), rtol=0, atol=0)


@every_head_with_layers
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(small_model, small_batch, family, head):
    results = []
    for reentrant in (None, False, True):
        model, batch = small_model(family, head).train(), small_batch(head)
        if reentrant is not None:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
            assert layers and all(layer.gradient_checkpointing for layer in layers)
        loss = a_loss(model, batch)
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in model.named_parameters()}))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


@every_head
def test_inputs_embeds_stand_in_for_input_ids(small_model, small_batch, family, head):
    model, batch = small_model(family, head), small_batch(head)
    expected = tensors(model(**batch))
    inputs_embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    for name, value in tensors(model(inputs_embeds=inputs_embeds, **batch)).items():
        torch.testing.assert_close(value, expected[name])


@every_head
def test_hidden_states_come_when_asked_for(small_model, small_batch, family, head):
    model, batch = small_model(family, head), small_batch(head)
    assert of_last_stack(model(**batch), "hidden_states") is None
    hidden_states = of_last_stack(model(**batch, output_hidden_states=True), "hidden_states")
    embedded = {"rnn": 24, "rnn_seq2seq": 24}.get(family, 32)  # where the embeddings are not as wide as the layers
    widths = [embedded] + [32] * model.config.num_hidden_layers
    assert [tuple(states.shape) for states in hidden_states] == [(3, 10, width) for width in widths]
    model.config.output_hidden_states = True
    assert len(of_last_stack(model(**batch), "hidden_states")) == len(widths)


@every_head
def test_hidden_states_of_chosen_layers_come_alone(small_model, small_batch, family, head):
    model, batch = small_model(family, head), small_batch(head)
    expected = of_last_stack(model(**batch, output_hidden_states=True), "hidden_states")
    every = range(len(expected))
    for chosen, wanted in (([0, -1], {0, every[-1]}), (1, {1}), ([5], {5})):
        places = [place for place in every if place in wanted]
        hidden_states = of_last_stack(model(**batch, output_hidden_states=chosen), "hidden_states")
        assert [i for i, states in enumerate(hidden_states) if states is not None] == places
        torch.testing.assert_close([hidden_states[i] for i in places], [expected[i] for i in places])


@pytest.mark.parametrize(
    ("family", "head"), [head for head in HEADS if FAMILIES[head[0]].config_class().is_encoder_decoder]
)
@pytest.mark.parametrize("decoder_layers", [1, 3])
def test_hidden_states_count_from_the_end_of_each_stack(small_model, small_batch, family, head, decoder_layers):
    model, batch = small_model(family, head, num_hidden_layers=2, decoder_layers=decoder_layers), small_batch(head)
    outputs, every = model(**batch, output_hidden_states=[-1]), model(**batch, output_hidden_states=True)
    for stack, layers in (("encoder", 2), ("decoder", decoder_layers)):
        *before, last = outputs[f"{stack}_hidden_states"]
        assert before == [None] * layers
        torch.testing.assert_close(last, every[f"{stack}_hidden_states"][-1])


@every_head_with_attention
def test_attentions_come_when_asked_for_and_sum_to_one(small_model, small_batch, family, head):
    model, batch = small_model(family, head, attn_implementation="eager"), small_batch(head)
    attentions = of_last_stack(model(**batch, output_attentions=True), "attentions")
    assert [tuple(weights.shape) for weights in attentions] == [(3, 4, 10, 10)] * 2
    for weights in attentions:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 4, 10))


@every_head
def test_return_dict_false_gives_the_same_values_as_a_tuple(small_model, small_batch, family, head):
    model, batch = small_model(family, head), small_batch(head)
    model.config.use_cache = False  # a cache cannot be compared
    expected = model(**batch).to_tuple()
    by_argument = model(**batch, return_dict=False)
    model.config.return_dict = False
    by_config = model(**batch)
    assert isinstance(by_argument, tuple) and isinstance(by_config, tuple)
    torch.testing.assert_close(by_argument, expected)
    torch.testing.assert_close(by_config, expected)


@every_head
def test_all_runs_in_bfloat16(small_model, small_batch, family, head):
    model = small_model(family, head).to(torch.bfloat16)
    a_loss(model, small_batch(head)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_head
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_autocast_comes_near_full_precision(small_model, small_batch, family, head, layout):
    model, batch = small_model(family, head, initializer_range=0.05), small_batch(head)
    if layout == "padded":
        batch["attention_mask"] = (torch.arange(10) < torch.tensor([[10], [6], [0]])).long()
    elif (family, head) in HEADS_ON_PACKED_ROWS:
        batch["position_ids"] = torch.arange(10).expand(3, 10)
    expected = a_loss(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        actual = a_loss(model, batch)
    actual.backward()
    torch.testing.assert_close(actual.float(), expected, atol=0.5 if head == "AutoModel" else 0.05, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_head
@pytest.mark.parametrize("size", [70, 40])
def test_the_vocabulary_can_grow_and_shrink(small_model, small_batch, family, head, size):
    model, batch = small_model(family, head), small_batch(head)
    inputs = {name: values % 40 for name, values in without_labels(batch).items()}
    before = tensors(model(**inputs))
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == size == model.get_input_embeddings().weight.shape[0]
    for name, value in tensors(model(**inputs)).items():
        kept = slice(0, 40) if value.shape[-1] == size else slice(None)
        torch.testing.assert_close(value[..., kept], before[name][..., kept])
    if model.get_output_embeddings() is not None:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@every_head_with_output_layer
def test_the_output_layer_is_tied_unless_the_config_says_otherwise(small_model, family, head, tmp_path):
    for tied in (True, False):
        model = small_model(family, head, tie_word_embeddings=tied)
        model.save_pretrained(tmp_path / str(tied))
        for either in (model, load_model(tmp_path / str(tied), head)):
            assert (either.get_output_embeddings().weight is either.get_input_embeddings().weight) is tied
        with safe_open(tmp_path / str(tied) / "model.safetensors", "pt") as saved:
            shapes = [tuple(saved.get_slice(name).get_shape()) for name in saved.keys()]  # noqa: SIM118
        tables = {tuple(model.get_input_embeddings().weight.shape), tuple(model.get_output_embeddings().weight.shape)}
        assert sum(shapes.count(table) for table in tables) == (1 if tied else 2)


@every_head_by_choice
def test_weights_that_a_class_names_as_tied_are_one(small_model, family, head, choice):
    model = small_model(family, head, **choice)
    for part in model.modules():
        for target, source in (getattr(part, "_tied_weights_keys", None) or {}).items():
            assert part.get_parameter(target) is part.get_parameter(source)


@every_head
def test_fresh_weights_follow_the_config(small_model, family, head):
    model = small_model(family, head, initializer_range=0.5)
    embeddings = model.get_input_embeddings().weight
    assert embeddings[1:].std().item() == pytest.approx(0.5, rel=0.1)
    assert embeddings[0].abs().max() == 0  # padding
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert all((norm.weight == 1).all() for norm in norms)


@pytest.mark.parametrize("end", [{"eos_token_id": 3}, {"eos_token_id": [2, 3]}, {"bos_token_id": 3}])
@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if "eos_token_id" in FAMILIES[name].config_class.__annotations__]
)
def test_a_padding_token_that_begins_or_ends_texts_too_is_trained(small_model, family, end):
    if family == "elmo" and isinstance(end.get("eos_token_id"), list):
        pytest.skip("its texts have one end")
    model = small_model(family, "AutoModel", pad_token_id=3, **end)
    ids = torch.tensor([[3, 5, 6, 3]])
    embeddings = model.get_input_embeddings().weight
    assert embeddings[3].abs().max() > 0
    targets = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    model(input_ids=ids, attention_mask=torch.ones_like(ids), **targets).last_hidden_state.square().sum().backward()
    assert embeddings.grad[3].abs().max() > 0
