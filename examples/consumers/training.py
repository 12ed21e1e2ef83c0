"""What goes on training a checkpoint, or makes it another: transformers' Trainer, peft, torch.compile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bertkit.models import FAMILIES, load_model
from examples.consumers.workbench import TEXTS, Kind, Workbench, assert_close, assert_differ, assert_equal

RATE = 0.01
# What is linear in a family whose layers are recurrent, which peft does not adapt, and whose embeddings are shared. Of other
# families all layers are adapted, and the embeddings where no layer can be.
LORA_TARGETS = {"rnn_seq2seq": ("bridge", "attention.query", "key", "readout")}


def _head_with_loss(kind: Kind) -> str:
    """Return the head a kind is trained with: its own, or where nothing is pretrained one that labels texts."""
    return kind.own_head if kind.own_head != "AutoModel" else "AutoModelForSequenceClassification"


def _rows(batch: Mapping[str, torch.Tensor], times: int) -> list[dict[str, torch.Tensor]]:
    """Return a batch as a data set of single rows, so often over."""
    number = len(next(iter(batch.values())))
    return [{name: values[row] for name, values in batch.items()} for _ in range(times) for row in range(number)]


def _without_dropout(kind: Kind) -> dict[str, float]:
    """Return the settings that switch all dropout off."""
    config = FAMILIES[kind.family].config_class()
    return {name: 0.0 for name in type(config).__annotations__ if "dropout" in name and getattr(config, name)}


def _trainer(bench: Workbench, kind: Kind, output: Path, model_settings: Mapping[str, Any], **settings: Any) -> Any:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    head = _head_with_loss(kind)
    rows = _rows(bench.batch(kind, head, labels=True), times=4)
    defaults: dict[str, Any] = {
        "max_steps": 4,
        "per_device_train_batch_size": len(TEXTS),
        "save_steps": 2,
        "logging_steps": 1,
    }
    quiet = {"disable_tqdm": True, "report_to": "none", "use_cpu": True}
    arguments = TrainingArguments(str(output), learning_rate=RATE, **(defaults | quiet | settings))
    model = load_model(bench.checkpoint(kind, head), head, **model_settings).train()
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[: len(TEXTS)])
    trainer.remove_callback(PrinterCallback)
    return trainer


def trainer(bench: Workbench, kind: Kind) -> None:
    """Four steps leave the weights that two steps and two more from their checkpoint leave, dropout and all."""
    head, folder = _head_with_loss(kind), bench.folder(f"trainer/{bench.name_of(kind)}")
    unbroken = _trainer(bench, kind, folder / "unbroken", {})
    unbroken.train()
    assert len([entry for entry in unbroken.state.log_history if "loss" in entry]) == 4
    resumed = _trainer(bench, kind, folder / "resumed", {})
    resumed.train(resume_from_checkpoint=str(folder / "unbroken" / "checkpoint-2"))
    weights = [load_file(folder / part / "checkpoint-4" / "model.safetensors") for part in ("unbroken", "resumed")]
    assert_equal(weights[1], weights[0])
    assert_differ(weights[0], load_file(bench.checkpoint(kind, head) / "model.safetensors"))
    # What the Trainer measures is the model's own loss, and its checkpoint an ordinary one.
    saved = load_model(folder / "unbroken" / "checkpoint-4", head).eval()
    with torch.no_grad():
        loss = saved(**bench.batch(kind, head, labels=True)).loss.item()
    assert abs(resumed.evaluate()["eval_loss"] - loss) < 1e-4


def accumulation(bench: Workbench, kind: Kind) -> None:
    """A step over four rows is the step over one row, four times accumulated."""
    folder = bench.folder(f"accumulation/{bench.name_of(kind)}")
    losses, weights = [], []
    for rows in (len(TEXTS), 1):
        settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": len(TEXTS) // rows}
        once = {"max_steps": 1, "save_strategy": "no", "optim": "sgd"}
        one = _trainer(bench, kind, folder / str(rows), _without_dropout(kind), **once, **settings)
        one.train()
        losses.append(torch.tensor(one.state.log_history[0]["loss"]))
        weights.append({name: tensor.detach() for name, tensor in one.model.state_dict().items()})
    assert_close({"loss": losses[1]}, {"loss": losses[0]}, 1e-3)
    assert_close(weights[1], weights[0], 1e-5)


def lora(bench: Workbench, kind: Kind) -> None:
    """A trained adapter gives the same numbers after saving and loading, and after merging into plain weights."""
    from peft import LoraConfig, PeftModel, get_peft_model

    head, folder = _lora_head(kind), bench.folder(f"lora/{bench.name_of(kind)}")
    task = {"AutoModelForSequenceClassification": "SEQ_CLS", "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM"}.get(head)
    targets = list(LORA_TARGETS.get(kind.family, FAMILIES[kind.family].lora_targets)) or ["word_embeddings"]
    if kind.spells:
        targets = ["highways.0.gate", "highways.0.transform"]
    config = LoraConfig(task_type=task, r=4, lora_alpha=16, target_modules=targets)
    base = bench.model(kind, head)
    before = bench.outputs(base, bench.batch(kind, head))
    adapted: Any = get_peft_model(base, config).train()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name or "modules_to_save" in name for name in trained)
    optimizer = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=0.05)
    for _ in range(2):  # one half of an adapter starts at zero, and lets the other learn from the second step on
        adapted(**bench.batch(kind, head, labels=True)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.eval().save_pretrained(folder / "adapter")
    batch = bench.batch(kind, head)
    after = bench.outputs(adapted, batch)
    assert_differ(after, before)
    loaded: Any = PeftModel.from_pretrained(bench.model(kind, head), folder / "adapter").eval()
    assert_equal(bench.outputs(loaded, batch), after)
    merged = loaded.merge_and_unload()
    merged.save_pretrained(folder / "merged")
    assert_close(bench.outputs(load_model(folder / "merged", head).eval(), batch), after, 1e-4)


def _lora_head(kind: Kind) -> str:
    labels_texts = "AutoModelForSequenceClassification"
    return labels_texts if labels_texts in kind.heads else kind.own_head


def compiled(bench: Workbench, kind: Kind) -> None:
    """Compiled, a model says the same of batches of two sizes."""
    head = kind.own_head
    model = bench.model(kind, head)
    torch.compiler.reset()
    faster = torch.compile(model, backend=bench.compiler)
    for texts in (TEXTS, TEXTS[:3]):
        batch = bench.batch(kind, head, texts)
        assert_close(bench.outputs(faster, batch), bench.outputs(model, batch), 1e-4)
