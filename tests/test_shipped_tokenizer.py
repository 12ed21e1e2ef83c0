"""The tokenizer that lies in `tokenizer/` loads with transformers alone and is the one described."""

from pathlib import Path

from transformers import AutoTokenizer

FOLDER = Path(__file__).parents[1] / "tokenizer" / "wordpiece-wikipedia-4k"


def test_the_shipped_tokenizer_loads_and_encodes_pairs_with_segments():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert len(tokenizer) == 4000
    encoded = tokenizer("Anarchism is a political philosophy.", "It was written in Greek.")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens[0] == "[CLS]" and tokens.count("[SEP]") == 2 and "[UNK]" not in tokens
    first = tokens.index("[SEP]") + 1
    assert encoded["token_type_ids"] == [0] * first + [1] * (len(tokens) - first)
    assert tokenizer.decode(encoded["input_ids"][1 : first - 1]) == "anarchism is a political philosophy ."


def test_its_vocabulary_file_lists_the_ids_in_order():
    lines = (FOLDER / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert AutoTokenizer.from_pretrained(FOLDER).convert_ids_to_tokens(list(range(4000))) == lines
