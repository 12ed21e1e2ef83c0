"""BERT against transformers' BERT on copied weights: logits, losses, gradients; padded, packed, eager, sdpa."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from transformers.utils.generic import find_labels

from bertkit.hub.native import ARCHITECTURES
from bertkit.models import FAMILIES
from bertkit.models.modeling_bert import (
    BERT_PRESETS,
    BertEncoderConfig,
    BertEncoderForMaskedLM,
    BertEncoderForMultipleChoice,
    BertEncoderForNextSentencePrediction,
    BertEncoderForPreTraining,
    BertEncoderForQuestionAnswering,
    BertEncoderForSequenceClassification,
    BertEncoderForTokenClassification,
    BertEncoderModel,
)

SHAPE = {
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
}
close = {"atol": 1e-5, "rtol": 1e-5}
implementations = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def from_native(weights, our_class):
    """Rename weights, those of the class's head included."""
    auto_class = next(name for name, model_class in FAMILIES["bert"].auto_classes.items() if model_class is our_class)
    return ARCHITECTURES["bert"].to_ours(weights, auto_class)


def native_and_ours(native_class, our_class, implementation="sdpa", **settings):
    """Return transformers' model with random weights, biases included, and ours with the same."""
    torch.manual_seed(0)
    native = native_class(BertConfig(**SHAPE, **settings)).eval()
    for name, parameter in native.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    ours = our_class(BertEncoderConfig(**SHAPE, **settings)).eval()
    ours.load_state_dict(from_native(native.state_dict(), our_class))
    native.set_attn_implementation(implementation)
    ours.set_attn_implementation(implementation)
    return native, ours


def assert_same_gradients(native, ours):
    expected = from_native({name: parameter.grad for name, parameter in native.named_parameters()}, type(ours))
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, **close, msg=lambda text, name=name: f"{name}: {text}")


def assert_same_loss_and_gradients(native, ours, expected, actual):
    torch.testing.assert_close(actual, expected, **close)
    expected.backward()
    actual.backward()
    assert_same_gradients(native, ours)


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


def padded_batch(lengths=(9, 4, 7)):
    """Inputs of three rows padded on the right, labels at some real tokens, pair labels."""
    torch.manual_seed(1)
    batch, seq = len(lengths), max(lengths)
    attention_mask = (torch.arange(seq) < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.randint(1, SHAPE["vocab_size"], (batch, seq)) * attention_mask
    labels = torch.randint(0, SHAPE["vocab_size"], (batch, seq))
    labels = labels.masked_fill((torch.rand(batch, seq) < 0.6) | (attention_mask == 0), -100)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": torch.randint(0, 2, (batch, seq)),
        "labels": labels,
        "next_sentence_label": torch.randint(0, 2, (batch,)),
    }


def packed_batch(lengths_by_row=((5, 3, 4), (7, 2), (11,))):
    """The same in packed rows of 12; returns the batch and each example alone, in the order of the starts."""
    torch.manual_seed(2)
    batch, seq = len(lengths_by_row), 12
    rows = {name: torch.zeros(batch, seq, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    rows |= {"token_type_ids": torch.zeros(batch, seq, dtype=torch.long)}
    rows |= {"position_ids": torch.ones(batch, seq, dtype=torch.long)}
    rows |= {"labels": torch.full((batch, seq), -100)}
    examples, starts = [], []
    for row, lengths in enumerate(lengths_by_row):
        start = 0
        for length in lengths:
            labels = torch.randint(0, SHAPE["vocab_size"], (length,))
            example = {
                "input_ids": torch.randint(1, SHAPE["vocab_size"], (length,)),
                "attention_mask": torch.ones(length, dtype=torch.long),
                "token_type_ids": torch.randint(0, 2, (length,)),
                "position_ids": torch.arange(length),
                "labels": labels.masked_fill(torch.arange(length) % 3 != 0, -100),
            }
            for name, values in example.items():
                rows[name][row, start : start + length] = values
            examples.append({name: values[None] for name, values in example.items()})
            starts.append(row * seq + start)
            start += length
    rows["next_sentence_label"] = torch.randint(0, 2, (len(starts),))
    return rows, examples, torch.tensor(starts)


def at_label_positions(batch, padding=3):
    """Turn dense labels into labels at positions, as a collator hands them over."""
    positions = (batch["labels"].flatten() != -100).nonzero().squeeze(1)
    labels = batch["labels"].flatten()[positions]
    zeros, ignored = positions.new_zeros(padding), labels.new_full((padding,), -100)
    return {**batch, "label_positions": torch.cat([positions, zeros]), "labels": torch.cat([labels, ignored])}


@implementations
def test_hidden_states_pooler_and_attentions_are_those_of_transformers(implementation):
    native, ours = native_and_ours(BertModel, BertEncoderModel, implementation)
    batch = padded_batch()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    flags = {"output_hidden_states": True, "output_attentions": implementation == "eager"}
    expected, actual = native(**inputs, **flags), ours(**inputs, **flags)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output, **close)
    assert len(actual.hidden_states) == len(expected.hidden_states) == SHAPE["num_hidden_layers"] + 1
    for ours_states, native_states in zip(actual.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours_states[real], native_states[real], **close)
    if implementation == "eager":
        for ours_weights, native_weights in zip(actual.attentions, expected.attentions, strict=True):
            torch.testing.assert_close(ours_weights, native_weights, **close)


@implementations
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_pretraining_equals_transformers_in_logits_loss_and_gradients(implementation, hidden_act):
    native, ours = native_and_ours(BertForPreTraining, BertEncoderForPreTraining, implementation, hidden_act=hidden_act)
    batch = padded_batch()
    expected, actual = native(**batch), ours(**batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(actual.prediction_logits[real], expected.prediction_logits[real], **close)
    torch.testing.assert_close(actual.seq_relationship_logits, expected.seq_relationship_logits, **close)
    torch.testing.assert_close(actual.loss, expected.loss, **close)
    torch.testing.assert_close(actual.mlm_loss + actual.next_sentence_loss, expected.loss, **close)
    expected.loss.backward()
    actual.loss.backward()
    assert_same_gradients(native, ours)


@implementations
def test_masked_lm_equals_transformers_untied_too(implementation):
    for tied in (True, False):
        native, ours = native_and_ours(
            BertForMaskedLM, BertEncoderForMaskedLM, implementation, tie_word_embeddings=tied
        )
        batch = padded_batch()
        del batch["next_sentence_label"]
        expected, actual = native(**batch), ours(**batch)
        torch.testing.assert_close(actual.loss, expected.loss, **close)
        expected.loss.backward()
        actual.loss.backward()
        gradients = {name: parameter.grad for name, parameter in native.named_parameters()}
        if not tied:  # transformers then keeps a second bias, which it adds nowhere
            gradients.pop("cls.predictions.bias")
        expected_gradients = from_native(gradients, BertEncoderForMaskedLM)
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, expected_gradients[name], **close)


def test_next_sentence_prediction_equals_transformers():
    native, ours = native_and_ours(BertForNextSentencePrediction, BertEncoderForNextSentencePrediction)
    batch = padded_batch()
    batch["labels"] = batch.pop("next_sentence_label")
    expected, actual = native(**batch), ours(**batch)
    torch.testing.assert_close(actual.logits, expected.logits, **close)
    torch.testing.assert_close(actual.loss, expected.loss, **close)
    expected.loss.backward()
    actual.loss.backward()
    assert_same_gradients(native, ours)


@pytest.mark.parametrize(
    ("num_labels", "problem_type", "labels"),
    [
        (3, None, torch.tensor([2, 0, 1])),
        (3, None, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])),
        (1, None, torch.tensor([0.5, -1.0, 3.0])),
        (2, "regression", torch.tensor([[0.5, 1.0], [-1.0, 0.0], [3.0, 2.0]])),
    ],
)
def test_sequence_classification_equals_transformers_for_every_problem_type(num_labels, problem_type, labels):
    settings = {"num_labels": num_labels, "problem_type": problem_type}
    native, ours = native_and_ours(BertForSequenceClassification, BertEncoderForSequenceClassification, **settings)
    batch = inputs_of(padded_batch())
    expected, actual = native(**batch, labels=labels), ours(**batch, labels=labels)
    torch.testing.assert_close(actual.to_tuple(), expected.to_tuple(), **close)
    assert ours.config.problem_type == native.config.problem_type


@implementations
def test_token_classification_equals_transformers(implementation):
    classes = (BertForTokenClassification, BertEncoderForTokenClassification)
    native, ours = native_and_ours(*classes, implementation, num_labels=5)
    batch = padded_batch()
    labels = torch.where(batch["labels"] >= 0, batch["labels"] % 5, -100)
    expected, actual = (model(**inputs_of(batch), labels=labels) for model in (native, ours))
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(actual.logits[real], expected.logits[real], **close)
    assert_same_loss_and_gradients(native, ours, expected.loss, actual.loss)


@implementations
def test_question_answering_equals_transformers(implementation):
    native, ours = native_and_ours(BertForQuestionAnswering, BertEncoderForQuestionAnswering, implementation)
    batch = inputs_of(padded_batch(lengths=(9, 9, 9)))  # transformers' softmax goes over the padding as well
    answers = {
        "start_positions": torch.tensor([3, 0, 5]),
        "end_positions": torch.tensor([8, 0, 12]),
    }  # 12 is not counted
    expected, actual = (model(**batch, **answers) for model in (native, ours))
    torch.testing.assert_close(actual.to_tuple(), expected.to_tuple(), **close)
    assert_same_loss_and_gradients(native, ours, expected.loss, actual.loss)


@implementations
def test_multiple_choice_equals_transformers(implementation):
    native, ours = native_and_ours(BertForMultipleChoice, BertEncoderForMultipleChoice, implementation)
    rows = inputs_of(padded_batch(lengths=(9, 4, 7, 6, 5, 8)))
    batch = {name: values.view(2, 3, 9) for name, values in rows.items()} | {"labels": torch.tensor([2, 0])}
    expected, actual = native(**batch), ours(**batch)
    torch.testing.assert_close(actual.to_tuple(), expected.to_tuple(), **close)
    assert_same_loss_and_gradients(native, ours, expected.loss, actual.loss)


@implementations
def test_packed_rows_equal_transformers_on_each_example_alone(implementation):
    native, ours = native_and_ours(BertForPreTraining, BertEncoderForPreTraining, implementation)
    rows, examples, starts = packed_batch()
    actual = ours(**rows)
    alone = [native(**{name: v for name, v in example.items() if name != "labels"}) for example in examples]
    assert actual.seq_relationship_logits.shape == (len(examples), 2)
    for start, pair, example in zip(starts.tolist(), actual.seq_relationship_logits, alone, strict=True):
        logits = example.prediction_logits[0]
        packed_logits = actual.prediction_logits.flatten(0, 1)[start : start + len(logits)]
        torch.testing.assert_close(packed_logits, logits, **close)
        torch.testing.assert_close(pair[None], example.seq_relationship_logits, **close)

    logits = torch.cat([example.prediction_logits[0] for example in alone])
    labels = torch.cat([example["labels"][0] for example in examples])
    pairs = torch.cat([example.seq_relationship_logits for example in alone])
    expected_loss = F.cross_entropy(logits, labels) + F.cross_entropy(pairs, rows["next_sentence_label"])
    torch.testing.assert_close(actual.loss, expected_loss, **close)
    expected_loss.backward()
    actual.loss.backward()
    assert_same_gradients(native, ours)


def small(model_class=BertEncoderForPreTraining, **settings):
    torch.manual_seed(0)
    return model_class(BertEncoderConfig(**{**SHAPE, **settings})).eval()


def loss_and_gradients(model, **batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@implementations
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("model_class", [BertEncoderForPreTraining, BertEncoderForMaskedLM])
def test_labels_at_positions_equal_dense_labels_in_loss_and_gradient(implementation, packed, norm_first, model_class):
    model = small(model_class, norm_first=norm_first)
    model.set_attn_implementation(implementation)
    batch = packed_batch()[0] if packed else padded_batch()
    if model_class is BertEncoderForMaskedLM:
        del batch["next_sentence_label"]
    dense = loss_and_gradients(model, **batch)
    sparse = loss_and_gradients(model, **at_label_positions(batch))
    torch.testing.assert_close(sparse, dense, atol=1e-6, rtol=1e-5)


def test_logits_are_computed_at_the_label_positions_alone():
    batch = at_label_positions(padded_batch())
    logits = small()(**batch).prediction_logits
    assert logits.shape == (len(batch["label_positions"]), SHAPE["vocab_size"])


def test_transformers_trainer_asks_for_the_labels_it_asks_of_its_own_bert():
    assert find_labels(BertEncoderForMaskedLM) == find_labels(BertForMaskedLM)
    assert find_labels(BertEncoderForPreTraining) == find_labels(BertForPreTraining)


def test_example_starts_padded_by_the_collator_change_neither_loss_nor_gradient():
    model = small()
    rows, _, starts = packed_batch()
    found = loss_and_gradients(model, **rows)
    rows["next_sentence_label"] = torch.cat([rows["next_sentence_label"], torch.tensor([-100, -100])])
    handed_over = loss_and_gradients(model, **rows, example_starts=torch.cat([starts, torch.tensor([0, 0])]))
    torch.testing.assert_close(handed_over, found, atol=1e-6, rtol=1e-5)


@implementations
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_changing_one_example_leaves_the_logits_of_its_neighbours_unchanged(implementation, data):
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    rows, examples, starts = packed_batch((tuple(lengths), (3, 4)))
    changed_example = data.draw(st.integers(0, len(lengths) - 1))
    start, length = int(starts[changed_example]), lengths[changed_example]
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][0, start : start + length] = 7
    changed["input_ids"][0, sum(lengths) :] = 9  # the padding too
    model = small()
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        before, after = model(**rows), model(**changed)
    others = rows["attention_mask"].flatten().bool()
    others[start : start + length] = False
    difference = (before.prediction_logits - after.prediction_logits).flatten(0, 1).abs().amax(dim=1)
    assert difference[others].max() <= 1e-6
    pairs = (before.seq_relationship_logits - after.seq_relationship_logits).abs().amax(dim=1)
    assert pairs[torch.arange(len(examples)) != changed_example].max() <= 1e-6


def test_changing_an_example_changes_its_own_logits():
    rows, _, _ = packed_batch()
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][0, 1] = 7
    model = small()
    difference = (model(**rows).prediction_logits - model(**changed).prediction_logits).abs().amax(dim=2)
    assert (difference[0, :5] > 1e-4).all()


@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_divided_by_the_counts_of_the_step_add_up_to_one_batch(as_tensor):
    model = small()
    batch = padded_batch()
    whole = loss_and_gradients(model, **batch)
    counts = [int((batch["labels"] != -100).sum()), len(batch["next_sentence_label"])]
    tokens, pairs = [torch.tensor(count) for count in counts] if as_tensor else counts
    parts = [
        loss_and_gradients(
            model, **{name: v[i] for name, v in batch.items()}, num_items_in_batch=tokens, num_pairs_in_batch=pairs
        )
        for i in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole[0])
    summed = {name: parts[0][1][name] + parts[1][1][name] for name in whole[1]}
    torch.testing.assert_close(summed, whole[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_without_labels_has_loss_0_and_finite_gradients(sparse):
    batch = padded_batch()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    batch["next_sentence_label"] = torch.full_like(batch["next_sentence_label"], -100)
    loss, gradients = loss_and_gradients(small(), **(at_label_positions(batch) if sparse else batch))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


@implementations
@pytest.mark.parametrize("packed", [False, True])
def test_a_row_of_nothing_but_padding_gives_no_nan(implementation, packed):
    rows, _, _ = packed_batch(((5, 3), ()))
    rows["next_sentence_label"] = rows["next_sentence_label"] if packed else torch.tensor([0, 1])
    if not packed:
        del rows["position_ids"]
    model = small()
    model.set_attn_implementation(implementation)
    loss, gradients = loss_and_gradients(model, **rows)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_each_term_of_the_loss_comes_with_its_labels():
    model, batch = small(), padded_batch()
    inputs = {name: v for name, v in batch.items() if name not in ("labels", "next_sentence_label")}
    outputs = model(**inputs)
    assert outputs.loss is outputs.mlm_loss is outputs.next_sentence_loss is None
    outputs = model(**inputs, labels=batch["labels"])
    assert outputs.loss is outputs.mlm_loss is not None and outputs.next_sentence_loss is None
    outputs = model(**inputs, next_sentence_label=batch["next_sentence_label"])
    assert outputs.loss is outputs.next_sentence_loss is not None and outputs.mlm_loss is None


@pytest.mark.parametrize("masked", [True, False])
def test_positions_written_out_equal_positions_left_out(masked):
    model, batch = small(), padded_batch()
    if not masked:
        del batch["attention_mask"]
    for position_ids in (torch.arange(9)[None], torch.arange(9).expand(3, 9)):
        torch.testing.assert_close(
            loss_and_gradients(model, **batch, position_ids=position_ids),
            loss_and_gradients(model, **batch),
            atol=1e-6,
            rtol=1e-5,
        )


def test_a_packed_row_may_be_longer_than_the_longest_example():
    model = small(BertEncoderModel)
    position_ids = torch.arange(20).repeat(2)[None]  # 40 positions, max_position_embeddings is 24
    states = model(torch.arange(40)[None], position_ids=position_ids).last_hidden_state
    alone = model(torch.arange(20, 40)[None]).last_hidden_state
    torch.testing.assert_close(states[:, 20:], alone, **close)


def test_an_example_too_long_is_refused_by_name():
    with pytest.raises(ValueError, match="rows of 25 tokens are longer than max_position_embeddings 24"):
        small(BertEncoderModel)(torch.zeros(1, 25, dtype=torch.long))


def test_ids_and_embeddings_together_or_neither_are_refused():
    model = small(BertEncoderModel)
    for inputs in ({}, {"input_ids": torch.ones(1, 2, dtype=torch.long), "inputs_embeds": torch.ones(1, 2, 32)}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**inputs)


def test_masked_lm_has_no_pooler():
    assert not [name for name in small(BertEncoderForMaskedLM).state_dict() if "pooler" in name]


def test_the_output_bias_is_resized_with_the_vocabulary():
    model = small(BertEncoderForMaskedLM)
    bias = model.lm_head.decoder.bias.clone()
    model.resize_token_embeddings(60)
    assert model.lm_head.decoder.bias.shape == (60,)
    torch.testing.assert_close(model.lm_head.decoder.bias[:53], bias)


def test_dropout_is_on_in_training_only():
    model = small(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    batch = padded_batch()
    assert torch.equal(model(**batch).loss, model(**batch).loss)
    model.train()
    assert not torch.equal(model(**batch).loss, model(**batch).loss)


def test_pretraining_compiles_in_one_graph_when_the_collator_hands_everything_over():
    torch._dynamo.reset()
    model = small()
    rows, _, starts = packed_batch()
    batch = {**at_label_positions(rows), "example_starts": starts}
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden_size": 30}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it must be at least 1"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob is 1.5"),
        ({"hidden_act": "gelo"}, "unknown hidden_act 'gelo'; choose from gelu"),
        ({"pad_token_id": 53}, "pad_token_id is 53; it must be below vocab_size 53"),
        ({"pooling": "sum"}, "unknown pooling 'sum'; choose from cls, last, mean, max, concat$"),
        ({"initial_attention": "neighbors"}, "unknown initial_attention .neighbors.; choose from random, neighbours"),
    ],
)
def test_a_config_no_model_can_be_built_from_is_refused_by_name(setting, message):
    with pytest.raises(Exception, match=message):
        BertEncoderConfig(**{**SHAPE, **setting})


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_layers_are_torchs_encoder_with_norms_after_each_sum_or_before_each_part(norm_first):
    model = small(BertEncoderModel, norm_first=norm_first)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    eps, width = model.config.layer_norm_eps, SHAPE["hidden_size"]
    layer = torch.nn.TransformerEncoderLayer(
        width, SHAPE["num_attention_heads"], SHAPE["intermediate_size"], 0.0, "gelu", eps, True, norm_first
    )
    final_norm = torch.nn.LayerNorm(width, eps) if norm_first else None
    oracle = torch.nn.TransformerEncoder(layer, SHAPE["num_hidden_layers"], final_norm, enable_nested_tensor=False)
    renamed = {
        "attention.qkv.": "self_attn.in_proj_",
        "attention.output": "self_attn.out_proj",
        "attention_norm": "norm1",
        "feed_forward.intermediate": "linear1",
        "feed_forward.output": "linear2",
        "feed_forward_norm": "norm2",
        "final_norm": "norm",
    }
    weights = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(("layers.", "final_norm.")):
            for ours, theirs in renamed.items():
                name = name.replace(ours, theirs)
            weights[name] = tensor
    oracle.load_state_dict(weights)
    batch = padded_batch()
    expected = oracle.eval()(
        model.embeddings(batch["input_ids"], batch["token_type_ids"], None, None),
        src_key_padding_mask=batch["attention_mask"] == 0,
    )
    real = batch["attention_mask"] != 0
    torch.testing.assert_close(model(**inputs_of(batch)).last_hidden_state[real], expected[real], **close)


def test_presets_are_the_published_sizes():
    published = {
        "tiny": 4.4,
        "mini": 11.3,
        "mini-pre-norm": 11.3,
        "small": 29.1,
        "base": 110.1,
        "large": 340,
    }  # Turc et al., Devlin et al.
    millions = {}
    for name, preset in BERT_PRESETS.items():
        with torch.device("meta"):
            model = BertEncoderModel(BertEncoderConfig(**preset))
        millions[name] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(published, rel=0.02)
