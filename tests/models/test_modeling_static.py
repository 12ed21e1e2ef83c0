"""Static embeddings are their vectors."""

import pytest
import torch

from bertkit.models import build_config, build_model
from bertkit.models.modeling_static import StaticEmbeddingModel


@pytest.fixture
def model():
    return build_model(build_config("static", "tiny", vocab_size=20, hidden_size=6), "AutoModel").eval()


def test_the_last_hidden_state_is_the_rows_of_the_table(model):
    input_ids = torch.tensor([[3, 7, 3], [1, 2, 19]])
    assert type(model) is StaticEmbeddingModel
    assert torch.equal(model(input_ids).last_hidden_state, model.word_embeddings.weight[input_ids])


def test_padding_is_zero_by_its_id_and_by_the_mask(model):
    input_ids = torch.tensor([[3, 7, 0], [1, 2, 19]])
    assert (model(input_ids).last_hidden_state[0, 2] == 0).all()
    masked = model(input_ids, attention_mask=torch.tensor([[1, 0, 0], [1, 1, 1]])).last_hidden_state
    assert (masked[0, 1:] == 0).all() and torch.equal(masked[1], model.word_embeddings.weight[input_ids[1]])


def test_what_a_head_hands_on_changes_nothing(model):
    input_ids = torch.tensor([[3, 7, 5]])
    others = {"token_type_ids": input_ids * 0, "position_ids": torch.tensor([[0, 1, 0]]), "example_starts": None}
    assert torch.equal(model(input_ids, **others).last_hidden_state, model(input_ids).last_hidden_state)


def test_exactly_one_kind_of_input_is_taken(model):
    for inputs in ({}, {"input_ids": torch.tensor([[1]]), "inputs_embeds": torch.zeros(1, 1, 6)}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**inputs)
