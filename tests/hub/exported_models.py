"""Small models of every family and head that reads one text, with weights large enough for every part to show."""

import torch

from bertkit.models import FAMILIES, build_config, build_model
from tests.features.made_up import FAMILIES_OF_ONE_TEXT

# Family and every head of it.
HEADS = [(family, head) for family in FAMILIES_OF_ONE_TEXT for head in FAMILIES[family].auto_classes]
VOCABULARY = 61
_SIZES = {
    **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "cell_size": 12},
    **{"embedding_size": 8, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3},
    **{"character_embedding_size": 4, "character_filters": [[1, 4], [3, 6]], "max_characters": 12},
    **{"vocab_size": VOCABULARY},
}


def small_model(family, head, **settings):
    """Build a model in evaluation mode; sizes that its family has not are left out."""
    torch.manual_seed(0)
    fields = {*FAMILIES[family].config_class.__annotations__, "num_labels", "id2label", "label2id"}
    if head == "AutoModelForQuestionAnswering":
        fields.remove("num_labels")
    known = {name: value for name, value in {**_SIZES, **settings}.items() if name in fields}
    model = build_model(build_config(family, "tiny", **known), head)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1) / 4, std=0.4)
    return model.eval()


def written(model, folder, tokenizer=None):
    """Save a model, and a tokenizer beside it."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
