"""ELMo equals torch's projected LSTM and its own equations, keeps examples and directions apart, and carries its state."""

import time

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import Adam
from transformers.modeling_outputs import BaseModelOutputWithPast

from bertkit.models import build_config, build_model
from bertkit.models.modeling_both_ways import split_rows_both_ways
from bertkit.models.modeling_characters import CharacterEncoder, character_table, word_characters
from bertkit.models.modeling_elmo import ElmoConfig, ElmoModel, neighbour_labels
from bertkit.models.modeling_projected_lstm import ProjectedLSTM, ProjectedLSTMFunction
from bertkit.models.modeling_scalar_mix import ScalarMix

SIZES = {"vocab_size": 61, "hidden_size": 32, "cell_size": 40, "hidden_dropout_prob": 0.0, "initializer_range": 0.5}
CHARACTERS = {"token_input": "characters", "character_embedding_size": 4, "character_filters": [[1, 4], [2, 8], [5, 6]]}
LENGTHS = [5, 3, 3, 1]


def elmo(auto_class_name="AutoModel", **overrides):
    """A small model in float64, so that the comparisons below are sharp."""
    torch.manual_seed(0)
    return build_model(build_config("elmo", **{**SIZES, **overrides}), auto_class_name).double().eval()


def random_ids(batch, seq, seed=0):
    return torch.randint(1, 61, (batch, seq), generator=torch.Generator().manual_seed(seed))


def lstm_inputs(directions=2, sizes=(3, 4, 2), scale=1.0):
    """Inputs, first states and weights of an LSTM for sequences of LENGTHS, in float64; sizes: input, cell, projection."""
    generator = torch.Generator().manual_seed(0)
    inputs, cell, projection = sizes
    shapes = {
        "inputs": (sum(LENGTHS), inputs),
        "hidden": (len(LENGTHS), projection),
        "cell": (len(LENGTHS), cell),
        "weight_ih": (4 * cell, inputs),
        "weight_hh": (4 * cell, projection),
        "bias": (4 * cell,),
        "weight_hr": (projection, cell),
    }
    return {
        name: (scale * torch.randn(directions, *shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for name, shape in shapes.items()
    }


def batch_sizes():
    return [sum(length > step for length in LENGTHS) for step in range(max(LENGTHS))]


def recurrence_by_equations(tensors, direction, cell_clip, projection_clip):
    """The equations, step by step and gate by gate, for one direction; (tokens, projection)."""
    part = {name: tensor[direction] for name, tensor in tensors.items()}
    h, c, outputs, start = part["hidden"], part["cell"], [], 0
    for size in batch_sizes():
        x = part["inputs"][start : start + size]
        gates = x @ part["weight_ih"].T + h[:size] @ part["weight_hh"].T + part["bias"]
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c[:size] + i.sigmoid() * g.tanh()
        c = c.clamp(-cell_clip, cell_clip) if cell_clip else c
        h = (o.sigmoid() * c.tanh()) @ part["weight_hr"].T
        h = h.clamp(-projection_clip, projection_clip) if projection_clip else h
        outputs.append(h)
        start += size
    return torch.cat(outputs)


@pytest.mark.parametrize(("cell_clip", "projection_clip"), [(0.0, 0.0), (0.6, 0.0), (0.0, 0.5), (0.6, 0.5)])
def test_the_recurrence_equals_its_equations_in_outputs_and_all_gradients(cell_clip, projection_clip):
    tensors = lstm_inputs()
    outputs, cells = ProjectedLSTMFunction.apply(*tensors.values(), batch_sizes(), cell_clip, projection_clip)
    expected = torch.stack([recurrence_by_equations(tensors, d, cell_clip, projection_clip) for d in (0, 1)])
    torch.testing.assert_close(outputs, expected)
    for values, clip in ((cells, cell_clip), (outputs, projection_clip)):
        assert not clip or 0 < (values.abs() == clip).sum() < values.numel()  # some are clipped
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actual = torch.autograd.grad((outputs * weights).sum(), tensors.values())
    torch.testing.assert_close(actual, torch.autograd.grad((expected * weights).sum(), tensors.values()))


def test_the_gradient_by_hand_is_that_of_finite_differences():
    tensors = lstm_inputs(sizes=(2, 2, 2))

    def outputs(*tensors):
        return ProjectedLSTMFunction.apply(*tensors, batch_sizes(), 0.6, 0.5)[0]

    assert torch.autograd.gradcheck(outputs, tuple(tensors.values()))


def test_without_clipping_it_is_torchs_projected_lstm_in_outputs_states_and_gradients():
    torch.manual_seed(0)
    ours = ProjectedLSTM(input_size=6, cell_size=8, projection_size=5).double()
    theirs = nn.LSTM(6, 8, proj_size=5, bidirectional=True, batch_first=True).double()
    with torch.no_grad():
        for name, weight in (
            ("weight_ih", ours.weight_ih),
            ("weight_hh", ours.weight_hh),
            ("weight_hr", ours.weight_hr),
        ):
            weight.copy_(torch.stack([getattr(theirs, f"{name}_l0{suffix}") for suffix in ("", "_reverse")]))
        biases = [
            getattr(theirs, f"bias_ih_l0{suffix}") + getattr(theirs, f"bias_hh_l0{suffix}")
            for suffix in ("", "_reverse")
        ]
        ours.bias.copy_(torch.cat(biases))
    rows = torch.randn(4, 7, 6, dtype=torch.float64)
    lengths = torch.tensor([7, 2, 5, 7])
    mask = torch.arange(7) < lengths[:, None]
    sequences = split_rows_both_ways(4, 7, rows.device, attention_mask=mask)
    both = torch.cat([rows, rows], dim=-1)
    zeros = (rows.new_zeros(2, 4, 5), rows.new_zeros(2, 4, 8))
    outputs, cells = ours(sequences.take(both), *zeros, sequences.batch_sizes)
    packed, (last_h, last_c) = theirs(pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False))
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    torch.testing.assert_close(sequences.put(outputs, 4, 7), expected)
    torch.testing.assert_close(sequences.last_state(outputs, None), last_h.transpose(0, 1).flatten(1))
    torch.testing.assert_close(sequences.last_state(cells, None), last_c.transpose(0, 1).flatten(1))
    sequences.put(outputs, 4, 7).square().sum().backward()
    expected.square().sum().backward()
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        grads = [getattr(theirs, f"{name}_l0{suffix}").grad for suffix in ("", "_reverse")]
        torch.testing.assert_close(getattr(ours, name).grad, torch.stack(grads))
    torch.testing.assert_close(ours.bias.grad, torch.cat([theirs.bias_ih_l0.grad, theirs.bias_ih_l0_reverse.grad]))


def test_frozen_weights_get_no_gradient_and_cost_the_others_none():
    tensors = lstm_inputs()
    expected = torch.autograd.grad(
        ProjectedLSTMFunction.apply(*tensors.values(), batch_sizes(), 0, 0)[0].sum(), tensors["bias"]
    )
    frozen = {name: tensor.detach().requires_grad_(name == "bias") for name, tensor in tensors.items()}
    ProjectedLSTMFunction.apply(*frozen.values(), batch_sizes(), 0, 0)[0].sum().backward()
    assert [name for name, tensor in frozen.items() if tensor.grad is not None] == ["bias"]
    torch.testing.assert_close(frozen["bias"].grad, expected[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_low_precision_the_cell_is_kept_in_float32(dtype):
    tensors = lstm_inputs(scale=0.5)
    expected, _ = ProjectedLSTMFunction.apply(*tensors.values(), batch_sizes(), 1.0, 1.0)
    low = {name: tensor.detach().to(torch.float32 if name == "cell" else dtype) for name, tensor in tensors.items()}
    low["weight_ih"].requires_grad_()
    outputs, cells = ProjectedLSTMFunction.apply(*low.values(), batch_sizes(), 1.0, 1.0)
    assert outputs.dtype == dtype and cells.dtype == torch.float32
    torch.testing.assert_close(outputs.double(), expected, atol=0.02, rtol=0.02)
    outputs.sum().backward()
    torch.testing.assert_close(
        low["weight_ih"].grad.double(),
        torch.autograd.grad(expected.sum(), tensors["weight_ih"])[0],
        atol=0.05,
        rtol=0.05,
    )


@pytest.mark.parametrize("residual", [True, False])
def test_layers_and_losses_follow_the_equations(residual):
    model = elmo("AutoModelForPreTraining", residual=residual, num_hidden_layers=3)
    input_ids = random_ids(2, 6)
    outputs = model(input_ids, labels=input_ids, output_hidden_states=True)
    embeddings = model.get_input_embeddings()(input_ids)
    expected = [torch.cat([embeddings, embeddings], dim=-1)]
    for index, layer in enumerate(model.model.layers):
        lstm, halves = layer.lstm, []
        for direction, half in enumerate(expected[-1].chunk(2, dim=-1)):
            steps = range(6) if direction == 0 else reversed(range(6))
            h, c, states = half.new_zeros(2, 16), half.new_zeros(2, 40), [None] * 6
            for step in steps:
                bias = lstm.bias.view(2, -1)[direction]
                gates = half[:, step] @ lstm.weight_ih[direction].T + h @ lstm.weight_hh[direction].T + bias
                i, f, g, o = gates.chunk(4, dim=-1)
                c = (f.sigmoid() * c + i.sigmoid() * g.tanh()).clamp(-3, 3)
                h = ((o.sigmoid() * c.tanh()) @ lstm.weight_hr[direction].T).clamp(-3, 3)
                states[step] = h
            halves.append(torch.stack(states, dim=1))
        skip = expected[-1] if residual and index > 0 else 0
        expected.append(torch.cat(halves, dim=-1) + skip)
    torch.testing.assert_close(list(outputs.hidden_states), expected)
    forward, backward = expected[-1].chunk(2, dim=-1)
    after = nn.functional.cross_entropy(model.lm_head(forward)[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    before = nn.functional.cross_entropy(model.lm_head(backward)[:, 1:].flatten(0, 1), input_ids[:, :-1].flatten())
    torch.testing.assert_close(outputs.forward_loss, after, check_dtype=False, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs.backward_loss, before, check_dtype=False, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs.loss, outputs.forward_loss + outputs.backward_loss)


@pytest.mark.parametrize("padding", ["none", "left", "right", "a row of padding"])
def test_packed_and_padded_examples_are_as_alone(padding):
    model = elmo("AutoModelForPreTraining")
    examples = [random_ids(1, length, seed)[0] for seed, length in enumerate([4, 1, 7, 4])]
    tokens = torch.cat(examples)[None]
    positions = torch.cat([torch.arange(len(example)) for example in examples])[None]
    mask = torch.ones_like(tokens)
    real = torch.arange(16)
    if padding != "none":
        width = {"left": (3, 0), "right": (0, 3), "a row of padding": (0, 0)}[padding]
        rows = (1, 0) if padding == "a row of padding" else (0, 0)
        tokens, mask = (nn.functional.pad(tensor, (*width, *rows)) for tensor in (tokens, mask))
        positions = nn.functional.pad(positions, (*width, *rows), value=0)
        real = mask.flatten().nonzero().squeeze(1)
    packed = model(tokens, attention_mask=mask, position_ids=positions, labels=tokens)
    alone = [model(example[None], labels=example[None]) for example in examples]
    for name in ("forward_logits", "backward_logits"):
        expected = torch.cat([outputs[name][0] for outputs in alone])
        torch.testing.assert_close(packed[name].flatten(0, 1)[real], expected)
    total = sum(outputs.loss * max(len(example) - 1, 0) for outputs, example in zip(alone, examples, strict=True))
    torch.testing.assert_close(packed.loss, total / 12)


def test_labels_are_neighbours_of_their_own_example():
    labels = torch.tensor([[5, 6, 7, 8, 9, 0], [0, 0, 5, 6, -100, 8]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
    positions = torch.tensor([[3, 4, 0, 1, 2, 0], [0, 0, 0, 1, 2, 3]])  # the first example goes on from a row before
    after, before = neighbour_labels(labels, mask, positions)
    assert after.tolist() == [[6, -100, 8, 9, -100, -100], [-100, -100, 6, -100, 8, -100]]
    assert before.tolist() == [[-100, 5, -100, 7, 8, -100], [-100, -100, -100, 5, 6, -100]]
    after, before = neighbour_labels(labels, mask)
    assert after.tolist() == [[6, 7, 8, 9, -100, -100], [-100, -100, 6, -100, 8, -100]]
    assert before.tolist() == [[-100, 5, 6, 7, 8, -100], [-100, -100, -100, 5, 6, -100]]


def test_shifted_labels_and_counts_of_the_step_make_the_same_loss():
    model, input_ids = elmo("AutoModelForPreTraining"), random_ids(3, 8)
    after, before = neighbour_labels(input_ids)
    before[0] = -100
    outputs = model(input_ids, shift_labels=after, backward_labels=before)
    scaled = model(
        input_ids,
        shift_labels=after,
        backward_labels=before,
        num_items_in_batch=torch.tensor(42),
        num_backward_items_in_batch=torch.tensor(7),
    )
    torch.testing.assert_close(scaled.forward_loss, outputs.forward_loss / 2)
    torch.testing.assert_close(scaled.backward_loss, outputs.backward_loss * 2)
    torch.testing.assert_close(scaled.loss, scaled.forward_loss + scaled.backward_loss)
    both = model(input_ids, labels=input_ids, num_items_in_batch=42)
    torch.testing.assert_close(both.loss, model(input_ids, labels=input_ids).loss / 2)


def test_the_state_carries_the_forward_direction_on_as_if_the_text_were_one():
    model, input_ids = elmo(), random_ids(2, 10)
    whole = model(input_ids).last_hidden_state
    first = model(input_ids[:, :6], use_cache=True)
    second = model(input_ids[:, 6:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(second.last_hidden_state[..., :16], whole[:, 6:, :16])
    assert not torch.allclose(second.last_hidden_state[..., 16:], whole[:, 6:, 16:])


def test_the_state_carries_the_backward_direction_from_the_first_token_to_the_last_of_the_next_batch():
    model, input_ids = elmo(), random_ids(2, 10)
    whole = model(input_ids).last_hidden_state
    later = model(input_ids[:, 6:], use_cache=True)
    earlier = model(input_ids[:, :6], past_key_values=later.past_key_values)
    torch.testing.assert_close(earlier.last_hidden_state[..., 16:], whole[:, :6, 16:])


def test_stateless_inference_is_the_default_and_use_cache_the_switch():
    model, input_ids = elmo(), random_ids(2, 5)
    assert model(input_ids).past_key_values is None
    stateful = elmo(use_cache=True)
    state = stateful(input_ids).past_key_values
    assert state.get_seq_length() == 5
    assert not any(tensor.requires_grad for tensor in state.tensors())
    again = stateful(input_ids, past_key_values=state)
    assert again.past_key_values.get_seq_length() == 10
    torch.testing.assert_close(stateful(input_ids).last_hidden_state, model(input_ids).last_hidden_state)
    assert not torch.allclose(again.last_hidden_state, model(input_ids).last_hidden_state)


def test_rows_go_on_from_their_own_state_unless_their_positions_start_anew():
    model, input_ids = elmo(), random_ids(3, 6)
    state = model(random_ids(3, 4, seed=1), use_cache=True).past_key_values
    states = [tensor.clone() for tensor in state.tensors()]
    positions = torch.tensor([[4, 5, 6, 0, 1, 2], [0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    outputs = model(
        input_ids, attention_mask=mask, position_ids=positions, past_key_values=state, use_cache=True, return_dict=True
    )

    def alone(row, part, with_state=False):
        past = type(state).from_tensors([tensor[row : row + 1] for tensor in states]) if with_state else None
        return model(input_ids[row : row + 1, part], past_key_values=past, use_cache=True)

    continued = alone(0, slice(0, 3), with_state=True)
    torch.testing.assert_close(outputs.last_hidden_state[0, :3], continued.last_hidden_state[0])
    torch.testing.assert_close(outputs.last_hidden_state[0, 3:], alone(0, slice(3, 6)).last_hidden_state[0])
    torch.testing.assert_close(outputs.last_hidden_state[1, :4], alone(1, slice(0, 4)).last_hidden_state[0])
    after = [alone(0, slice(3, 6)), alone(1, slice(0, 4))]
    for index, tensor in enumerate(outputs.past_key_values.tensors()):
        for row, single in enumerate(after):
            torch.testing.assert_close(tensor[row], single.past_key_values.tensors()[index][0])
        torch.testing.assert_close(tensor[2], states[index][2])  # nothing but padding


def test_the_forward_pass_of_unpacked_rows_asks_for_nothing_on_the_host(monkeypatch):
    model, input_ids = elmo(), random_ids(2, 5)

    def refuse(self, *args, **kwargs):
        raise AssertionError("a GPU would have to wait here")

    for name in ("item", "tolist", "nonzero", "__bool__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    assert isinstance(model(input_ids), BaseModelOutputWithPast)


def test_dropout_is_of_layer_inputs_and_of_what_the_output_layer_reads():
    model = elmo("AutoModelForPreTraining", hidden_dropout_prob=0.5).train()
    seen = []
    for layer in model.model.layers:
        layer.lstm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(random_ids(4, 50))
    assert len(seen) == 4
    for tensor in seen:
        assert (tensor == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(seen[0][0], seen[0][1].flip(0))  # each direction drops its own


def test_under_autocast_outputs_are_short_and_gradients_are_not():
    model, input_ids = elmo("AutoModelForPreTraining").float(), random_ids(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(input_ids, labels=input_ids)
    assert outputs.forward_logits.dtype == torch.bfloat16
    outputs.loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.slow  # to import the compiler takes ten seconds
def test_a_compiled_model_gives_the_same_loss():
    model, input_ids = elmo("AutoModelForPreTraining"), random_ids(2, 5)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(input_ids, labels=input_ids).loss, model(input_ids, labels=input_ids).loss)


@pytest.mark.slow  # measures time, which a busy machine spoils
def test_a_step_takes_at_most_one_and_a_half_times_that_of_torchs_projected_lstm():
    sequences, steps, width, cell = 16, 64, 128, 512
    ours = ProjectedLSTM(input_size=width, cell_size=cell, projection_size=width, cell_clip=3.0, projection_clip=3.0)
    theirs = nn.LSTM(width, cell, proj_size=width, bidirectional=True)
    for parameter in (*ours.parameters(), *theirs.parameters()):
        nn.init.uniform_(parameter, -0.05, 0.05)
    inputs = torch.randn(steps, sequences, width)
    both = inputs.flatten(0, 1).expand(2, -1, -1).contiguous().requires_grad_()
    first = (torch.zeros(2, sequences, width), torch.zeros(2, sequences, cell))

    def seconds(outputs):
        begin = time.process_time()
        outputs()[0].sum().backward()
        return time.process_time() - begin

    sides = (lambda: ours(both, *first, [sequences] * steps), lambda: theirs(inputs.requires_grad_()))
    times = [[seconds(side) for side in sides] for _ in range(6)]  # in turns, so that both meet the same load
    assert min(mine for mine, _ in times) < 1.5 * min(other for _, other in times)


# Characters


def test_words_are_spelled_as_bytes_between_marks():
    assert word_characters("aé", 7) == [258, 97, 195, 169, 259, 260, 260]
    assert word_characters("abcdefgh", 6) == [258, 97, 98, 99, 100, 259]
    table = character_table(["[PAD]", "[CLS]", "[SEP]", "a"], 5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    assert table.tolist() == [[260] * 5, [258, 256, 259, 260, 260], [258, 257, 259, 260, 260], [258, 97, 259, 260, 260]]


@pytest.mark.parametrize("longest", [1, 20, 44, 48])
def test_character_network_equals_its_equations_over_all_columns(longest):
    config = ElmoConfig(**SIZES, **CHARACTERS)
    encoder = elmo(**CHARACTERS).embeddings.encoder
    assert isinstance(encoder, CharacterEncoder)
    words = ["a" * longest, "b", "né"[: longest + 1]]
    characters = character_table(words, 50).long()
    embedded = encoder.character_embeddings(characters)  # (words, 50, 4): nothing left out here
    pooled = []
    for (width, _), convolution in zip(config.character_filters, encoder.convolutions, strict=True):
        windows = embedded.unfold(1, width, 1)  # (words, windows, 4, width)
        pooled.append(
            (torch.einsum("wnec,fec->wnf", windows, convolution.weight) + convolution.bias).amax(dim=1).relu()
        )
    expected = torch.cat(pooled, dim=-1)
    for highway in encoder.highways:
        gate = highway.gate(expected).sigmoid()
        expected = gate * highway.transform(expected).relu() + (1 - gate) * expected
    torch.testing.assert_close(encoder.encode(characters), encoder.projection(expected))


def test_token_ids_are_spelled_by_the_table_that_is_saved_with_the_model(tmp_path):
    model = elmo(**CHARACTERS, bos_token_id=2, eos_token_id=3)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(57))]
    model.read_vocabulary(words)
    table = character_table(words, 50, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    input_ids = random_ids(2, 7)
    by_characters = model(table[input_ids].long()).last_hidden_state
    torch.testing.assert_close(model(input_ids).last_hidden_state, by_characters)
    model.save_pretrained(tmp_path)
    loaded = ElmoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().characters, table)
    torch.testing.assert_close(loaded(input_ids).last_hidden_state, by_characters)
    model.read_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "few"])
    assert model.get_input_embeddings().characters[60, :4].tolist() == [258, ord("6"), ord("0"), 259]
    with pytest.raises(ValueError, match="62 words were given for a vocab_size of 61"):
        model.read_vocabulary(["a"] * 62)


def test_a_model_of_characters_learns_and_its_output_layer_is_its_own():
    torch.manual_seed(0)
    config = build_config("elmo", **{**SIZES, "initializer_range": 0.05}, **CHARACTERS)
    model = build_model(config, "AutoModelForPreTraining")
    assert model.get_output_embeddings().weight.shape == (61, 16)
    input_ids = random_ids(2, 8)
    optimizer = Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        loss = model(input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        assert losses or all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.1 * losses[0]:
            return
    raise AssertionError(losses)


# Scalar mix


@pytest.mark.parametrize("layer_norm", [False, True])
def test_scalar_mix_is_the_papers_equation(layer_norm):
    torch.manual_seed(0)
    layers = [torch.randn(2, 5, 8) * (1 + index) for index in range(3)]
    mix = ScalarMix(3, layer_norm=layer_norm)
    states = [nn.LayerNorm(8)(layer) for layer in layers] if layer_norm else layers
    torch.testing.assert_close(mix(layers), torch.stack(states).mean(dim=0))  # fresh: the mean
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([1.0, -1.0, 0.5]))
        mix.gamma.fill_(3.0)
    weights = torch.tensor([1.0, -1.0, 0.5]).exp()
    expected = 3 * sum(w / weights.sum() * state for w, state in zip(weights, states, strict=True))
    torch.testing.assert_close(mix(layers), expected)
    mix(layers).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in mix.parameters())
    with pytest.raises(ValueError, match="has 3 weights and was given 2 layers"):
        mix(layers[:2])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_task_head_reads_the_mean_over_its_example_of_the_mixed_layers(layer_norm):
    torch.manual_seed(0)
    head = elmo("AutoModelForSequenceClassification", num_labels=3, scalar_mix_layer_norm=layer_norm)
    with torch.no_grad():
        head.scalar_mix.weights.copy_(torch.tensor([1.0, -1.0, 0.5]))
        head.scalar_mix.gamma.fill_(2.0)
    packed = {"input_ids": torch.tensor([[5, 6, 7, 8, 9]]), "position_ids": torch.tensor([[0, 1, 0, 1, 2]])}
    outputs = head(**packed, labels=torch.tensor([0, 2]))
    for row, example in enumerate((packed["input_ids"][:, :2], packed["input_ids"][:, 2:])):
        hidden_states = head.model(example, output_hidden_states=True).hidden_states
        expected = head.score(head.scalar_mix(hidden_states).mean(dim=1))
        torch.testing.assert_close(outputs.logits[row : row + 1], expected)
    outputs.loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.scalar_mix.parameters())
    assert outputs.hidden_states is None and len(head(**packed, output_hidden_states=True).hidden_states) == 3


# What a user got wrong


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_size": 33}, "hidden_size is 33; it must be even"),
        ({"cell_size": 0}, "cell_size is 0; it must be at least 1"),
        ({"cell_clip": -1.0}, "cell_clip is -1.0; it must be at least 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; it must be at least 0 and below 1"),
        ({"pad_token_id": 99}, "pad_token_id is 99; it must be below vocab_size 61"),
        ({"token_input": "words"}, "unknown token_input 'words'; choose from tokens, characters"),
        ({"character_act": "rely"}, "unknown character_act 'rely'; choose from"),
        ({"character_filters": [[1, 2, 3]]}, r"character_filters is \[\[1, 2, 3\]\]; give pairs"),
        ({"max_characters": 6}, "max_characters is 6; it must be at least 7"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_in_words(settings, says):
    with pytest.raises(ValueError, match=f"^model family 'elmo': {says}"):
        build_config("elmo", **{**SIZES, **settings})


def test_inputs_that_cannot_be_are_refused_in_words():
    model = elmo()
    with pytest.raises(ValueError, match="give either input_ids or inputs_embeds, and not both"):
        model()
    with pytest.raises(ValueError, match=r"reads token ids \(batch, seq\), and was given characters"):
        model(torch.ones(1, 2, 50, dtype=torch.long))
    with pytest.raises(ValueError, match="a model with token_input 'tokens' spells no words"):
        model.read_vocabulary(["a"])


def test_a_model_of_characters_keeps_its_vocabulary_and_its_network():
    model = elmo(**CHARACTERS)
    network = model.get_input_embeddings()
    for same in (None, 61):
        assert model.resize_token_embeddings(same) is network
    for other in ({"new_num_tokens": 70}, {"pad_to_multiple_of": 8}):
        with pytest.raises(ValueError, match="a model with token_input 'characters' keeps its vocab_size 61"):
            model.resize_token_embeddings(**other)
    with pytest.raises(ValueError, match="a model with token_input 'characters' has no token vectors"):
        model.set_input_embeddings(torch.nn.Embedding(61, 16))
    assert model.get_input_embeddings() is network
