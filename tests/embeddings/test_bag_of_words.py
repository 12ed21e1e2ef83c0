import json
import random
from itertools import pairwise

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from bertkit.config import ConfigError
from bertkit.embeddings.bag_of_words import BagOfWords, BagOfWordsArguments
from bertkit.tokenization import load_tokenizer

WORDS = ["good", "great", "fine", "bad", "awful", "poor", "film", "story", "actor", "scene", "the", "was", "very", "a"]
SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"


@pytest.fixture(scope="module")
def texts():
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, 9))) for _ in range(120)]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return load_tokenizer(tokenizer_folder)


def classes(texts, count):
    return np.array([(text.count("good") + text.count("great") + len(text) // 20) % count for text in texts])


def several_labels(texts):
    return np.array([["good" in text, "bad" in text, len(text) > 30, False] for text in texts], dtype=int)


def numbers(texts):
    return np.array([text.count("good") - 0.5 * text.count("bad") + len(text) / 100 for text in texts])


def bag_of(problem_type=SINGLE, *, labels=3, tokenizer=None, **settings):
    arguments = BagOfWordsArguments(**{"C": 2.0, **settings})
    names = [f"label {number}" for number in range(labels)]
    return BagOfWords(arguments, problem_type=problem_type, label_names=names, tokenizer=tokenizer)


ESTIMATORS = {
    "logistic_regression": (LogisticRegression(C=2.0, max_iter=10_000), "decision_function"),
    "linear_svm": (LinearSVC(C=2.0, random_state=0, max_iter=10_000), "decision_function"),
    "naive_bayes": (MultinomialNB(alpha=0.5), "predict_joint_log_proba"),
}
VECTORIZERS = {
    "tfidf": TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+"),
    "counts": CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+"),
    "binary": CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", binary=True),
}


@pytest.mark.parametrize("weighting", VECTORIZERS)
@pytest.mark.parametrize("classifier", ESTIMATORS)
@pytest.mark.parametrize("labels", [2, 3])
def test_logits_are_those_of_scikit_learns_own_pipeline_before_and_after_a_round_trip(
    texts, tmp_path, weighting, classifier, labels
):
    targets = classes(texts, labels)
    bag = bag_of(labels=labels, weighting=weighting, classifier=classifier).fit(texts[:80], None, targets[:80])
    estimator, method = ESTIMATORS[classifier]
    pipeline = make_pipeline(VECTORIZERS[weighting], estimator).fit(texts[:80], targets[:80])
    expected = getattr(pipeline[-1], method)(pipeline[:-1].transform(texts[80:]))
    logits = bag.logits(texts[80:], None)
    if labels == 2 and classifier != "naive_bayes":
        expected = np.stack([np.zeros_like(expected), expected], axis=1)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)
    if classifier != "linear_svm":
        shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        np.testing.assert_allclose(shares, pipeline.predict_proba(texts[80:]), rtol=0, atol=1e-9)
    bag.save(tmp_path)
    np.testing.assert_array_equal(BagOfWords.load(tmp_path).logits(texts[80:], None), logits)


@pytest.mark.parametrize("classifier", ESTIMATORS)
def test_each_of_several_labels_is_decided_as_by_a_pipeline_of_its_own(texts, tmp_path, classifier):
    targets = several_labels(texts)
    bag = bag_of(MULTI, labels=4, classifier=classifier).fit(texts[:80], None, targets[:80])
    pipeline = make_pipeline(VECTORIZERS["tfidf"], OneVsRestClassifier(ESTIMATORS[classifier][0]))
    pipeline.fit(texts[:80], targets[:80, :3])
    logits = bag.logits(texts[80:], None)
    np.testing.assert_array_equal((logits > 0)[:, :3], pipeline.predict(texts[80:]))
    if classifier != "linear_svm":
        shares = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(shares[:, :3], pipeline.predict_proba(texts[80:]), rtol=0, atol=1e-9)
    assert (logits[:, 3] == np.log(0.5 / 80.5)).all()  # a label that no training text has
    bag.save(tmp_path)
    np.testing.assert_array_equal(BagOfWords.load(tmp_path).logits(texts[80:], None), logits)


def test_numbers_are_predicted_by_ridge_regression(texts, tmp_path):
    bag = bag_of(NUMBER, labels=1).fit(texts[:80], None, numbers(texts)[:80])
    pipeline = make_pipeline(VECTORIZERS["tfidf"], Ridge(alpha=1 / 4)).fit(texts[:80], numbers(texts)[:80])
    predicted = bag.logits(texts[80:], None)
    np.testing.assert_allclose(predicted[:, 0], pipeline.predict(texts[80:]), rtol=0, atol=1e-9)
    bag.save(tmp_path)
    np.testing.assert_array_equal(BagOfWords.load(tmp_path).logits(texts[80:], None), predicted)


@pytest.mark.parametrize("analyzer", ["word", "char_wb", "wordpiece"])
def test_pairs_come_back_to_the_bit_whatever_ngrams_are_made_of(texts, tmp_path, tokenizer, analyzer):
    pairs = texts[::-1]
    given = tokenizer if analyzer == "wordpiece" else None
    bag = bag_of(analyzer=analyzer, tokenizer=given, ngram_max=3).fit(texts, pairs, classes(texts, 3))
    bag.save(tmp_path)
    asked = ["good film", "", "unheard-of words!"], ["great film", "bad", ""]
    np.testing.assert_array_equal(BagOfWords.load(tmp_path).logits(*asked), bag.logits(*asked))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".pkl", ".pickle", ".joblib", ".bin")]


def test_what_two_texts_share_tells_them_from_others_though_no_word_of_theirs_was_seen():
    generator = random.Random(1)
    texts = [" ".join(generator.choices(WORDS, k=6)) for _ in range(60)]
    pairs = [text if number % 2 else " ".join(generator.choices(WORDS, k=6)) for number, text in enumerate(texts)]
    bag = bag_of(labels=2, C=100.0).fit(texts, pairs, np.arange(60) % 2)
    logits = bag.logits(["new words only"] * 2, ["new words only", "something else entirely"])
    assert logits.argmax(-1).tolist() == [1, 0]


def test_shares_of_a_pair_are_told_for_each_length_of_ngram():
    bag = bag_of(labels=2, weighting="counts").fit(["a b c", "d"], ["a b", "d e"], np.array([0, 1]))
    overlap = bag.features(["a b c", ""], ["a b x y", "a"]).toarray()[:, -6:]
    assert overlap[0] == pytest.approx([2 / 3, 2 / 4, 2 / 5, 1 / 2, 1 / 3, 1 / 4])
    assert overlap[1].tolist() == [0] * 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("안 봐! 왜?", ["!", "?", "봐", "안", "왜"]),
        ("I can't.", ["'", ".", "can", "i", "t"]),
        ("हिन्दी में", ["में", "हिन्दी"]),
        ("好电影", ["好", "影", "电"]),
        ("\u1112\u1161\u11ab 글", ["글", "한"]),
    ],
)
def test_words_of_one_letter_count_in_every_script(text, words):
    bag = bag_of(labels=2, ngram_max=1).fit([text, "0"], None, np.array([0, 1]))
    assert sorted(bag.vocabularies[0]) == sorted([*words, "0"])


def test_pieces_are_those_of_the_tokenizer(tokenizer):
    text = " ".join(WORDS).title()
    bag = bag_of(labels=2, analyzer="wordpiece", tokenizer=tokenizer).fit([text, "bad"], None, np.array([0, 1]))
    pieces = tokenizer.tokenize(text)
    assert len(pieces) > len(WORDS)
    assert set(bag.vocabularies[0]) == {*pieces, *map(" ".join, pairwise(pieces)), *tokenizer.tokenize("bad")}


def test_the_strength_that_does_best_on_the_evaluation_part_is_taken(texts):
    targets = classes(texts, 3)
    part = texts[80:], None, targets[80:]
    right = {}
    for strength in (0.01, 1.0, 100.0):
        alone = bag_of(C=strength).fit(texts[:80], None, targets[:80])
        right[strength] = (alone.logits(*part[:2]).argmax(-1) == part[2]).mean()
    assert len(set(right.values())) > 1
    bag = bag_of(C=[100.0, 0.01, 1.0]).fit(texts[:80], None, targets[:80], evaluation=part)
    assert max(sorted(right), key=right.__getitem__) == bag.C


def test_a_balanced_weight_finds_more_of_a_rare_label(texts):
    targets = np.array(["great" in text and "awful" in text for text in texts]).astype(int)
    assert 0 < targets.sum() < 40
    for classifier in ESTIMATORS:
        found = [
            bag_of(labels=2, classifier=classifier, class_weight=weight, C=0.1, weighting="binary")
            .fit(texts, None, targets)
            .logits(texts, None)
            .argmax(-1)
            .sum()
            for weight in (None, "balanced")
        ]
        assert found[0] < found[1], classifier


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ngram_min": 0}, "model.ngram_min is 0"),
        ({"ngram_min": 3}, "model.ngram_max is 2, less than model.ngram_min, 3"),
        ({"C": []}, "give a number above 0"),
        ({"C": [1.0, -1.0]}, "give a number above 0"),
        ({"classifier": "ridge"}, "ridge is not for single_label_classification; choose logistic_regression"),
        ({"problem_type": NUMBER, "classifier": "linear_svm"}, "not for regression; leave it out"),
        ({"problem_type": NUMBER, "class_weight": "balanced"}, "says nothing to regression"),
        ({"analyzer": "wordpiece"}, "needs a tokenizer; name one by --tokenizer"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_counted(settings, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        bag_of(**settings)


def test_a_tokenizer_that_nothing_asks_for_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"takes no tokenizer; give --model\.analyzer wordpiece"):
        bag_of(tokenizer=tokenizer)


def test_data_that_cannot_be_learned_from_are_refused(texts):
    with pytest.raises(ConfigError, match="no training text has the label 'label 2'"):
        bag_of().fit(["a", "b"], None, np.array([0, 1]))
    with pytest.raises(ConfigError, match=r"no n-gram is in 9 training texts; lower model\.min_df"):
        bag_of(labels=2, min_df=9).fit(["a", "b"], None, np.array([0, 1]))
    with pytest.raises(ConfigError, match="no evaluation part to choose on"):
        bag_of(C=[1.0, 2.0]).fit(texts, None, classes(texts, 3))
    bag = bag_of(labels=2).fit(["a", "b"], None, np.array([0, 1]))
    with pytest.raises(ConfigError, match="learned from single texts, and is given a pair"):
        bag.logits(["a"], ["b"])


def test_a_damaged_or_foreign_folder_is_named(tmp_path):
    bag_of(labels=2).fit(["a", "b"], None, np.array([0, 1])).save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError, match="holds no whole bag of words"):
        BagOfWords.load(tmp_path)
    bag_of(labels=2).fit(["a", "b"], None, np.array([0, 1])).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="type 'bert'"):
        BagOfWords.load(tmp_path)


def test_a_bag_of_pieces_brings_its_tokenizer_along(tmp_path, tokenizer):
    bag_of(labels=2, analyzer="wordpiece", tokenizer=tokenizer).fit(["good", "bad"], None, np.array([0, 1])).save(
        tmp_path
    )
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()
