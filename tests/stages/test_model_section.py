"""What a new model's configuration takes from the tokenizer."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from bertkit.stages.model_section import fresh_config


@pytest.mark.parametrize(("pad_token", "token_id"), [(None, None), ("None", 2), ("[PAD]", 3)])
def test_the_word_none_is_no_padding_unless_it_is_named(pad_token, token_id):
    words = {"a": 0, "[UNK]": 1, "None": 2, "[PAD]": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token=pad_token)
    config = fresh_config({"family": "gpt", "preset": "tiny"}, "AutoModelForCausalLM", tokenizer, max_positions=8)
    assert config.pad_token_id == token_id
