"""The readers on files that nobody here wrote."""

import os
from collections import Counter
from pathlib import Path

import pytest

from bertkit.tasks import TASKS
from bertkit.tasks.sources import load_parts

pytestmark = pytest.mark.skipif("BERTKIT_DATA" not in os.environ, reason="BERTKIT_DATA is not set")
FOLDER = Path(os.environ.get("BERTKIT_DATA", ""))


def parts(task, **sources):
    settings = {
        name: str(FOLDER / value) if name in ("train", "eval", "test") else value for name, value in sources.items()
    }
    return load_parts(TASKS[task].data_class(**settings))


def sizes(read):
    return {part: len(examples) for part, examples in read.items()}


def test_sst2_trec_and_nsmc():
    folder = "classification"
    sst = parts(
        "sequence_classification",
        train=f"{folder}/sst2.train.txt", eval=f"{folder}/sst2.dev.txt", test=f"{folder}/sst2.test.txt",
    )  # fmt: skip
    assert sizes(sst) == {"train": 6920, "eval": 872, "test": 1821}
    trec = parts("sequence_classification", train=f"{folder}/trec.train.txt", test=f"{folder}/trec.test.txt")
    assert len(trec["train"]) + len(trec["eval"]) == 5452 and len(trec["test"]) == 500
    assert len(Counter(example.label for example in trec["train"])) == 6
    nsmc = parts(
        "sequence_classification", train=f"{folder}/nsmc_small_train.tsv", eval=f"{folder}/nsmc_small_dev.tsv",
        text_column="document",
    )  # fmt: skip
    assert sizes(nsmc) == {"train": 10000, "eval": 1000}


def test_a_table_without_a_header_gives_sts_b_with_its_scores():
    read = parts(
        "regression", train="pairs/stsb.train.tsv", eval="pairs/stsb.dev.tsv",
        header=False, text_column="6", text_pair_column="7", label_column="5",
    )  # fmt: skip
    assert sizes(read) == {"train": 5749, "eval": 1500}
    scores = [float(example.label) for example in read["train"]]
    assert min(scores) == 0 and max(scores) == 5
    assert read["train"][0].text == "A plane is taking off."


def test_conll_gives_the_sentences_of_wnut_17_in_their_number():
    files = {"train": "wnut17train.conll", "eval": "emerging.dev.conll", "test": "emerging.test.annotated"}
    read = parts("token_classification", form=".conll", **{part: f"ner/{name}" for part, name in files.items()})
    assert sizes(read) == {"train": 3394, "eval": 1009, "test": 1287}
    tags = {tag for example in read["train"] for tag in example.tags}
    assert len(tags) == 13 and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in tags)


def test_conllu_gives_the_sentences_of_the_english_treebank_without_tokens_of_several_words():
    read = parts("token_classification", train="pos/en_ewt-ud-train.conllu", eval="pos/en_ewt-ud-dev.conllu")
    assert sizes(read) == {"train": 12544, "eval": 2001}
    assert len({tag for example in read["train"] for tag in example.tags}) == 17
    assert read["train"][0].words[:3] == ("Al", "-", "Zaman")


def test_squads_json_gives_the_questions_of_xquad_and_divides_its_articles():
    read = parts("question_answering", train="qa/xquad.en.json", test_fraction=0.2)
    assert sum(sizes(read).values()) == 1190
    articles = {part: {example.title for example in examples} for part, examples in read.items()}
    assert sum(map(len, articles.values())) == len(set.union(*articles.values())) == 48
