"""Any family starts from vectors, by token, and trains or keeps them; a run that goes on does the same."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from bertkit.cli import main
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.models import FAMILIES, build_config, build_model
from bertkit.stages.pretrained_embeddings import StartingEmbeddings
from bertkit.stages.vector_sources import load_vectors

PRETRAINED = [name for name, family in FAMILIES.items() if family.made_by == "pretrain"]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "cell_size": 32,
    "embedding_size": 24, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def vectors_file(tokenizer_folder, tmp_path):
    """Return a function: width -> a file of vectors of half of the tokens that begin a word, and of a strange word."""

    def write(width):
        vocab = AutoTokenizer.from_pretrained(tokenizer_folder).get_vocab()
        words = ["strange", *[token for token in sorted(vocab) if token[0] not in "[#"][::2]]
        path = tmp_path / f"vectors-{width}.txt"
        WordVectors(words, np.random.default_rng(0).standard_normal((len(words), width))).save(path, "glove")
        return path

    return write


def small_config(family, **settings):
    known = FAMILIES[family].config_class.__annotations__
    return build_config(family, **{name: value for name, value in (SMALL | settings).items() if name in known})


def table_of(folder):
    return AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach()


def expected_rows(path, tokenizer_folder):
    """The id and the vector of every token that a file has."""
    vectors, vocab = WordVectors.load(path), AutoTokenizer.from_pretrained(tokenizer_folder).get_vocab()
    return {vocab[word]: torch.from_numpy(vectors[word].copy()) for word in vectors.words if word in vocab}


@pytest.mark.parametrize("family", [*PRETRAINED, "static"])
def test_the_table_of_every_family_starts_from_vectors(family, vectors_file, tokenizer_folder, capsys):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    model = build_model(small_config(family, vocab_size=len(tokenizer)), "AutoModel")
    before = model.get_input_embeddings().weight.detach().clone()
    path = vectors_file(before.shape[1])
    rows = expected_rows(path, tokenizer_folder)
    counts = np.arange(len(tokenizer))
    StartingEmbeddings(str(path)).put_into(model, tokenizer, token_counts=counts)
    table = model.get_input_embeddings().weight
    assert table.requires_grad and len(rows) > 20
    for number in range(len(tokenizer)):
        assert torch.equal(table[number], rows.get(number, before[number]))
    [line] = capsys.readouterr().err.splitlines()
    share, of_text = len(rows) / len(tokenizer), sum(rows) / counts.sum()
    assert line == (
        f"pretrained embeddings: {len(rows)} of {len(tokenizer)} tokens ({share:.1%}) have a vector in {path}; they are "
        f"{of_text:.1%} of the training text"
    )


@pytest.mark.parametrize("family", [*PRETRAINED, "static"])
def test_vectors_of_another_width_are_refused_and_the_setting_that_would_do_is_named(
    family, vectors_file, tokenizer_folder
):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    model = build_model(small_config(family, vocab_size=len(tokenizer)), "AutoModel")
    path = vectors_file(40)
    with pytest.raises(
        ValueError, match=r"the vectors of .* have 40 numbers, and the model's embeddings \d+; set model"
    ) as caught:
        StartingEmbeddings(str(path)).put_into(model, tokenizer)
    setting, value = str(caught.value).partition("set model.")[2].partition(",")[0].split(" to ")
    settings = {setting: int(value), "num_attention_heads": 2}
    wider = build_model(small_config(family, vocab_size=len(tokenizer), **settings), "AutoModel")
    StartingEmbeddings(str(path)).put_into(wider, tokenizer)  # what the message says does


def test_tokens_are_found_as_spelled_then_in_lower_case_and_pieces_only_as_spelled(tmp_path, capsys):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {token: number for number, token in enumerate(["[PAD]", "US", "Paris", "paris", "##S", "##ing", "[MASK]"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="[PAD]")), pad_token="[PAD]"
    )
    words = ["us", "US", "paris", "##s", "##ing", "[PAD]", "[MASK]"]
    vectors = WordVectors(words, np.arange(1, 8)[:, None].repeat(32, axis=1))
    vectors.save(tmp_path / "vectors.txt")
    model = build_model(build_config("static", vocab_size=7, hidden_size=32), "AutoModel")
    fresh = model.get_input_embeddings().weight[4, 0].item()
    StartingEmbeddings(str(tmp_path / "vectors.txt")).put_into(model, tokenizer)
    first = model.get_input_embeddings().weight[:, 0].tolist()
    assert first == [0, 2, 3, 3, fresh, 5, 7]
    assert "5 of 7 tokens (71.4%)" in (line := capsys.readouterr().err) and "1 of them in lower case" in line


def test_a_checkpoint_is_a_source_too_static_or_not(tmp_path, tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for family, head in (("static", "AutoModel"), ("bert", "AutoModelForMaskedLM"), ("gpt", "AutoModelForCausalLM")):
        folder = tmp_path / family
        model = build_model(small_config(family, vocab_size=len(tokenizer)), head)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        vectors = load_vectors(str(folder))
        table = model.get_input_embeddings().weight.detach().numpy()
        assert len(vectors) == len(tokenizer) - 1 and "[PAD]" not in vectors
        for token, number in tokenizer.get_vocab().items():
            assert token == "[PAD]" or np.array_equal(vectors[token], table[number])


def test_a_model_that_spells_its_tokens_is_refused(tmp_path, tokenizer_folder, vectors_file, pretrain_options, capsys):
    settings = {
        "model.family": "elmo", "objective.name": "bidirectional", "model.token_input": "characters", "model.cell_size": 32,
        "model.num_attention_heads": None, "model.intermediate_size": None, "model.pretrained_embeddings": vectors_file(16),
    }  # fmt: skip
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    assert "the model spells its tokens and has no table" in capsys.readouterr().err


ROADS = {
    "bert": {"model.family": "bert"},
    "gpt": {"model.family": "gpt", "objective.name": "causal"},
    "rnn": {"model.family": "rnn", "objective.name": "causal", "model.embedding_size": 24, "model.num_attention_heads": None,
            "model.intermediate_size": None},
}  # fmt: skip


@pytest.mark.parametrize("family", ROADS)
@pytest.mark.parametrize("tied", ["true", "false"])
def test_frozen_embeddings_stay_while_all_else_is_trained_and_the_run_goes_on_to_the_same_bits(
    family, tied, vectors_file, tokenizer_folder, pretrain_options, tmp_path, capsys
):
    width = 24 if family == "rnn" else 32
    path = vectors_file(width)
    settings = ROADS[family] | {
        "model.pretrained_embeddings": path, "model.freeze_embeddings": "true", "model.tie_word_embeddings": tied,
        "training.save_steps": 3, "quiet": None,
    }  # fmt: skip
    assert main(["pretrain", *pretrain_options(tmp_path / "whole", **settings)]) == 0
    said = capsys.readouterr().err
    assert "pretrained embeddings: " in said
    assert ("the output layer is the same table" in said) is (tied == "true")
    table = table_of(tmp_path / "whole" / "last")
    for number, row in expected_rows(path, tokenizer_folder).items():
        assert torch.equal(table[number], row)
    assert torch.equal(table, table_of(tmp_path / "whole" / "checkpoint-3"))
    last, third = (
        AutoModel.from_pretrained(tmp_path / "whole" / name).state_dict() for name in ("last", "checkpoint-3")
    )
    moved = {name for name in last if not torch.equal(last[name], third[name])}
    assert len(last) - len(moved) <= 3  # of all parts the table, and what few tokens or one layer leave alone

    resumed = settings | {"training.resume_from_checkpoint": tmp_path / "whole" / "checkpoint-3"}
    assert main(["pretrain", *pretrain_options(tmp_path / "resumed", **resumed)]) == 0
    again = AutoModel.from_pretrained(tmp_path / "resumed" / "last").state_dict()
    assert all(torch.equal(again[name], value) for name, value in last.items())


def test_embeddings_that_are_not_frozen_are_trained(vectors_file, tokenizer_folder, pretrain_options, tmp_path):
    path = vectors_file(32)
    options = pretrain_options(tmp_path / "run", **{"model.pretrained_embeddings": path})
    assert main(["pretrain", *options]) == 0
    table, rows = table_of(tmp_path / "run" / "last"), expected_rows(path, tokenizer_folder)
    distances = [(table[number] - row).norm().item() for number, row in rows.items()]
    assert 0 < max(distances) < 5 and math.isfinite(sum(distances))
    assert np.mean([distance < row.norm() for distance, row in zip(distances, rows.values(), strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model.freeze_embeddings": "true"}, "model.freeze_embeddings is True, and was False in the run of "),
        ({"model.pretrained_embeddings": None}, "model.pretrained_embeddings is None, and was "),
    ],
)
def test_a_run_that_goes_on_cannot_change_its_mind(vectors_file, pretrain_options, tmp_path, capsys, changed, message):
    settings = {"model.pretrained_embeddings": vectors_file(32), "training.max_steps": 2}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 0
    goes_on = settings | changed | {"training.resume_from_checkpoint": "auto", "training.max_steps": 4}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **goes_on)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.pretrained_embeddings": "nowhere/at/all.txt"}, "there is no checkpoint folder nowhere/at/all.txt"),
        ({"model.freeze_embeddings": "perhaps"}, "model.freeze_embeddings is 'perhaps'; it takes true or false"),
        ({"model.pretrained_embeddings": 5}, "model.pretrained_embeddings is 5; it takes a file of vectors"),
    ],
)
def test_wrong_values_are_refused_in_one_line(pretrain_options, tmp_path, capsys, settings, message):
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_classifier_from_scratch_starts_from_vectors_and_a_pretrained_one_keeps_its_own(
    checkpoint, reviews, tmp_path, capsys
):
    vocab = AutoTokenizer.from_pretrained(checkpoint).get_vocab()
    words = ["good", "bad", "film"]
    WordVectors(words, np.random.default_rng(0).standard_normal((3, 32))).save(tmp_path / "vectors.txt")
    vectors = WordVectors.load(tmp_path / "vectors.txt")
    options = [
        "finetune", "--model.from", checkpoint, "--data.train", reviews["train"], "--data.eval", reviews["eval"],
        "--training.max_steps", 4, "--task.max_length", 32, "--model.freeze_embeddings",
        "--model.pretrained_embeddings", tmp_path / "vectors.txt",
    ]  # fmt: skip
    twin = [*options, "--from_scratch", "--output_dir", tmp_path / "twin"]
    assert main([*map(str, twin)]) == 0
    table = table_of(tmp_path / "twin" / "last")
    for word in words:
        assert np.array_equal(table[vocab[word]], vectors[word])
    capsys.readouterr()
    assert main([*map(str, options), "--output_dir", str(tmp_path / "tuned")]) == 2
    assert "would replace those that" in capsys.readouterr().err
