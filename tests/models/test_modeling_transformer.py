"""The Transformer against torch.nn's layers and transformers' Marian on copied weights; sharing, smoothing, generation."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, MarianConfig, MarianMTModel, StaticCache

from bertkit.hub.native import ARCHITECTURES
from bertkit.models.modeling_transformer import (
    TRANSFORMER_PRESETS,
    TransformerConfig,
    TransformerForConditionalGeneration,
    TransformerModel,
)

SHAPE = {
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "decoder_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "decoder_start_token_id": 1,
    "eos_token_id": 2,
}
close = {"atol": 1e-5, "rtol": 1e-5}
implementations = pytest.mark.parametrize("implementation", ["eager", "sdpa"])
orders = pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])


def small(**settings):
    """Return a model in evaluation mode whose biases and norms are not as they start."""
    torch.manual_seed(0)
    model = TransformerForConditionalGeneration(TransformerConfig(**{**SHAPE, **settings})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, mean="weight" in name, std=0.2)
    return model


def padded_batch(source_lengths=(9, 4, 7), target_lengths=(5, 6, 2)):
    """Pairs of three rows padded on the right."""
    torch.manual_seed(1)

    def rows(lengths):
        real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return torch.randint(3, SHAPE["vocab_size"], real.shape), real

    (source, source_real), (target, target_real) = rows(source_lengths), rows(target_lengths)
    return {
        "input_ids": source.where(source_real, 0),
        "attention_mask": source_real.long(),
        "labels": target.where(target_real, -100),
    }


def torch_stacks(config):
    """Return torch.nn's encoder and decoder, which end with a norm where the layers do not."""
    shape = {
        "d_model": config.hidden_size,
        "nhead": config.num_attention_heads,
        "dim_feedforward": config.intermediate_size,
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": config.norm_first,
    }
    encoder_norm, decoder_norm = (nn.LayerNorm(config.hidden_size) if config.norm_first else None for _ in range(2))
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**shape), config.num_hidden_layers, encoder_norm, enable_nested_tensor=False
    )
    return encoder, nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), config.decoder_layers, decoder_norm)


def as_torch_names(stack, tensors):
    """Rename the tensors of one of our stacks, embeddings left out, to those of torch.nn."""
    in_torch = {
        "attention.qkv.": "self_attn.in_proj_",
        "attention.output": "self_attn.out_proj",
        "cross_attention.output": "multihead_attn.out_proj",
        "attention_norm": "norm1",
        "cross_attention_norm": "norm2",
        "feed_forward.intermediate": "linear1",
        "feed_forward.output": "linear2",
        "feed_forward_norm": "norm3" if stack == "decoder" else "norm2",
    }
    renamed, parts = {}, {}
    for full_name, tensor in tensors.items():
        name = full_name.removeprefix(f"model.{stack}.")
        if name == full_name or name.startswith("embeddings."):
            continue
        if match := re.fullmatch(r"(layers\.\d+\.)cross_attention\.(query|key_value)\.(weight|bias)", name):
            parts.setdefault(f"{match[1]}multihead_attn.in_proj_{match[3]}", {})[match[2]] = tensor
            continue
        match = re.fullmatch(r"(layers\.\d+\.)(.*?)(weight|bias)", name)
        if match is None:
            renamed[name.replace("final_norm", "norm")] = tensor
        else:
            part = match[2] if match[2] in in_torch else match[2].removesuffix(".")
            renamed[match[1] + in_torch[part] + ("" if part == match[2] else ".") + match[3]] = tensor
    return renamed | {name: torch.cat([both["query"], both["key_value"]]) for name, both in parts.items()}


def paper_positions(seq, width):
    """The formulas of section 3.5, entry by entry."""
    table = torch.empty(seq, width)
    for position in range(seq):
        for i in range(width // 2):
            table[position, 2 * i] = math.sin(position / 10000 ** (2 * i / width))
            table[position, 2 * i + 1] = math.cos(position / 10000 ** (2 * i / width))
    return table


@orders
@implementations
def test_outputs_loss_and_gradients_are_those_of_the_layers_of_torch(norm_first, implementation):
    ours = small(norm_first=norm_first, _attn_implementation=implementation)
    batch = padded_batch()
    encoder, decoder = torch_stacks(ours.config)
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        stack.load_state_dict(as_torch_names(name, ours.state_dict()))
    embeddings = ours.get_input_embeddings().weight.detach().clone().requires_grad_()

    def embed(ids):
        return math.sqrt(32) * embeddings[ids] + paper_positions(ids.shape[1], 32)

    padding = batch["attention_mask"] == 0
    decoder_input_ids = torch.cat([torch.ones(3, 1, dtype=torch.long), batch["labels"][:, :-1].clamp(min=0)], dim=1)
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    memory = encoder(embed(batch["input_ids"]), src_key_padding_mask=padding)
    states = decoder(embed(decoder_input_ids), memory, tgt_mask=future, memory_key_padding_mask=padding)
    logits = states @ embeddings.T
    expected_loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    actual = ours(**batch)
    torch.testing.assert_close(actual.encoder_last_hidden_state[~padding], memory[~padding], **close)
    torch.testing.assert_close(actual.logits, logits, **close)
    torch.testing.assert_close(actual.loss, expected_loss, **close)
    expected_loss.backward()
    actual.loss.backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    trained = slice(1, None)  # padding is not, as an input
    torch.testing.assert_close(ours.get_input_embeddings().weight.grad[trained], embeddings.grad[trained], **close)
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        renamed = as_torch_names(name, gradients)
        for parameter_name, parameter in stack.named_parameters():
            torch.testing.assert_close(renamed[parameter_name], parameter.grad, **close)


def from_marian(tensors):
    """Rename Marian's tensors to ours, its channels, sines first and then cosines, put in turns."""
    ours = ARCHITECTURES["marian"].to_ours(tensors, "AutoModelForSeq2SeqLM")
    return {"lm_head.weight": ours["model.decoder.embeddings.word_embeddings.weight"]} | ours


@pytest.fixture
def marian_and_ours():
    """Build transformers' Marian with random weights, biases included, and ours with the same."""

    def build(implementation="sdpa"):
        torch.manual_seed(0)
        config = MarianConfig(
            vocab_size=53,
            decoder_vocab_size=53,
            d_model=32,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=24,
            dropout=0.0,
            activation_function="relu",
            scale_embedding=True,
            init_std=0.2,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
        )
        marian = MarianMTModel(config).eval()
        for name, parameter in marian.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.2)
        ours = TransformerForConditionalGeneration(TransformerConfig(**SHAPE)).eval()
        ours.load_state_dict(from_marian(marian.state_dict()))
        marian.set_attn_implementation(implementation)
        ours.set_attn_implementation(implementation)
        return marian, ours

    return build


@implementations
def test_logits_loss_gradients_and_attentions_are_those_of_marian(marian_and_ours, implementation):
    marian, ours = marian_and_ours(implementation)
    batch, flags = padded_batch(), {"output_attentions": implementation == "eager"}
    expected, actual = marian(**batch, **flags), ours(**batch, **flags)
    torch.testing.assert_close(actual.logits, expected.logits, **close)
    torch.testing.assert_close(actual.loss, expected.loss, **close)
    for name in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        real = (
            batch["attention_mask"].bool() if name == "encoder_attentions" else slice(None)
        )  # what padding sees is free
        for ours_weights, weights in zip(getattr(actual, name) or (), getattr(expected, name) or (), strict=True):
            torch.testing.assert_close(ours_weights.transpose(1, 2)[real], weights.transpose(1, 2)[real], **close)
    if implementation == "eager":
        assert [len(actual.encoder_attentions), len(actual.decoder_attentions), len(actual.cross_attentions)] == [
            2,
            3,
            3,
        ]
    expected.loss.backward()
    actual.loss.backward()
    gradients = from_marian({name: parameter.grad for name, parameter in marian.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], **close, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(
    "how", [{"num_beams": 4}, {"do_sample": True, "top_k": 5}, {}], ids=["beam", "sampled", "greedy"]
)
@pytest.mark.parametrize("cache", ["dynamic", "static", None])
def test_what_is_generated_is_what_marian_generates(marian_and_ours, how, cache):
    batch = padded_batch()
    del batch["labels"]
    caching = {"use_cache": False} if cache is None else {"cache_implementation": cache}
    generated = []
    for model, settings in zip(marian_and_ours(), ({}, caching), strict=True):
        torch.manual_seed(3)
        generated.append(model.generate(**batch, max_new_tokens=12, **how, **settings))
    assert generated[1].shape[1] > 6 and torch.equal(*generated)


@orders
@implementations
def test_a_cache_fed_in_pieces_gives_the_logits_of_the_whole_target(norm_first, implementation):
    model = small(norm_first=norm_first, _attn_implementation=implementation)
    batch = padded_batch()
    del batch["labels"]
    targets = torch.randint(3, 53, (3, 9))
    whole = model(**batch, decoder_input_ids=targets)
    cache, pieces = EncoderDecoderCache(DynamicCache(), DynamicCache()), []
    encoder_outputs = (whole.encoder_last_hidden_state,)
    for start, stop in ((0, 4), (4, 8), (8, 9)):
        outputs = model(
            attention_mask=batch["attention_mask"],
            encoder_outputs=encoder_outputs,
            decoder_input_ids=targets[:, start:stop],
            past_key_values=cache,
            use_cache=True,
        )
        pieces.append(outputs.logits)
        encoder_outputs = (torch.full_like(encoder_outputs[0], float("nan")),)  # the cache has what is needed of it
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole.logits, **close)


def test_a_step_with_a_cache_of_fixed_size_is_one_graph_that_never_asks_the_device():
    model, batch, targets = small(), padded_batch((9, 9), (6, 6)), torch.randint(3, 53, (2, 6))
    whole = model(batch["input_ids"], decoder_input_ids=targets)
    compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
    decoder_config = model.config.get_text_config(decoder=True)
    cache = EncoderDecoderCache(
        StaticCache(config=decoder_config, max_cache_len=8), StaticCache(config=decoder_config, max_cache_len=9)
    )
    source = {"encoder_outputs": (whole.encoder_last_hidden_state,), "past_key_values": cache}
    model(**source, decoder_input_ids=targets[:, :5])
    with torch.no_grad():
        logits = compiled(**source, decoder_input_ids=targets[:, 5:]).logits
    torch.testing.assert_close(logits, whole.logits[:, 5:], **close)


def test_labels_are_what_is_predicted_and_their_shift_what_is_read():
    model, batch = small(), padded_batch()
    read = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    assert read[0].tolist() == [1, *batch["labels"][0, :5].tolist()]
    assert read[2].tolist() == [1, *batch["labels"][2, :2].tolist(), 0, 0, 0]
    torch.testing.assert_close(model(**batch).loss, model(**batch, decoder_input_ids=read).loss)
    with pytest.raises(ValueError, match="neither decoder_start_token_id nor bos_token_id"):
        small(decoder_start_token_id=None)(**batch)


def test_labels_are_smoothed_over_the_vocabulary_in_training_alone():
    model, batch = small(label_smoothing=0.3), padded_batch()
    counted = batch["labels"] != -100
    logs = model(**batch).logits.log_softmax(dim=-1)[counted]  # (labels, vocab)
    labels = batch["labels"][counted]
    plain = -logs.gather(1, labels[:, None]).mean()
    smoothed_targets = torch.full_like(logs, 0.3 / 53).scatter_add(1, labels[:, None], torch.full((13, 1), 0.7))
    smoothed = -(smoothed_targets * logs).sum(dim=-1).mean()
    torch.testing.assert_close(model(**batch).loss, plain)
    torch.testing.assert_close(model.train()(**batch).loss, smoothed)
    torch.testing.assert_close(model(**batch, num_items_in_batch=26).loss, smoothed / 2)


@implementations
def test_a_source_of_nothing_but_padding_harms_neither_itself_nor_its_neighbours(implementation):
    model, batch = small(_attn_implementation=implementation), padded_batch()
    expected = model(**batch)
    batch["attention_mask"][1] = 0
    batch["labels"][1] = -100
    actual = model(**batch)
    torch.testing.assert_close(actual.logits[[0, 2]], expected.logits[[0, 2]], **close)
    actual.loss.backward()
    assert actual.logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@implementations
def test_targets_padded_on_the_left_move_nobody(implementation):
    model, batch = small(_attn_implementation=implementation), padded_batch()
    del batch["labels"]
    targets = torch.randint(3, 53, (3, 5))
    padded = torch.cat([torch.zeros(3, 2, dtype=torch.long), targets], dim=1)
    decoder_attention_mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]]).expand(3, 7)
    expected = model(**batch, decoder_input_ids=targets).logits
    actual = model(**batch, decoder_input_ids=padded, decoder_attention_mask=decoder_attention_mask).logits
    torch.testing.assert_close(actual[:, 2:], expected, **close)


def test_attention_to_the_source_sums_to_one_on_its_real_tokens():
    model, batch = small(_attn_implementation="eager"), padded_batch()
    for weights in model(**batch, output_attentions=True).cross_attentions:
        real = batch["attention_mask"][:, None, None].expand_as(weights)
        assert weights[real == 0].max() == 0
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 4, 6))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_no_gradient_comes_from_the_future_of_the_target_in_training_either(dropout):
    model, batch = small(attention_probs_dropout_prob=dropout).train(), padded_batch((9,), (5,))
    embeds = torch.randn(1, 6, 32, requires_grad=True)
    model(batch["input_ids"], decoder_inputs_embeds=embeds).logits[0, 3].sum().backward()
    assert embeds.grad[0, 4:].abs().max() == 0 and embeds.grad[0, 3].abs().max() > 0


def test_positions_are_those_of_the_paper_and_no_checkpoint_holds_them(tmp_path):
    model = TransformerModel(TransformerConfig(**{**SHAPE, "max_position_embeddings": 1000}))
    table = model.encoder.embeddings.positions.table
    expected = paper_positions(1000, 32)
    assert (table - expected).abs().max() < 1e-7
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        assert not [name for name in saved.keys() if "position" in name]  # noqa: SIM118
    loaded = TransformerModel.from_pretrained(tmp_path, max_position_embeddings=1500)
    for stack in (loaded.encoder, loaded.decoder):
        assert torch.equal(stack.embeddings.positions.table[:1000], table)
    in_half = TransformerModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(in_half.encoder.embeddings.positions.table, table.bfloat16())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_source_target_and_output_share_what_the_config_says_also_when_loaded_and_resized(shared, tied, tmp_path):
    model = small(share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied)
    batch = {name: values.clamp(max=39) for name, values in padded_batch().items()}
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded, info = TransformerForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        shapes = [tuple(saved.get_slice(name).get_shape()) for name in saved.keys()]  # noqa: SIM118
    assert shapes.count((53, 32)) == 3 - shared - tied
    torch.testing.assert_close(loaded(**batch).logits, expected)
    for size in (None, 70, 40):
        if size:
            loaded.resize_token_embeddings(size)
            assert loaded.config.vocab_size == size
        source, target, output = (
            loaded.model.encoder.embeddings.word_embeddings.weight,
            loaded.model.decoder.embeddings.word_embeddings.weight,
            loaded.lm_head.weight,
        )
        assert (source is target, target is output) == (shared, tied)
        assert {len(source), len(target), len(output)} == {size or 53}
        torch.testing.assert_close(loaded(**batch).logits[..., :40], expected[..., :40])


def test_fresh_embeddings_are_as_large_as_the_positions_and_layers_glorot():
    model = TransformerModel(TransformerConfig(**{**SHAPE, "hidden_size": 128}))
    scaled = model.get_input_embeddings().weight[1:] * math.sqrt(128)
    assert scaled.std().item() == pytest.approx(1, rel=0.05)
    intermediate = model.decoder.layers[0].feed_forward.intermediate.weight
    assert intermediate.abs().max().item() == pytest.approx(math.sqrt(6 / (128 + 48)), rel=0.01)


def test_inputs_that_cannot_be_read_are_refused_in_words():
    model, ids = small(), torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="either ids or embeddings, and not both, to each of encoder and decoder"):
        model(ids)
    with pytest.raises(ValueError, match="rows of 25 tokens are longer than max_position_embeddings 24"):
        model(torch.ones(1, 25, dtype=torch.long), decoder_input_ids=ids)
    with pytest.raises(ValueError, match="the decoder needs encoder_hidden_states"):
        model.model.decoder(ids)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"decoder_layers": 0}, "decoder_layers is 0; it must be at least 1"),
        ({"hidden_size": 30}, "hidden_size 30 is not a multiple of num_attention_heads 4"),
        ({"hidden_size": 9, "num_attention_heads": 3}, "hidden_size is 9; it must be even"),
        ({"label_smoothing": 1}, "label_smoothing is 1; it must be at least 0 and below 1"),
        ({"decoder_start_token_id": 53}, "decoder_start_token_id is 53; it must be below vocab_size 53"),
        ({"hidden_act": "rely"}, "unknown hidden_act .rely.; choose from .*relu"),
    ],
)
def test_a_config_no_model_can_be_built_from_is_refused_by_name(setting, message):
    with pytest.raises(Exception, match=message):
        TransformerConfig(**{**SHAPE, **setting})


def test_presets_are_the_published_sizes():
    published = {"base": 65, "large": 213}  # Vaswani et al., table 3
    millions = {}
    for name in published:
        with torch.device("meta"):
            model = TransformerForConditionalGeneration(TransformerConfig(**TRANSFORMER_PRESETS[name]))
        millions[name] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(published, rel=0.03)
