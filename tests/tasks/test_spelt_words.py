"""Words that are spelt come to the model as its own tokenizer gives them, and packed rows say what each example alone says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertkit.models import ElmoCharacterTokenizer, build_config, build_model
from bertkit.tasks import TASKS
from bertkit.tasks.spelt_words import SpeltWords
from bertkit.training.batches import digest
from tests.tasks import made_up
from tests.tasks.test_every_task import ARGUMENTS, data_arguments

MAX_CHARACTERS = 20
texts = st.lists(st.sampled_from(["né", "漢字", "a", "a", "<S>", "<pad>", "x" * 40, " ", "\u3000", "\t"])).map(" ".join)


@pytest.fixture(scope="module")
def speller():
    return ElmoCharacterTokenizer(max_characters=MAX_CHARACTERS)


@given(first=texts, second=st.none() | texts)
def test_numbers_of_words_stand_for_what_the_tokenizer_spells(speller, first, second):
    reader = SpeltWords(speller)
    read = reader(first, second)
    assert reader.spellings[read["input_ids"]].tolist() == speller(first, second)["input_ids"]
    alone = speller(first, second, add_special_tokens=False)["input_ids"]
    read_alone = reader(first, second, add_special_tokens=False)
    assert reader.spellings[read_alone["input_ids"]].tolist() == alone
    whole = list(zip(read.sequence_ids(), read.word_ids(), read["offset_mapping"], strict=True))
    for number, text in enumerate([first] if second is None else [first, second]):
        words = [(word, text[slice(*span)]) for of, word, span in whole if of == number]
        assert words == list(enumerate(text.split()))
    assert sum(of is None for of, _, _ in whole) == speller.num_special_tokens_to_add(pair=second is not None)


@given(words=st.lists(texts, min_size=1))
def test_each_word_of_a_list_knows_its_tokens(speller, words):
    reader = SpeltWords(speller)
    read = reader(words, is_split_into_words=True, add_special_tokens=False)
    expected = speller(words, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    assert reader.spellings[read["input_ids"]].tolist() == expected
    assert read.word_ids() == [number for number, word in enumerate(words) for _ in word.split()]


def test_a_word_has_one_number_and_padding_has_no_character(speller):
    reader = SpeltWords(speller)
    assert reader(["a b a", "b"], add_special_tokens=False)["input_ids"] == [[2, 3, 2], [3]]
    assert reader.spellings[reader.pad_token_id].tolist() == [260] * MAX_CHARACTERS
    assert reader.spellings[reader.unk_token_id].tolist() == [258, 259] + [260] * (MAX_CHARACTERS - 2)


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


@pytest.fixture
def examples(name, tmp_path):
    path = made_up.write(name, tmp_path, "train", 21)
    return data_arguments(name, path).read(str(path))


@pytest.fixture
def task(name, examples, speller):
    arguments = TASKS[name].arguments_class(**ARGUMENTS.get(name, {"max_length": 32}))
    return TASKS[name].from_examples(arguments, speller, examples)


@pytest.fixture
def model(task):
    torch.manual_seed(0)
    config = build_config(
        "elmo", None, vocab_size=3, token_input="characters", max_characters=MAX_CHARACTERS, hidden_size=16, cell_size=24,
        num_hidden_layers=2, character_filters=[[1, 8], [3, 8]], **task.config_settings,
    )  # fmt: skip
    return build_model(config, task.auto_class).eval()


def drawn(batches, start, stop):
    return {name: torch.from_numpy(array) for name, array in batches.batch(start, stop, 0.0).items()}


def by_transformers(task, example, speller):
    """One example as a user of transformers would give it to the model, without padding or packing."""
    if task.arguments.name == "token_classification":
        return speller(list(example.words), is_split_into_words=True, return_tensors="pt")
    if task.arguments.name == "question_answering":
        return speller(example.question, example.context, return_tensors="pt")
    if task.arguments.name == "multiple_choice":
        pairs = speller([example.text] * 2, list(example.choices), padding=True, return_tensors="pt")
        return {entry: tensor[None] for entry, tensor in pairs.items()}  # (1 question, choices, seq, ...)
    return speller(example.text, return_tensors="pt")


@torch.no_grad()
def test_packed_rows_of_spelt_words_say_what_each_example_alone_says(task, examples, model, speller, monkeypatch):
    monkeypatch.setattr("bertkit.tasks.packed_examples._WIDTH_MULTIPLE", 32)  # rows long enough for several
    batches = task.batches(examples, training=False)
    batch = drawn(batches, 0, len(examples))
    assert batch["input_ids"].shape == (*batch["attention_mask"].shape, MAX_CHARACTERS)
    assert len(batch["input_ids"]) < len(examples)
    example_ids = batch.pop("example_ids")
    outputs = model(**batch)
    alone = [model(**by_transformers(task, example, speller)) for example in examples]
    name = task.arguments.name
    if name == "token_classification":
        words = [output.logits[0, 1:-1] for output in alone]
        expected = torch.cat(words)
        real = example_ids >= 0
        actual = torch.empty_like(expected)
        actual[example_ids[real]] = outputs.logits[real]
    elif name == "question_answering":
        expected = torch.stack([output.start_logits[0] for output in alone])  # questions are as long as each other
        places = batch["example_starts"][: len(examples), None] + torch.arange(expected.shape[1])
        actual = torch.empty_like(expected)
        actual[example_ids[: len(examples)]] = outputs.start_logits.flatten()[places]
    else:
        expected = torch.cat([output.logits for output in alone])
        actual = torch.empty_like(expected)
        actual[example_ids[: len(examples)]] = outputs.logits[: len(examples)]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["sequence_classification"])
def test_the_digest_of_spelt_words_is_that_of_its_parts_and_changes_with_a_character(task, examples):
    batches = task.batches(examples, training=False)
    whole = drawn(batches, 0, 16)
    parts = [drawn(batches, 0, 5), drawn(batches, 5, 16)]
    expected = digest(whole, task.label_counts)
    assert sum(digest(part, task.label_counts) for part in parts) % 2**64 == expected
    whole["input_ids"][0, 1, 1] += 1
    assert digest(whole, task.label_counts) != expected
