"""RNN language models against torch's modules and the equations; packing, state, dropout and generation."""

import statistics
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from bertkit.models import build_config, build_model, load_model, modeling_linear, modeling_lstm_variants
from bertkit.models.modeling_lstm_variants import CoupledLstm, PeepholeLstm
from bertkit.models.modeling_recurrent import CELLS, TORCH_CELLS, LockedDropout
from bertkit.models.modeling_state import StateCache

every_cell = pytest.mark.parametrize("cell_type", CELLS)
every_variant = pytest.mark.parametrize("variant", [PeepholeLstm, CoupledLstm])


def small(cell_type="lstm", head="AutoModelForCausalLM", **overrides):
    """A small model in evaluation mode whose layers have unequal widths, with weights large enough to matter."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 23,
        "embedding_size": 6,
        "hidden_size": 8,
        "hidden_sizes": [10, 8],
        "hidden_dropout_prob": 0.0,
        "initializer_range": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return build_model(build_config("rnn", "tiny", cell_type=cell_type, **{**settings, **overrides}), head).eval()


def state_of(outputs):
    return outputs.past_key_values.tensors()


def by_the_equations(cell, inputs, h, c):
    """Both papers' equations, step by step: inputs (batch, seq, input), h and c (batch, hidden)."""
    gates_of = cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_ih_l0
    outputs = []
    for x in inputs.unbind(1):
        parts = (x @ gates_of[0].T + h @ gates_of[1].T + gates_of[2]).chunk(cell.num_gates, dim=1)
        if isinstance(cell, CoupledLstm):
            f, g, o = parts[0].sigmoid(), parts[1].tanh(), parts[2].sigmoid()
            c = f * c + (1 - f) * g
        else:
            p_i, p_f, p_o = cell.weight_peephole_l0
            i, f = (parts[0] + p_i * c).sigmoid(), (parts[1] + p_f * c).sigmoid()
            c = f * c + i * parts[2].tanh()
            o = (parts[3] + p_o * c).sigmoid()
        h = o * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c


@pytest.mark.parametrize("cell_type", TORCH_CELLS)
def test_outputs_loss_gradients_and_state_equal_torch_modules_on_copied_weights(cell_type):
    model = small(cell_type, tie_word_embeddings=False)
    reference = nn.ModuleList([TORCH_CELLS[cell_type](i, o, batch_first=True) for i, o in ((6, 10), (10, 8))])
    embeddings, scores = nn.Embedding(23, 6, padding_idx=0), nn.Linear(8, 23)
    parts = [
        model.model.embeddings.word_embeddings,
        *(layer.cell for layer in model.model.layers),
        model.lm_head.decoder,
    ]
    for ours, theirs in zip(parts, [embeddings, *reference, scores], strict=True):
        theirs.load_state_dict(ours.state_dict())
    input_ids = torch.randint(1, 23, (3, 7))
    outputs = model(input_ids, labels=input_ids)
    states, ends = embeddings(input_ids), []
    for layer in reference:
        states, end = layer(states)
        ends += [part[0] for part in (end if isinstance(end, tuple) else [end])]
    loss = F.cross_entropy(scores(states)[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    torch.testing.assert_close(outputs.logits, scores(states))
    torch.testing.assert_close(outputs.loss, loss)
    torch.testing.assert_close(state_of(outputs), ends)
    outputs.loss.backward()
    loss.backward()
    for ours, theirs in zip(parts, [embeddings, *reference, scores], strict=True):
        for (name, expected), actual in zip(theirs.named_parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(actual.grad, expected.grad, msg=name)


@every_variant
def test_variants_equal_their_equations_with_gradients_in_double_precision(variant):
    cell = variant(5, 4).double()
    inputs, state = torch.randn(3, 6, 5).double(), torch.randn(2, 3, 4).double()
    weights = torch.randn(3, 6, 4).double()
    results = []
    for run in ("ours", "equations"):
        x, h, c = (value.clone().requires_grad_() for value in (inputs, *state))
        if run == "ours":
            outputs, (last_h, last_c) = cell(x, (h[None], c[None]))
            last_h, last_c = last_h[0], last_c[0]
        else:
            outputs, last_h, last_c = by_the_equations(cell, x, h, c)
        loss = (outputs * weights).sum() + last_h.square().sum() + last_c.sin().sum()
        results.append([outputs, last_h, last_c, *torch.autograd.grad(loss, [x, h, c, *cell.parameters()])])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@every_variant
def test_gradients_of_variants_over_sequences_of_several_lengths_pass_gradcheck(variant):
    cell = variant(3, 2).double()
    names = [name for name, _ in cell.named_parameters()]

    def run(h, c, first, second, third, *parameters):
        arguments = (pack_sequence([first, second, third]), (h, c))
        weights = dict(zip(names, parameters, strict=True))
        outputs, (last_h, last_c) = torch.func.functional_call(cell, weights, arguments)
        return outputs.data, last_h, last_c

    state = [torch.randn(1, 3, 2).double() for _ in range(2)]
    sequences = [torch.randn(length, 3).double() for length in (4, 2, 2)]
    values = [value.detach().requires_grad_() for value in (*state, *sequences, *cell.parameters())]
    assert torch.autograd.gradcheck(run, values)


def gradients_of(cell, sequences, state, direction):
    """Outputs and gradients of everything, for sequences of several lengths."""
    values = [value.detach().requires_grad_() for value in (*sequences, *state)]
    outputs, (last_h, last_c) = cell(pack_sequence(values[:-2]), tuple(values[-2:]))
    results = [outputs.data, last_h, last_c]
    loss = (outputs.data * direction).sum() + last_h.square().sum() + last_c.sin().sum()
    return results + list(torch.autograd.grad(loss, [*values, *cell.parameters()]))


needs_onednn = pytest.mark.skipif(not modeling_linear.HAS_ONEDNN, reason="torch was built without oneDNN")
several_lengths = [(40,) * 6, (30, 30, 29, 17, 12, 5, 1)]


def long_sequences(variant, lengths):
    torch.manual_seed(0)
    cell = variant(48, 192)
    sequences, state = [torch.randn(length, 48) for length in lengths], torch.randn(2, 1, len(lengths), 192)
    return cell, sequences, state, torch.randn(sum(lengths), 192)


def spied(monkeypatch):
    """Collects whether oneDNN's products were taken."""
    choices, choose = [], modeling_lstm_variants._is_quicker
    monkeypatch.setattr(
        modeling_lstm_variants, "_is_quicker", lambda *args: choices.append(choose(*args)) or choices[-1]
    )
    return choices


@needs_onednn
@every_variant
@pytest.mark.parametrize("lengths", several_lengths, ids=str)
def test_products_of_onednn_give_outputs_and_gradients_of_double_precision(variant, lengths, monkeypatch):
    cell, sequences, state, direction = long_sequences(variant, lengths)
    choices = spied(monkeypatch)
    got = gradients_of(cell, sequences, state, direction)
    doubles = [[value.double() for value in values] for values in (sequences, state)]
    expected = gradients_of(cell.double(), *doubles, direction.double())
    assert choices == [True, False]
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=2e-6 * theirs.abs().max().item() + 1e-6)


@needs_onednn
@pytest.mark.parametrize("lengths", several_lengths, ids=str)
@pytest.mark.parametrize("with_state", [True, False])
def test_sequences_of_several_lengths_go_through_an_lstm_as_through_torchs(lengths, with_state, monkeypatch):
    cell, sequences, state, direction = long_sequences(modeling_lstm_variants.Lstm, lengths)
    plain = nn.LSTM(48, 192).double()
    plain.load_state_dict(cell.state_dict())
    taken, take = [], modeling_lstm_variants.LstmRecurrence.apply
    monkeypatch.setattr(modeling_lstm_variants.LstmRecurrence, "apply", lambda *args: taken.append(1) or take(*args))
    if with_state:
        got = gradients_of(cell, sequences, state, direction)
        doubles = [[value.double() for value in values] for values in (sequences, state)]
        expected = gradients_of(plain, *doubles, direction.double())
    else:
        packed = pack_sequence(sequences)
        got, expected = [cell(packed)[0].data], [plain(packed.double())[0].data]
    assert len(taken) == (len(set(lengths)) > 1)  # those of one length have a kernel
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=2e-6 * theirs.abs().max().item() + 1e-6)


@needs_onednn
@every_variant
def test_products_of_onednn_do_not_depend_on_where_weights_lie(variant):
    cell, sequences, state, direction = long_sequences(variant, several_lengths[1])
    expected = gradients_of(cell, sequences, state, direction)
    for offset in (1, 3, 4, 8):
        for parameter in cell.parameters():
            moved = torch.empty(parameter.numel() + 16)[offset : offset + parameter.numel()]
            parameter.data = moved.view_as(parameter).copy_(parameter.data)
        for ours, theirs in zip(gradients_of(cell, sequences, state, direction), expected, strict=True):
            assert torch.equal(ours, theirs)


@needs_onednn
def test_products_of_onednn_are_left_where_they_do_not_pay_or_do_not_apply(monkeypatch):
    cell, inputs, choices = CoupledLstm(8, 200), torch.randn(4, 20, 8), spied(monkeypatch)
    cell(inputs)
    cell(inputs[:3])
    CoupledLstm(8, 190)(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert cell(inputs)[0].dtype == torch.bfloat16
    cell.double()(inputs.double())
    assert choices == [True, False, False, False, False]


@every_variant
@pytest.mark.parametrize("size", [4, 200])
def test_inputs_and_weights_without_a_gradient_get_none(variant, size):
    cell, inputs = variant(8, size), torch.randn(4, 20, 8)
    cell(inputs)[0].sum().backward()
    assert inputs.grad is None and all(parameter.grad is not None for parameter in cell.parameters())
    frozen, inputs = variant(8, size).requires_grad_(False), inputs.requires_grad_()
    frozen(inputs)[0].sum().backward()
    assert inputs.grad is not None and all(parameter.grad is None for parameter in frozen.parameters())


@pytest.mark.slow  # measures time, which a busy machine spoils
@needs_onednn
@pytest.mark.parametrize(("variant", "size"), [(CoupledLstm, 128), (CoupledLstm, 256), (PeepholeLstm, 256)])
def test_a_step_takes_at_most_one_and_a_half_times_that_of_torchs_lstm(variant, size):
    inputs = torch.randn(32, 64, size, requires_grad=True)
    sides = (variant(size, size), nn.LSTM(size, size, batch_first=True))

    def seconds(cell):
        begin = time.process_time()
        cell(inputs)[0].sum().backward()
        return time.process_time() - begin

    rounds = [[seconds(cell) for cell in sides] for _ in range(11)]  # in turns, so that both meet the same load
    assert statistics.median(ours / theirs for ours, theirs in rounds[1:]) < 1.5


def test_a_peephole_lstm_that_sees_nothing_is_an_lstm():
    cell, reference = PeepholeLstm(5, 4), nn.LSTM(5, 4, batch_first=True)
    reference.load_state_dict({**cell.state_dict(), "bias_hh_l0": torch.zeros(16)}, strict=False)
    nn.init.zeros_(cell.weight_peephole_l0)
    inputs = torch.randn(3, 6, 5)
    torch.testing.assert_close(cell(inputs), reference(inputs))


@every_cell
def test_cells_come_near_full_precision_under_autocast_and_in_bfloat16(cell_type):
    model = small(cell_type)
    input_ids = torch.randint(1, 23, (2, 5))
    expected = model(input_ids, labels=input_ids)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = model(input_ids, labels=input_ids)
    under_autocast.loss.backward()
    torch.testing.assert_close(under_autocast.loss, expected.loss, rtol=0.05, atol=0.05)
    halved = model.to(torch.bfloat16)(input_ids, labels=input_ids)
    torch.testing.assert_close(halved.loss, expected.loss, rtol=0.05, atol=0.05)


@every_cell
def test_packed_padded_and_continued_rows_equal_every_example_read_alone(cell_type):
    model = small(cell_type)
    before = model(torch.randint(1, 23, (4, 3))).past_key_values.tensors()
    lengths = [[3, 4], [2, 1, 2], [5], []]  # of the examples in each row
    is_continued = [True, False, True, True]
    input_ids, mask = torch.zeros(4, 9, dtype=torch.long), torch.zeros(4, 9, dtype=torch.long)
    position_ids = torch.zeros(4, 9, dtype=torch.long)
    expected, ends = torch.zeros(4, 9, 23), [tensor.clone() for tensor in before]
    for row, parts in enumerate(lengths):
        place = row  # padding on both sides
        for part, length in enumerate(parts):
            goes_on = is_continued[row] and part == 0
            here = slice(place, place + length)
            ids = torch.randint(1, 23, (1, length))
            input_ids[row, here], mask[row, here] = ids, 1
            position_ids[row, here] = torch.arange(length) + (7 if goes_on else 0)
            state = StateCache.from_tensors([tensor[row : row + 1] for tensor in before]) if goes_on else None
            alone = model(ids, past_key_values=state)
            expected[row, here] = alone.logits[0].detach()
            for end, last in zip(ends, state_of(alone), strict=True):
                end[row] = last[0]
            place += length
    outputs = model(
        input_ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=StateCache.from_tensors(before),
    )
    torch.testing.assert_close(outputs.logits[mask == 1], expected[mask == 1])
    torch.testing.assert_close(state_of(outputs), ends)


@every_cell
def test_a_text_read_in_pieces_gives_the_scores_and_the_gradient_of_the_whole(cell_type):
    model = small(cell_type)
    input_ids = torch.randint(1, 23, (2, 9))
    whole = model(input_ids, output_hidden_states=True)
    state, pieces = None, []
    for piece in input_ids.split([4, 1, 4], dim=1):
        outputs = model(piece, past_key_values=state)
        state = StateCache.from_tensors(outputs.past_key_values.tensors())
        pieces.append(outputs.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole.logits)
    torch.testing.assert_close(state.tensors(), state_of(whole))
    weight = model.model.layers[0].cell.weight_hh_l0
    gradients = [torch.autograd.grad(logits[:, -1].square().sum(), weight) for logits in (whole.logits, pieces[-1])]
    torch.testing.assert_close(*gradients)


def test_a_row_whose_first_position_is_0_does_not_go_on():
    model = small()
    input_ids, past = torch.randint(1, 23, (2, 4)), torch.randint(1, 23, (2, 3))
    position_ids = torch.stack([torch.arange(4), torch.arange(3, 7)])
    outputs = model(input_ids, position_ids=position_ids, past_key_values=model(past).past_key_values)
    torch.testing.assert_close(outputs.logits[0], model(input_ids[:1]).logits[0])
    torch.testing.assert_close(outputs.logits[1], model(torch.cat([past, input_ids], dim=1)).logits[1, 3:])


@pytest.mark.parametrize(("cell_type", "other"), [("gru", "lstm"), ("peephole_lstm", "rnn")])
def test_the_state_of_other_cells_is_refused(cell_type, other):
    input_ids = torch.randint(1, 23, (2, 3))
    state = small(other)(input_ids).past_key_values
    with pytest.raises(ValueError, match="which are no state of this model's layers, 2 with"):
        small(cell_type)(input_ids, past_key_values=state)


def test_rows_of_nothing_but_padding_keep_their_state():
    model, nothing = small(), torch.zeros(2, 4, dtype=torch.long)
    before = model(torch.randint(1, 23, (2, 3))).past_key_values.tensors()
    after = model(nothing, attention_mask=nothing, past_key_values=StateCache.from_tensors(before))
    torch.testing.assert_close(state_of(after), before)
    assert after.logits.isfinite().all()
    assert all((tensor == 0).all() for tensor in state_of(model(nothing, attention_mask=nothing)))


def test_labels_are_shifted_within_examples_and_shift_labels_are_taken_as_they_are():
    model, input_ids = small(), torch.randint(1, 23, (1, 6))
    position_ids = torch.tensor([[0, 1, 2, 0, 1, 2]])
    shifted = torch.tensor([[*input_ids[0, 1:3], -100, *input_ids[0, 4:], -100]])
    inputs = {"input_ids": input_ids, "position_ids": position_ids}
    loss = model(**inputs, labels=input_ids).loss
    torch.testing.assert_close(loss, model(**inputs, shift_labels=shifted).loss)
    torch.testing.assert_close(loss * 4 / 10, model(**inputs, shift_labels=shifted, num_items_in_batch=10).loss)


def test_locked_dropout_drops_the_same_units_in_all_steps_of_a_row_and_others_in_other_rows():
    dropped = LockedDropout(0.5)(torch.ones(8, 5, 64))
    assert (dropped == dropped[:, :1]).all() and not (dropped == dropped[:1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_embedding_dropout_drops_a_token_wherever_it_stands():
    model = small(embedding_dropout_prob=0.5).train()
    input_ids = torch.arange(1, 23).repeat(3, 1)
    embedded = model.model.embeddings(input_ids)
    dropped = (embedded == 0).all(dim=-1)
    assert (dropped == dropped[:1]).all() and 0 < dropped[0].sum() < 22
    expected = 2 * model.model.embeddings.word_embeddings(input_ids)
    torch.testing.assert_close(embedded[~dropped], expected[~dropped])


@every_cell
def test_weight_dropout_drops_weights_from_state_to_state_and_nothing_else(cell_type):
    layer = small(cell_type, weight_dropout_prob=0.999).train().model.layers[0]
    inputs = torch.randn(2, 5, 6)
    outputs = layer(inputs)[0]
    nn.init.zeros_(layer.cell.weight_hh_l0)
    torch.testing.assert_close(layer.eval()(inputs)[0], outputs, rtol=0, atol=0)
    assert layer.train()(inputs)[0].requires_grad


@pytest.mark.parametrize(
    "place",
    [
        "embedding_dropout_prob",
        "input_dropout_prob",
        "hidden_dropout_prob",
        "output_dropout_prob",
        "weight_dropout_prob",
    ],
)
def test_every_dropout_acts_in_training_alone_and_follows_the_global_generator(place):
    none = {"input_dropout_prob": 0.0, "output_dropout_prob": 0.0}
    model, input_ids = small(**{**none, place: 0.5}), torch.randint(1, 23, (4, 6))
    expected = model(input_ids).logits
    torch.testing.assert_close(expected, small().eval()(input_ids).logits)
    model.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(input_ids).logits)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.allclose(drawn[0], expected)


@pytest.mark.parametrize("cell_type", ["gru", "lstm", "peephole_lstm"])
@pytest.mark.parametrize(
    "settings", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"do_sample": True}]
)
def test_generation_with_the_state_as_cache_equals_generation_without(cell_type, settings):
    model, prompt = small(cell_type), torch.randint(3, 23, (3, 4))
    mask = torch.ones_like(prompt)
    prompt[0, :2], mask[0, :2] = 0, 0  # padded on the left
    generated = []
    for use_cache in (True, False):
        torch.manual_seed(1)
        arguments = {"attention_mask": mask, "max_new_tokens": 7, "use_cache": use_cache, **settings}
        generated.append(model.generate(prompt, **arguments))
    assert torch.equal(*generated)
    assert len(generated[0].unique()) > 4


def test_padding_on_the_left_does_not_change_what_is_generated():
    model, prompt = small(eos_token_id=None), torch.randint(3, 23, (1, 4))
    padded = F.pad(prompt, (3, 0))
    generated = model.generate(padded, attention_mask=(padded != 0).long(), do_sample=False, max_new_tokens=6)
    assert torch.equal(generated[:, 3:], model.generate(prompt, do_sample=False, max_new_tokens=6))


def test_generation_reads_one_token_a_step_and_can_go_on_from_a_state():
    model, prompt = small(eos_token_id=None), torch.randint(3, 23, (2, 5))
    lengths = []
    handle = model.model.layers[0].register_forward_hook(lambda _, args, __: lengths.append(args[0].shape[1]))
    whole = model.generate(prompt, do_sample=False, max_new_tokens=6, return_dict_in_generate=True)
    assert lengths == [5, 1, 1, 1, 1, 1]
    handle.remove()
    half = model.generate(prompt, do_sample=False, max_new_tokens=3, return_dict_in_generate=True)
    state = half.past_key_values
    assert state.get_seq_length() == 7
    rest = model.generate(half.sequences, past_key_values=state, do_sample=False, max_new_tokens=3)
    assert torch.equal(rest, whole.sequences)


def test_logits_to_keep_computes_the_last_scores_alone():
    model, input_ids = small(), torch.randint(1, 23, (2, 5))
    torch.testing.assert_close(model(input_ids, logits_to_keep=2).logits, model(input_ids).logits[:, -2:])


@every_cell
def test_fresh_weights_are_those_of_torch_with_forget_gates_open(cell_type):
    cell = small(cell_type).model.layers[0].cell
    for name, parameter in cell.named_parameters():
        if name.startswith("weight"):
            assert 0.25 < parameter.abs().max() <= 10**-0.5
    assert cell.bias_ih_l0.sum() == (10 if "lstm" in cell_type else 0)
    if "lstm" in cell_type:
        forget_gate = cell.bias_ih_l0.view(-1, 10)[0 if cell_type == "coupled_lstm" else 1]
        assert (forget_gate == 1).all()


@every_cell
def test_what_a_checkpoint_lacks_is_drawn_afresh_and_what_it_has_is_kept(cell_type, tmp_path):
    model = small(cell_type)
    lacking = {
        name: value for name, value in model.state_dict().items() if "layers.1" not in name and "bias" not in name
    }
    model.save_pretrained(tmp_path, state_dict=lacking)
    loaded = load_model(tmp_path, "AutoModelForCausalLM")
    for name, value in loaded.state_dict().items():
        assert value.abs().max() < 10
        if name in lacking:
            assert torch.equal(value, lacking[name])


def test_tied_embeddings_of_another_width_stand_behind_a_projection():
    assert isinstance(small().lm_head.projection, nn.Linear)
    assert isinstance(small(tie_word_embeddings=False).lm_head.projection, nn.Identity)
    assert isinstance(small(embedding_size=8).lm_head.projection, nn.Identity)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell_type": "lsmt"}, "unknown cell_type 'lsmt'; choose from rnn, gru, lstm, peephole_lstm, coupled_lstm"),
        ({"hidden_sizes": [8]}, "hidden_sizes is .8.; it must have num_hidden_layers .2. widths"),
        ({"hidden_sizes": [8, 9]}, "the last of which is hidden_size .8."),
        ({"embedding_size": 0}, "embedding_size is 0; it must be at least 1"),
        ({"input_dropout_prob": 1.0}, "input_dropout_prob is 1.0; it must be at least 0 and below 1"),
        ({"eos_token_id": 99}, "eos_token_id is 99; it must be below vocab_size 50"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_config("rnn", "tiny", vocab_size=50, hidden_size=8, **settings)
