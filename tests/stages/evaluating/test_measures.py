import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from bertkit.cli import main
from bertkit.data.splits import build_store
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.evaluation.ngram import NgramModel
from bertkit.models import FAMILIES, build_config, build_model, load_model
from bertkit.objectives import OBJECTIVES
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.stages.evaluate import _LANGUAGE_MODELS
from bertkit.stages.evaluating.measures import MEASURES
from bertkit.tokenization import load_tokenizer

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "cell_size": 32,
    "embedding_size": 32,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def saved(checkpoint, tmp_path_factory):
    """Save a small language model of a family, with the tokenizer of the tests' checkpoint; return its folder."""

    def save(family):
        folder = tmp_path_factory.mktemp(family)
        tokenizer = load_tokenizer(checkpoint)
        head = next(name for name in _LANGUAGE_MODELS if name in FAMILIES[family].auto_classes)
        if family == "bert":
            head = "AutoModelForMaskedLM"
        known = FAMILIES[family].config_class.__annotations__
        settings = {name: value for name, value in SMALL.items() if name in known}
        ends = {
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "decoder_start_token_id": tokenizer.cls_token_id,
        }
        settings |= {name: value for name, value in ends.items() if name in known}
        torch.manual_seed(0)
        config = build_config(family, vocab_size=len(tokenizer), initializer_range=0.2, **settings)
        build_model(config, head).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(
        "\n\n".join(["The film was very good and the story was brave.", "A dull scene.", "Bad actor. " * 20])
    )
    return path


def figures(output):
    """Read the number at the end of every line, by the words before it."""
    found = {}
    for line in output.splitlines():
        name, _, value = line.rpartition(" ")
        if value.replace(".", "").replace("-", "").isdigit():
            found[name.strip()] = float(value)
    return found


def test_every_family_that_is_pretrained_has_one_objective_and_a_measure():
    pretrained = [name for name, family in FAMILIES.items() if family.made_by == "pretrain"]
    of_family = {family: [name for name, o in OBJECTIVES.items() if family in o.families] for family in pretrained}
    assert all(len(names) == 1 for names in of_family.values()), of_family
    for (name,) in of_family.values():
        assert any(name in measure.kinds for measure in MEASURES.values())


@pytest.mark.parametrize("family", OBJECTIVES["causal"].families)
def test_likelihood_is_told_by_token_word_and_byte(saved, text, tmp_path, capsys, family):
    folder = saved(family)
    assert main(["evaluate", str(folder), str(text), f"--data.cache_dir={tmp_path / 'cache'}"]) == 0
    output = capsys.readouterr().out
    told = figures(output)
    tokenizer = load_tokenizer(folder)
    data = OBJECTIVES["causal"].data_class(train=str(text), cache_dir=str(tmp_path / "cache"))
    store = build_store(data, tokenizer, quiet=True)
    tokens = store.metadata.num_tokens + store.metadata.num_documents
    nats = told["loss per token"] * tokens
    assert 0 < told["loss per token"] < 3 * math.log(len(tokenizer))
    assert told["perplexity per token"] == pytest.approx(math.exp(told["loss per token"]), rel=1e-3)
    words = store.metadata.num_words + store.metadata.num_documents
    assert told["perplexity per word"] == pytest.approx(math.exp(nats / words), rel=1e-2)
    assert told["bits per byte"] == pytest.approx(nats / math.log(2) / store.metadata.num_normalised_bytes, abs=1e-3)
    bounded = "max_position_embeddings" in FAMILIES[family].config_class.__annotations__
    assert ("windows of 32, stride 16" in output) == bounded and ("from end to end" in output) != bounded


@pytest.mark.parametrize("family", OBJECTIVES["bidirectional"].families)
def test_each_direction_has_a_perplexity_by_word_and_the_floor_is_of_one_of_them(saved, text, tmp_path, capsys, family):
    folder = saved(family)
    assert main(["evaluate", str(folder), str(text), "--max_length=32", f"--data.cache_dir={tmp_path / 'cache'}"]) == 0
    told = figures(capsys.readouterr().out)
    data = OBJECTIVES["bidirectional"].data_class(train=str(text), cache_dir=str(tmp_path / "cache"))
    store = build_store(data, load_tokenizer(folder), quiet=True)
    sizes = store.metadata
    batches = ObjectiveBatches(
        OBJECTIVES["bidirectional"](OBJECTIVES["bidirectional"].arguments_class(block_size=32), load_tokenizer(folder)),
        store,
        batch_size=1,
        training=False,
    )
    for way, labels in (("forward", "shift_labels"), ("backward", "backward_labels")):
        tokens = sum((batches.batch(row, row + 1, 1.0)[labels] != -100).sum() for row in range(len(batches)))
        nats = told[f"{way} loss"] * tokens
        words = sizes.num_words + sizes.num_documents
        assert told[f"{way} perplexity per word"] == pytest.approx(math.exp(nats / words), rel=1e-2)
    assert told["unigram floor of the forward loss"] == pytest.approx(batches.loss_floor, abs=1e-4)


@pytest.mark.parametrize(
    "family", [name for o in ("causal", "bidirectional", "masked") for name in OBJECTIVES[o].families]
)
def test_minimal_pairs_are_compared_for_every_family_with_a_likelihood(saved, tmp_path, capsys, family):
    pairs = tmp_path / "pairs.jsonl"
    records = [("The film was good.", "The was film good."), ("A brave actor.", "A brave actor.")] * 2
    pairs.write_text("".join(json.dumps({"sentence_good": g, "sentence_bad": b}) + "\n" for g, b in records))
    assert main(["evaluate", str(saved(family)), str(pairs), "--measure", "minimal_pairs"]) == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("pairs "))
    assert row[2:] == ["4", "2"] and float(row[1]) in (0.25, 0.75)


def test_a_model_reads_as_far_as_it_did_in_training_though_it_has_more_positions(saved, text, capsys):
    folder = saved("gpt")
    (folder / "recipe.yaml").write_text("objective:\n  name: causal\n  block_size: 16\n")
    assert main(["evaluate", str(folder), str(text)]) == 0
    assert "windows of 16, stride 8" in capsys.readouterr().out


def test_text_without_spaces_has_a_perplexity_by_word_that_is_no_number(saved, tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("film" * 400 + "\n")
    assert main(["evaluate", str(saved("gpt")), str(path)]) == 0
    output = capsys.readouterr().out
    assert "inf" in next(line for line in output.splitlines() if line.startswith("perplexity per word"))
    assert figures(output)["bits per byte"] > 0


@pytest.mark.parametrize("family", OBJECTIVES["masked"].families)
def test_pseudo_likelihood_says_that_it_is_one(saved, text, capsys, family):
    folder = saved(family)
    assert main(["evaluate", str(folder), str(text), "--measure", "pseudo_likelihood", "--max_length", "20"]) == 0
    output = capsys.readouterr().out
    assert "texts of at most 18 tokens" in output and figures(output)["pseudo-bits per byte"] > 0


def evaluate_ngrams(checkpoint, text, *options, train):
    return main(["evaluate", str(checkpoint), str(text), "--measure", "ngram", f"--ngram_train={train}", *options])


@pytest.mark.parametrize("family", ["gpt", "elmo", "bert"])
def test_ngrams_are_counted_with_any_checkpoints_tokenizer_and_told_in_the_units_of_likelihood(
    saved, text, tmp_path, capsys, family
):
    train = tmp_path / "train.txt"
    train.write_text("\n\n".join(["The film was good and the scene was dull.", "A very brave story. " * 5] * 3))
    folder = saved(family)
    assert evaluate_ngrams(folder, text, "--ngram_order=3", train=train) == 0
    output = capsys.readouterr().out
    tokenizer = load_tokenizer(folder)

    def store_of(path):
        return build_store(OBJECTIVES["causal"].data_class(train=str(path)), tokenizer, quiet=True)

    def documents_of(store):
        starts = store.document_starts
        return [store.token_ids[start:end].tolist() for start, end in pairwise(starts)]

    model = NgramModel(
        documents_of(store_of(train)), order=3, vocab_size=len(tokenizer), eos_token_id=tokenizer.sep_token_id
    )
    store = store_of(text)
    sizes = store.metadata
    nats = -model.log_probabilities(documents_of(store)).sum()
    told = figures(output)
    assert told["loss per token"] == pytest.approx(nats / (sizes.num_tokens + sizes.num_documents), abs=1e-4)
    words = sizes.num_words + sizes.num_documents
    assert told["perplexity per word"] == pytest.approx(math.exp(nats / words), rel=1e-4)
    assert told["bits per byte"] == pytest.approx(nats / math.log(2) / sizes.num_normalised_bytes, abs=1e-4)


def test_a_tokenizer_without_a_model_will_do_for_ngrams_and_for_nothing_else(saved, text, tmp_path, capsys):
    folder, alone = saved("gpt"), tmp_path / "tokenizer"
    load_tokenizer(folder).save_pretrained(alone)
    assert evaluate_ngrams(folder, text, train=text) == 0
    of_checkpoint = capsys.readouterr().out
    assert main(["evaluate", str(alone), str(text), f"--ngram_train={text}"]) == 0
    assert capsys.readouterr().out == of_checkpoint
    assert main(["evaluate", str(alone), str(text), "--measure", "likelihood"]) == 2
    assert "--measure likelihood is not for a tokenizer; it has ngram" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measure=ngram"], "learns from; name it by --ngram_train"),
        (["--measure=ngram", "--ngram_train=nowhere.txt"], "nowhere.txt"),
        (
            ["--measure=ngram", "--ngram_train=nowhere.txt", "--ngram_order=7"],
            "--ngram_order is 7; it must be at most 6",
        ),
        (
            ["--measure=ngram", "--ngram_train=nowhere.txt", "--ngram_order=0"],
            "--ngram_order is 0; it must be at least 1",
        ),
        (["--ngram_order=3"], "it goes with --measure ngram"),
        (["--measure=ngram", "--stride=3"], "--stride says nothing to the measure ngram"),
    ],
)
def test_ngrams_that_cannot_be_counted_are_one_line(saved, text, capsys, options, message):
    assert main(["evaluate", str(saved("gpt")), str(text), *options]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("family", OBJECTIVES["causal"].families)
def test_the_reach_of_the_gradient_is_told_by_distance(saved, text, capsys, family):
    assert main(["evaluate", str(saved(family)), str(text), "--measure", "gradient_reach", "--max_length", "12"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    assert rows[0][1:] == ["1.0e+00", "1.0e+00"] and all(float(number) > 0 for row in rows for number in row)


@pytest.mark.parametrize("family", OBJECTIVES["seq2seq"].families)
def test_translations_are_scored_and_written(saved, tmp_path, capsys, family):
    (tmp_path / "source.txt").write_text("the film was good\na bad actor\n")
    (tmp_path / "target.txt").write_text("good the film was\nactor bad a\n")
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("the film was good\tgood the film was\na bad actor\tactor bad a\n")
    aligned = [str(tmp_path / "source.txt"), "--target", str(tmp_path / "target.txt")]
    folder, told = saved(family), []
    for number, named in enumerate((aligned, [str(pairs)])):
        output = tmp_path / f"out{number}.txt"
        options = ["--measure", "translation", "--num_beams", "2", "--max_length", "16", "--output", str(output)]
        assert main(["evaluate", str(folder), *named, *options]) == 0
        printed = capsys.readouterr().out
        assert "nrefs:1|case:mixed|eff:no|tok:13a" in printed and "chrF2" in printed
        told.append((output.read_text(), [line for line in printed.splitlines() if line[:4] in ("BLEU", "chrF")]))
        assert len(output.read_text().splitlines()) == 2
    assert told[0] == told[1]
    pairs.write_text("the film was good\tgood the film was\n\t\na bad actor\tactor bad a\n")
    assert main(["evaluate", str(folder), str(pairs), "--measure", "translation"]) == 2
    assert "pair 2: a side without text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (
            "gpt",
            ["--measure", "translation"],
            "--measure translation is not for a causal model; it has likelihood, loss",
        ),
        ("gpt", ["--measure", "likelyhood"], "unknown --measure 'likelyhood'; did you mean likelihood?"),
        ("gpt", ["--num_beams", "3"], "--num_beams says nothing to the measure likelihood; leave it out"),
        ("gpt", ["--max_length", "33"], "33 tokens at once are more than the model's 32 positions; lower --max_length"),
        ("gpt", ["--max_length", "0"], "--max_length is 0; it must be at least 1"),
        (
            "gpt",
            ["--batch_size", "3"],
            "--batch_size says nothing to the measure likelihood; it goes with --measure loss",
        ),
        ("rnn", ["--stride", "4"], "--stride says nothing to a model that reads from end to end; leave it out"),
        ("bert", ["--measure", "pseudo_likelihood", "--max_length", "2"], "--max_length is 2; a text needs at least 3"),
        (
            "bert",
            ["--measure", "minimal_pairs", "--data.documents", "line"],
            "--data.documents says nothing to the measure",
        ),
        ("gpt", ["--stride", "40"], "the stride is 40; it must be from 1 to the context of 32 tokens"),
    ],
)
def test_what_does_not_fit_is_one_line(saved, text, capsys, family, options, message):
    assert main(["evaluate", str(saved(family)), str(text), *options]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def words(tmp_path):
    """Three words of which two point one way, pairs that say so, and an analogy; returns the folder."""
    vectors = WordVectors(["good", "great", "bad", "film"], np.array([[1, 0.1], [1, 0], [0, 1], [-1, -1]]))
    vectors.save(tmp_path / "vectors.bin.gz", "word2vec_binary")
    (tmp_path / "pairs.txt").write_text("good great 9\ngood bad 2\ngreat bad 1\ngood unheardof 5\n")
    (tmp_path / "analogies.txt").write_text(": praise\ngood great bad film\ngood great bad unheardof\n")
    return tmp_path


def test_a_file_of_vectors_is_measured_by_words_unless_asked_for_analogies(words, capsys):
    assert main(["evaluate", str(words / "vectors.bin.gz"), str(words / "pairs.txt")]) == 0
    output = capsys.readouterr().out
    assert "4 pairs of" in output and "3 pairs are covered, 75.0%" in output
    assert figures(output)["Spearman's correlation"] == 1
    assert (
        main(["evaluate", str(words / "vectors.bin.gz"), str(words / "analogies.txt"), "--measure", "analogies"]) == 0
    )
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "1.0000", "1", "2"]


@pytest.mark.parametrize(
    "family", [name for name, family in FAMILIES.items() if not family.config_class().is_encoder_decoder]
)
@pytest.mark.parametrize("head", ["AutoModel", "its own"])
def test_the_input_embeddings_of_every_family_are_measured(words, checkpoint, saved, tmp_path, capsys, family, head):
    folder = tmp_path / "model"
    if head == "AutoModel" or FAMILIES[family].made_by != "pretrain":
        tokenizer, known = load_tokenizer(checkpoint), FAMILIES[family].config_class.__annotations__
        settings = {name: value for name, value in SMALL.items() if name in known}
        model = build_model(build_config(family, vocab_size=len(tokenizer), **settings), "AutoModel")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        folder = saved(family)
    table = load_model(folder, "AutoModel").get_input_embeddings().weight.detach()
    vocab = load_tokenizer(folder).get_vocab()
    good, great, bad = (table[vocab[word]] for word in ("good", "great", "bad"))
    cosines = [torch.cosine_similarity(*pair, dim=0).item() for pair in ((good, great), (good, bad), (great, bad))]
    assert main(["evaluate", str(folder), str(words / "pairs.txt"), "--measure", "word_similarity"]) == 0
    output = capsys.readouterr().out
    assert "3 pairs are covered, 75.0%" in output
    assert figures(output)["Spearman's correlation"] == pytest.approx(spearmanr(cosines, [9, 2, 1]).statistic, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--measure", "likelihood"],
            "--measure likelihood is not for a file of vectors; it has word_similarity, analogies",
        ),
        (["--max_length", "5"], "--max_length says nothing to the measure word_similarity; leave it out"),
        (["--data.documents", "line"], "--data.documents says nothing to the measure word_similarity; leave it out"),
    ],
)
def test_of_a_file_of_vectors_nothing_else_is_measured(words, capsys, options, message):
    assert main(["evaluate", str(words / "vectors.bin.gz"), str(words / "pairs.txt"), *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
