"""A training step hands its work to a GPU without asking what came out: each question would make the GPU idle meanwhile.

Tensors on the meta device have shapes and no numbers, so whatever depends on numbers fails there: `.item()`, `bool(tensor)`,
`nonzero`, indexing by booleans, `unique`, copies to the host. And as on a GPU, nothing runs that is for CPUs only.
"""

import pytest
import torch

from bertkit.models import FAMILIES
from bertkit.models.modeling_packed_rows import split_rows

RECURRENT = {"rnn", "rnn_seq2seq", "elmo"}  # their kernels want the lengths of the sequences on the host
HEADS = [
    (family, head)
    for family, members in FAMILIES.items()
    for head in members.auto_classes
    if family not in RECURRENT and head != "AutoModel"
]
LABELS_BY_EXAMPLE = {
    "AutoModelForPreTraining": {"next_sentence_label"},
    "AutoModelForNextSentencePrediction": {"labels"},
    "AutoModelForSequenceClassification": {"labels"},
    "AutoModelForQuestionAnswering": {"start_positions", "end_positions"},
}
STARTS = torch.tensor([0, 6, 10, 16, 20])
POSITIONS = torch.tensor(
    [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7, 1, 1]]
)
IS_TOKEN = torch.tensor([[1] * 10, [1] * 10, [1] * 8 + [0] * 2])


@pytest.fixture
def packed_batch(small_batch):
    """Return a function: head, and whether rows are pairs of source and target -> a batch as the collators make it."""

    def build(head, is_encoder_decoder):
        batch = small_batch(head) | {"attention_mask": IS_TOKEN}
        if is_encoder_decoder:
            return batch
        batch |= {"position_ids": POSITIONS, "example_starts": STARTS}
        if head in ("AutoModelForMaskedLM", "AutoModelForPreTraining"):
            batch["label_positions"] = batch["labels"].flatten().ne(-100).nonzero().squeeze(1)
            batch["labels"] = batch["labels"].flatten()[batch["label_positions"]]
        labels = dict.fromkeys(LABELS_BY_EXAMPLE.get(head, ()), torch.tensor([0, 1, 1, 0, -100]))
        return batch | labels

    return build


@pytest.mark.parametrize(("family", "head"), HEADS)
def test_a_training_step_asks_the_device_nothing(small_model, packed_batch, family, head, monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no meta device
    dropout = {"hidden_dropout_prob": 0.1} | ({} if family == "static" else {"attention_probs_dropout_prob": 0.1})
    model = small_model(family, head, **dropout).to("meta").train()
    batch = packed_batch(head, model.config.is_encoder_decoder)
    count = torch.ones((), device="meta")
    loss = model(**{name: tensor.to("meta") for name, tensor in batch.items()}, num_items_in_batch=count).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.AdamW(model.parameters()).step()
    assert any(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()


def test_rows_are_split_into_sequences_with_one_question_to_the_device(monkeypatch):
    """The one question gets its answer here, from tensors that have numbers; a second one would not."""
    expected = split_rows(3, 10, IS_TOKEN, POSITIONS)
    is_token = IS_TOKEN.bool()
    begins = POSITIONS == 0
    answers = [torch.stack([is_token, is_token & begins, begins])]
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: answers.pop() if tensor.is_meta else tensor)
    found = split_rows(3, 10, IS_TOKEN.to("meta"), POSITIONS.to("meta"))
    assert not answers
    assert torch.equal(found.batch_sizes, expected.batch_sizes)
    for name in ("steps", "rows", "continues", "last", "filled"):
        on_device, value = getattr(found, name), getattr(expected, name)
        assert on_device.is_meta and (on_device.shape, on_device.dtype) == (value.shape, value.dtype)
