"""Recurrent encoder-decoders against the papers' equations, with torch's modules and cells; attention, padding, generation."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from bertkit.models import build_config, build_model
from bertkit.models.modeling_recurrent import TORCH_CELLS
from bertkit.models.modeling_rnn_seq2seq import ATTENTION_TYPES
from bertkit.models.modeling_state import StateCache

CELLS_OF_ONE_STEP = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
every_attention = pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
every_real_attention = pytest.mark.parametrize("attention_type", ATTENTION_TYPES[1:])
every_kind = pytest.mark.parametrize(
    ("attention_type", "cell_type"), list(itertools.product(ATTENTION_TYPES, TORCH_CELLS))
)


def small(attention_type="additive", cell_type="gru", **overrides):
    """A small model in evaluation mode, with weights large enough to matter."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 29,
        "embedding_size": 6,
        "hidden_size": 8,
        "encoder_hidden_size": 8 if attention_type == "dot" else 10,
        "hidden_dropout_prob": 0.0,
        "initializer_range": 0.8,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    kind = {"attention_type": attention_type, "cell_type": cell_type}
    return build_model(
        build_config("rnn_seq2seq", "tiny", **{**settings, **kind, **overrides}), "AutoModelForSeq2SeqLM"
    ).eval()


def a_batch(pairs=3, source=7, target=5):
    """Source and target tokens, no padding."""
    return torch.randint(3, 29, (pairs, source)), torch.randint(3, 29, (pairs, target))


def by_the_equations(model, source_ids, target_ids):
    """Scores of one-layer models without padding, step by step: (batch, seq, vocab)."""
    config, decoder, encoder = model.config, model.model.decoder, model.model.encoder
    embed = encoder.embeddings.word_embeddings.weight
    size = config.encoder_width // (2 if config.bidirectional else 1)
    reader = TORCH_CELLS[config.cell_type](
        config.embedding_size, size, batch_first=True, bidirectional=config.bidirectional
    ).to(embed.dtype)
    reader.load_state_dict(encoder.layers[0].cell.state_dict())
    values, last = reader(embed[source_ids])
    last = last[0] if isinstance(last, tuple) else last  # (directions, batch, size)
    summary = torch.cat(list(last), dim=-1)
    weights = decoder.layers[0].cell.state_dict()
    writer = CELLS_OF_ONE_STEP[config.cell_type](weights["weight_ih_l0"].shape[1], config.hidden_size).to(embed.dtype)
    writer.load_state_dict({name.removesuffix("_l0"): value for name, value in weights.items()})
    h = decoder.bridge(summary).tanh()
    c = decoder.cell_bridge(summary) if config.cell_type == "lstm" else None
    scores = []
    for ids in target_ids.unbind(1):
        embedded = embed[ids]
        context = summary
        if config.attention_type == "additive":
            attention = decoder.layers[0].attention
            energies = [
                (attention.score.weight * torch.tanh(attention.query(h) + decoder.key(value))).sum(dim=-1)
                for value in values.unbind(1)
            ]
            context = (torch.stack(energies, dim=1).softmax(dim=1)[..., None] * values).sum(dim=1)
        is_fed = config.attention_type in ("none", "additive")
        read = torch.cat([embedded, context], dim=-1) if is_fed else embedded
        state = writer(read, h if c is None else (h, c))
        h, c = state if isinstance(state, tuple) else (state, None)
        if not is_fed:
            energies = [(h * decoder.key(value)).sum(dim=-1) for value in values.unbind(1)]
            context = (torch.stack(energies, dim=1).softmax(dim=1)[..., None] * values).sum(dim=1)
        readout = decoder.readout(torch.cat([h, context, embedded] if is_fed else [h, context], dim=-1)).tanh()
        scores.append(model.lm_head(readout))
    return torch.stack(scores, dim=1)


@every_kind
@pytest.mark.parametrize("bidirectional", [True, False])
def test_scores_and_gradients_equal_the_equations(attention_type, cell_type, bidirectional):
    model = small(attention_type, cell_type, bidirectional=bidirectional).double()
    source_ids, target_ids = a_batch()
    results = []
    for scores in (
        model(source_ids, decoder_input_ids=target_ids).logits,
        by_the_equations(model, source_ids, target_ids),
    ):
        # The oracle's recurrent weights are copies: the gradient is taken of what stands before and behind them.
        parts = [model.model.decoder.readout.weight, model.lm_head.decoder.weight, model.model.decoder.bridge.weight]
        results.append([scores, *torch.autograd.grad(scores.sin().sum(), parts)])
    torch.testing.assert_close(*results)


@every_kind
def test_gradients_through_both_recurrences_are_those_of_finite_differences(attention_type, cell_type):
    model = small(attention_type, cell_type, decoder_layers=2, num_hidden_layers=2).double()
    source_ids, target_ids = a_batch(2, 3, 3)
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])
    names = ["model.encoder.layers.0.cell.weight_hh_l0", "model.decoder.layers.0.cell.weight_hh_l0"]
    parameters = dict(model.named_parameters())
    weights = torch.randn(2, 3, 29).double()

    def loss(values):
        inputs = {"input_ids": source_ids, "attention_mask": mask, "decoder_input_ids": target_ids}
        return (torch.func.functional_call(model, values, (), inputs).logits * weights).sum()

    loss(parameters).backward()
    for name in names:
        direction = torch.randn_like(parameters[name])
        ahead, behind = (
            loss({**parameters, name: parameters[name].detach() + step * direction}) for step in (1e-6, -1e-6)
        )
        expected = (ahead - behind) / 2e-6
        torch.testing.assert_close((parameters[name].grad * direction).sum(), expected, rtol=1e-5, atol=1e-7)


@every_real_attention
def test_attention_weights_sum_to_one_on_real_positions_and_are_zero_on_padding(attention_type):
    model, (source_ids, target_ids) = small(attention_type), a_batch()
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]])
    (weights,) = model(
        source_ids, attention_mask=mask, decoder_input_ids=target_ids, output_attentions=True
    ).cross_attentions
    assert weights.shape == (3, 1, 5, 7)
    real = mask[:, None, None].expand_as(weights) == 1
    torch.testing.assert_close((weights * real).sum(dim=-1), torch.ones(3, 1, 5))
    assert (weights[~real] == 0).all() and (weights[real] > 0).all()
    config_says = small(attention_type)
    config_says.config.output_attentions = True
    outputs = config_says(source_ids, attention_mask=mask, decoder_input_ids=target_ids)
    torch.testing.assert_close(outputs.cross_attentions[0], weights)


def test_without_attention_there_are_no_weights():
    model, (source_ids, target_ids) = small("none"), a_batch()
    assert model(source_ids, decoder_input_ids=target_ids, output_attentions=True).cross_attentions is None


@every_kind
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_source_changes_nothing(attention_type, cell_type, side):
    model, (source_ids, target_ids) = small(attention_type, cell_type, num_hidden_layers=2), a_batch()
    expected = [model(source_ids[:, :length], decoder_input_ids=target_ids).logits[0] for length in (7, 4)]
    padded, mask = source_ids[:1].repeat(2, 1), torch.ones(2, 7, dtype=torch.long)
    short = slice(3, None) if side == "left" else slice(0, 4)
    padded[1], mask[1] = 0, 0
    padded[1, short], mask[1, short] = source_ids[0, :4], 1
    logits = model(padded, attention_mask=mask, decoder_input_ids=target_ids[:1].repeat(2, 1)).logits
    torch.testing.assert_close(logits, torch.stack(expected))


@every_kind
def test_padding_before_the_target_changes_nothing(attention_type, cell_type):
    model, (source_ids, target_ids) = small(attention_type, cell_type, decoder_layers=2), a_batch()
    mask = F.pad(torch.ones_like(target_ids), (3, 0))
    padded = model(source_ids, decoder_input_ids=F.pad(target_ids, (3, 0)), decoder_attention_mask=mask, use_cache=True)
    expected = model(source_ids, decoder_input_ids=target_ids, use_cache=True)
    torch.testing.assert_close(padded.logits[:, 3:], expected.logits)
    torch.testing.assert_close(padded.past_key_values.tensors(), expected.past_key_values.tensors())


@every_attention
def test_a_source_of_nothing_but_padding_gives_finite_scores(attention_type):
    model, (source_ids, target_ids) = small(attention_type), a_batch()
    mask = torch.zeros_like(source_ids)
    assert model(source_ids, attention_mask=mask, decoder_input_ids=target_ids).logits.isfinite().all()


@every_kind
def test_a_target_read_token_by_token_gives_the_scores_of_the_whole(attention_type, cell_type):
    model, (source_ids, target_ids) = small(attention_type, cell_type, decoder_layers=2), a_batch()
    expected = model(source_ids, decoder_input_ids=target_ids).logits
    encoded, state, scores = model.model.encoder(source_ids), None, []
    for ids in target_ids.split([2, 1, 2], dim=1):
        outputs = model(encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=state, use_cache=True)
        state = outputs.past_key_values
        scores.append(outputs.logits)
    torch.testing.assert_close(torch.cat(scores, dim=1), expected)
    assert state.get_seq_length() == 5 and len(state) == model.config.decoder_layers


@every_attention
def test_a_state_put_together_from_its_tensors_makes_of_the_source_anew_what_it_lacks(attention_type):
    model, (source_ids, target_ids) = small(attention_type, decoder_layers=2), a_batch()
    expected = model(source_ids, decoder_input_ids=target_ids).logits[:, 3:]
    state = model(source_ids, decoder_input_ids=target_ids[:, :3]).past_key_values
    again = StateCache.from_tensors(state.tensors())
    actual = model(source_ids, decoder_input_ids=target_ids[:, 3:], past_key_values=again).logits
    torch.testing.assert_close(actual, expected)


def test_the_state_of_other_cells_is_refused():
    source_ids, target_ids = a_batch()
    state = small(cell_type="lstm")(source_ids, decoder_input_ids=target_ids).past_key_values
    with pytest.raises(ValueError, match="2 tensors, which are no state of this model's layers, 1 with h alone"):
        small(cell_type="gru")(source_ids, decoder_input_ids=target_ids, past_key_values=state)


@every_attention
@pytest.mark.parametrize(
    "settings", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"do_sample": True}]
)
def test_generation_with_the_state_as_cache_equals_generation_without(attention_type, settings):
    model, (source_ids, _) = small(attention_type, decoder_layers=2), a_batch()
    mask = torch.ones_like(source_ids)
    source_ids[0, 5:], mask[0, 5:] = 0, 0
    generated = []
    for use_cache in (True, False):
        torch.manual_seed(1)
        arguments = {"attention_mask": mask, "max_new_tokens": 7, "use_cache": use_cache, **settings}
        generated.append(model.generate(source_ids, **arguments))
    assert torch.equal(*generated)
    assert len(generated[0].unique()) > 3


def test_generation_makes_the_keys_once_and_reads_one_token_a_step():
    model, (source_ids, _) = small(eos_token_id=None), a_batch()
    lengths, keys = [], []
    model.model.decoder.layers[0].register_forward_hook(lambda _, args, __: lengths.append(args[0].shape[1]))
    model.model.decoder.key.register_forward_hook(lambda *_: keys.append(1))
    model.generate(source_ids, num_beams=2, max_new_tokens=6)
    assert lengths == [1] * 6 and len(keys) == 1


def test_labels_are_the_target_and_are_not_shifted_twice():
    model, (source_ids, target_ids) = small(), a_batch()
    labels = target_ids.clone()
    labels[0, 3:] = -100
    decoder_input_ids = torch.cat([torch.ones(3, 1, dtype=torch.long), target_ids[:, :-1]], dim=1)
    outputs = model(source_ids, labels=labels)
    logits = model(source_ids, decoder_input_ids=decoder_input_ids).logits
    torch.testing.assert_close(outputs.loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    torch.testing.assert_close(outputs.logits[labels != -100], logits[labels != -100])
    divided = model(source_ids, labels=labels, num_items_in_batch=26)
    torch.testing.assert_close(divided.loss, outputs.loss * 13 / 26)
    assert outputs.past_key_values is None


def test_labels_are_smoothed_in_training_alone():
    model, (source_ids, labels) = small(label_smoothing=0.2), a_batch()
    plain = model(source_ids, labels=labels)
    expected = F.cross_entropy(plain.logits.flatten(0, 1), labels.flatten(), label_smoothing=0.2)
    torch.testing.assert_close(model.train()(source_ids, labels=labels).loss, expected)
    assert not torch.allclose(plain.loss, expected)


def test_encoder_outputs_stand_in_for_the_source():
    model, (source_ids, target_ids) = small(), a_batch()
    expected = model(source_ids, decoder_input_ids=target_ids)
    for encoded in (
        model.model.encoder(source_ids),
        BaseModelOutput(expected.encoder_last_hidden_state),
        (expected.encoder_last_hidden_state,),
    ):
        torch.testing.assert_close(model(encoder_outputs=encoded, decoder_input_ids=target_ids).logits, expected.logits)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_shared_and_tied_as_the_config_says(shared, tied, tmp_path):
    model = small(share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    for either in (model, type(model).from_pretrained(tmp_path)):
        for size in (29, 33):
            either.resize_token_embeddings(size)
            source, target = (part.embeddings.word_embeddings for part in (either.model.encoder, either.model.decoder))
            scores = either.lm_head.decoder
            assert (source.weight is target.weight) is shared
            assert (scores.weight is target.weight) is tied
            assert {len(source.weight), len(target.weight), len(scores.weight), len(scores.bias)} == {size}


@pytest.mark.parametrize("cell_type", TORCH_CELLS)
def test_every_dropout_follows_the_global_generator(cell_type):
    model = small("additive", cell_type, num_hidden_layers=2, hidden_dropout_prob=0.5).train()
    source_ids, labels = a_batch()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model(source_ids, labels=labels).loss)
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell_type": "peephole_lstm"}, "unknown cell_type 'peephole_lstm'; choose from rnn, gru, lstm"),
        ({"attention_type": "luong"}, "unknown attention_type 'luong'; choose from none, additive, dot, general"),
        ({"encoder_hidden_size": 9}, "the encoder's width is 9; with two directions it must be even"),
        (
            {"attention_type": "dot", "encoder_hidden_size": 10},
            "encoder_hidden_size 10 is not hidden_size 8; make them",
        ),
        ({"decoder_layers": 0}, "decoder_layers is 0; it must be at least 1"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_config("rnn_seq2seq", "tiny", vocab_size=50, hidden_size=8, **settings)


def test_labels_without_a_start_token_are_refused():
    model, (source_ids, labels) = small(bos_token_id=None), a_batch()
    with pytest.raises(ValueError, match="the config has neither decoder_start_token_id nor bos_token_id"):
        model(source_ids, labels=labels)
