"""benchmarks/scaling_arithmetic.py against the real models: their weights, and the operations that torch counts."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from bertkit.models import build_config, build_model
from bertkit.models.modeling_bert import BERT_PRESETS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LENGTH, ROWS, LABELS = 64, 3, 40


@pytest.fixture(scope="module")
def scaling():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("scaling_arithmetic")
    sys.modules.pop("scaling_arithmetic")


def counted(model, **batch):
    """Return the operations of forward and backward by token, as torch counts them from the shapes."""
    input_ids = torch.ones(ROWS, LENGTH, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=input_ids, **batch).loss.backward()
    return counter.get_total_flops() / input_ids.numel()


@pytest.mark.parametrize("preset", BERT_PRESETS)
@pytest.mark.parametrize("next_sentence", [False, True])
def test_the_weights_counted_are_those_of_the_model(scaling, preset, next_sentence):
    with torch.device("meta"):
        model = build_model(
            scaling.bert(preset), "AutoModelForPreTraining" if next_sentence else "AutoModelForMaskedLM"
        )
    assert scaling.num_parameters(model.config, next_sentence=next_sentence) == model.num_parameters()


@pytest.mark.parametrize("preset", ["mini", "base"])
def test_the_operations_counted_are_those_of_a_step(scaling, preset, monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no meta device
    with torch.device("meta"):
        model = build_model(scaling.bert(preset), "AutoModelForMaskedLM").train()
        labels = torch.ones(LABELS, dtype=torch.long)
    model.set_attn_implementation("eager")
    share = LABELS / (ROWS * LENGTH)
    expected = scaling.flops_per_token(model.config, LENGTH, labelled=share).total
    assert counted(model, labels=labels, label_positions=labels) == pytest.approx(expected, rel=1e-9)


def test_the_operations_counted_where_all_positions_are_scored_are_those_of_transformers(scaling):
    with torch.device("meta"):
        peer = BertForMaskedLM(BertConfig(num_hidden_layers=2, attn_implementation="eager"))
        labels = torch.ones(ROWS, LENGTH, dtype=torch.long)
    config = build_config("bert", "base", vocab_size=peer.config.vocab_size, num_hidden_layers=2)
    expected = scaling.flops_per_token(config, LENGTH, labelled=1, trims=False).total
    assert counted(peer, labels=labels) == pytest.approx(expected, rel=1e-9)


def test_the_activations_counted_are_those_that_a_forward_pass_keeps(scaling, monkeypatch):
    length, rows = 128, 4
    config = build_config("bert", "mini", vocab_size=1000)
    model = build_model(config, "AutoModelForMaskedLM").train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(5, 1000, (rows, length))
    positions = torch.randperm(rows * length)[: round(scaling.LABELLED * rows * length)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # examples are taken one by one
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(input_ids=ids, labels=ids.flatten()[positions], label_positions=positions, skip_logits=True)
    assert outputs.loss.requires_grad
    expected = rows * scaling.activations_of_row(config, length, on_cpu=True)
    of_output_layer = 4 * 1000 * (config.hidden_size + 1)  # the gradients of its weights and bias
    assert sum(size for size, _ in kept.values()) - of_output_layer == pytest.approx(expected, rel=0.02)


def test_sharding_and_recomputing_leave_the_shares_that_they_say(scaling):
    config = scaling.bert("base")
    count = scaling.num_parameters(config)
    one, ddp, fsdp2 = (
        scaling.memory_of_step(config, 128, 0, sharing=sharing, processes=8) for sharing in (None, "ddp", "fsdp2")
    )
    assert one.total == 16 * count  # AdamW in float32
    assert ddp.total == 20 * count and fsdp2.total == 2 * count
    assert scaling.sent_in_step(config, 1) == 0 and scaling.sent_in_step(config, 2) == 4 * count
    kept, recomputed = (scaling.activations_of_row(config, 512, checkpointing=flag) for flag in (False, True))
    assert recomputed < kept / 2
    most = scaling.rows_that_fit(config, 512, 40, "ddp", checkpointing=False)
    totals = [scaling.memory_of_step(config, 512, rows, sharing="ddp").total for rows in (most, most + 1)]
    assert totals[0] <= scaling.FILLED * 40e9 < totals[1]


def test_a_step_takes_the_longer_of_sending_and_two_thirds_of_computing(scaling):
    assert scaling.Step(computing=3.0, sending=1.0).seconds == 3.0
    assert scaling.Step(computing=3.0, sending=5.0).seconds == 6.0
