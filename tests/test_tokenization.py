"""WordPiece tokenizers: safe for every script, the same to the byte from the same text, and plain Hugging Face folders."""

import json
import logging
import os
import random
import subprocess
import sys
import unicodedata
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, CanineTokenizer, PreTrainedTokenizerFast

from bertkit import tokenization
from bertkit.tokenization import (
    SPECIAL_TOKENS,
    TokenizerArguments,
    format_report,
    is_continuation,
    load_tokenizer,
    save_tokenizer,
    tokenizer_report,
    train_tokenizer,
)

MIXED = """The quick brown fox, naïve and jaded, jumps over the lazy dog in 2024; it cost 5€. Visit the café!
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 한국어 문장을 읽는다. 漢字도 있다.
東京都に住んでいる人々は毎日電車で通います。我们喜欢学习语言。
हिन्दी में क़िला और विद्यालय हैं। ภาษาไทยที่สวยงามมาก שָׁלוֹם עוֹלָם مُحَمَّد می‌خواهم کتاب‌ها ന്‍ ക്ഷമ
Tiếng Việt được viết bằng chữ Quốc ngữ. Ένα μικρό παιδί. Ёжик ел йогурт.
👨‍👩‍👧 👍🏽 🇰🇷 ❤️‍🔥 great""".splitlines()

TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from(sorted(set("".join(MIXED)))),
        st.sampled_from(
            "\u0301\u0323\u034f\u00ad\u200b\u200c\u200d\ufe0f\u180e\ufeff\ufffd\ue000\t\x0c\x85\u2028  ᄒ한가İßΣςﬁ"
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


def train(paragraphs, quiet=True, **arguments):
    """A tokenizer of these paragraphs; by default every character of the text is spelled."""
    return train_tokenizer(([text] for text in paragraphs), TokenizerArguments(**arguments), quiet=quiet)


def words_of(tokenizer, text):
    backend = tokenizer.backend_tokenizer
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]


def read_documents(*names):
    """Documents of the real data: paragraphs a line, a blank line between documents."""
    if "BERTKIT_DATA" not in os.environ:
        pytest.skip("BERTKIT_DATA is not set")
    documents = [[]]
    for name in names:
        for line in (Path(os.environ["BERTKIT_DATA"]) / name).read_text(encoding="utf-8").splitlines():
            if line.strip():
                documents[-1].append(line.strip())
            elif documents[-1]:
                documents.append([])
    return [document for document in documents if document]


@pytest.fixture(scope="module")
def mixed():
    return train(MIXED * 2, vocab_size=1500, min_frequency=1)


@pytest.fixture(scope="module")
def mixed_folder(mixed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(mixed, folder)
    return folder


# What comes out


def test_special_tokens_come_first_then_the_extra_ones():
    tokenizer = train(MIXED, vocab_size=700, special_tokens=["<Ent>", "[NUM]"])
    expected = [*SPECIAL_TOKENS.values(), "<Ent>", "[NUM]"]
    assert tokenizer.convert_tokens_to_ids(expected) == list(range(7))
    assert sorted(tokenizer.all_special_tokens) == sorted(expected)
    assert tokenizer.tokenize("The<Ent>fox [NUM]")[1:4:2] != ["[UNK]", "[UNK]"]
    assert tokenizer("The <Ent> fox", add_special_tokens=False).input_ids[1] == 5
    assert tokenizer.decode(tokenizer("The <Ent> fox").input_ids, skip_special_tokens=True) == "the fox"


def test_pairs_come_out_in_berts_form_with_token_type_ids(mixed):
    first = mixed("The fox", add_special_tokens=False).input_ids
    second = mixed("jumps", add_special_tokens=False).input_ids
    pair = mixed("The fox", "jumps")
    assert pair.input_ids == [2, *first, 3, *second, 3]
    assert pair.token_type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert mixed("The fox").input_ids == [2, *first, 3]


def test_pieces_of_a_word_are_joined_again(mixed):
    text = "quickest brownfox , 5 € !"
    assert len(mixed.tokenize(text)) > len(text.split())
    assert mixed.decode(mixed(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize("vocab_size", [301, 350, 512])
def test_vocabulary_has_the_size_asked_for(vocab_size, caplog):
    paragraphs = ["".join(random.Random(n).choices("abcdef ", k=200)) for n in range(200)]
    tokenizer = train(paragraphs, vocab_size=vocab_size)
    assert len(tokenizer) == vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))
    assert not caplog.records


def test_too_little_text_is_said_in_one_line(caplog):
    tokenizer = train(["to be or not to be"], vocab_size=900)
    assert len(tokenizer) < 900
    [record] = caplog.records
    assert f"has {len(tokenizer)} entries, not 900" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_pieces_are_joined_only_as_often_as_asked():
    frequent, rare = "alpha " * 5, "omega " * 4
    vocab = train([frequent + rare], vocab_size=500, min_frequency=5).get_vocab()
    assert "alpha" in vocab
    assert "omega" not in vocab


@pytest.mark.parametrize("paragraphs", [[], ["", " \u200b\t"]])
def test_text_without_a_word_is_refused(paragraphs):
    with pytest.raises(ValueError, match="hold no word"):
        train(paragraphs)


def test_alphabet_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size=30 has no room .* lower limit_alphabet"):
        train(MIXED, vocab_size=30, limit_alphabet=1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"limit_alphabet": -1}, "limit_alphabet=-1"),
        ({"special_tokens": ["[CLS]"]}, r"'\[CLS\]' is there already"),
        ({"special_tokens": ["<a>", "<a>"]}, "'<a>' is there already"),
        ({"special_tokens": [""]}, "is empty"),
        ({"special_tokens": ["a\nb"]}, "line break"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenizerArguments(**arguments)


def test_quiet_training_prints_nothing_and_the_other_shows_progress(capfd):
    train(MIXED, vocab_size=700)
    assert capfd.readouterr() == ("", "")
    train(MIXED, vocab_size=700, quiet=False)
    out, err = capfd.readouterr()
    assert not out  # standard output is for the report
    assert "reading" in err
    assert "learning pieces" in err


# The alphabet


def test_limit_keeps_the_most_frequent_characters_with_ties_by_code_point():
    vocab = train(["aaa bb dd cc e"], vocab_size=50, limit_alphabet=3, min_frequency=1).get_vocab()
    assert {piece for piece in vocab if len(piece) == 1} == {"a", "b", "c"}


def test_no_piece_is_learned_across_a_character_that_was_left_out():
    vocab = train(["axb " * 50 + "ab a b " * 100], vocab_size=50, limit_alphabet=2, min_frequency=1).get_vocab()
    assert vocab.keys() - SPECIAL_TOKENS.values() == {"a", "b", "##b", "ab"}
    vocab = train(["axb " * 50 + "a b " * 100], vocab_size=50, limit_alphabet=2, min_frequency=1).get_vocab()
    assert vocab.keys() - SPECIAL_TOKENS.values() == {"a", "b"}


def test_default_alphabet_covers_the_text_and_leaves_half_the_vocabulary_for_words(caplog):
    syllables = [chr(0xAC00 + n) for n in range(3000)]  # each as frequent as the next: coverage would ask for all
    vocab = train([" ".join(syllables)], vocab_size=1000).get_vocab()
    assert sum(len(piece) == 1 for piece in vocab) == 500
    assert "raise vocab_size" in caplog.text
    caplog.clear()
    frequent = " ".join(syllables[:1500] * 20)
    vocab = train([frequent + " " + " ".join(syllables[1500:1503])], vocab_size=8000).get_vocab()
    assert sum(len(piece) == 1 for piece in vocab) == 1500  # the last three make up 0.01 %
    assert "[UNK]" not in caplog.text


# The same text, the same vocabulary

TIES = [
    "".join(letters) + " "
    for seed in range(300)
    for letters in [random.Random(seed).choices("abcd", k=random.Random(-seed).randint(2, 12))]
]


def test_equal_text_gives_an_equal_vocabulary_whatever_the_order_of_documents():
    first = train(TIES, vocab_size=250, min_frequency=1).get_vocab()
    for seed in range(15):
        shuffled = random.Random(seed).sample(TIES, len(TIES))
        assert train(shuffled, vocab_size=250, min_frequency=1).get_vocab() == first


def test_library_alone_would_not_be_deterministic_on_this_text():
    """Guards the test above: were the ties too few to matter, it could not fail."""
    seen = set()
    for _ in range(15):
        plain = BertWordPieceTokenizer()
        plain.train_from_iterator(TIES, vocab_size=250, min_frequency=1, show_progress=False)
        seen.add(json.dumps(plain.get_vocab(), sort_keys=True))
    assert len(seen) > 1


def test_files_are_equal_to_the_byte_across_processes_hash_seeds_and_threads(tmp_path):
    code = (
        "import json, sys; from bertkit.tokenization import *;"
        "text, folder = json.load(sys.stdin), sys.argv[1];"
        "arguments = TokenizerArguments(vocab_size=250, min_frequency=1, special_tokens=['<a>', '<b>']);"
        "save_tokenizer(train_tokenizer([text], arguments, quiet=True), folder)"
    )
    for seed, parallel in (("1", "true"), ("2", "false")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel}
        command = [sys.executable, "-c", code, str(tmp_path / seed)]
        subprocess.run(command, input=json.dumps(TIES), text=True, env=environment, check=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=3), st.booleans(), st.booleans())
def test_words_are_counted_as_the_tokenizer_cuts_them(paragraphs, strip_accents, handle_chinese_chars):
    arguments = TokenizerArguments(strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars)
    normalizer = tokenization._build_normalizer(arguments)
    pattern = Regex(tokenization._word_pattern(handle_chinese_chars))
    splitter = pre_tokenizers.Split(pattern, behavior="removed", invert=True)
    counted = tokenization.count_words([paragraphs], normalizer, splitter, quiet=True)
    whole = Counter(
        word for text in paragraphs for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    assert counted == whole


def test_flushing_the_chunks_changes_no_count(monkeypatch):
    expected = train(TIES * 2, vocab_size=250).get_vocab()
    monkeypatch.setattr(tokenization, "_MAX_CHUNKS", 3)
    assert train(TIES * 2, vocab_size=250).get_vocab() == expected


def test_counts_too_large_for_the_trainer_are_scaled_down(monkeypatch):
    words = list(tokenization._repeated_words({"a": 4200, "b": 7, "c": 1}, 3, quiet=True))
    assert Counter(" ".join(words).split()) == {"a": 1400, "b": 3, "c": 1}
    text = ["alpha " * 300 + "beta " * 200 + "gamma " * 100]
    expected = train(text, vocab_size=100)
    monkeypatch.setattr(tokenization, "_MAX_CHARACTER_COUNT", 100)
    scaled = train(text, vocab_size=100)
    assert scaled.tokenize("alpha beta gamma") == expected.tokenize("alpha beta gamma") == ["alpha", "beta", "gamma"]


# Every script


def is_jamo(character):
    return any(low <= ord(character) <= high for low, high in ((0x1100, 0x11FF), (0xA960, 0xA97F), (0xD7B0, 0xD7FF)))


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_hangul_is_never_torn_into_jamo(lowercase, strip_accents):
    text = "한국어 문장을 읽는다. 각 갂 힣"
    for form in ("NFC", "NFD"):
        source = [unicodedata.normalize(form, text)] * 3
        tokenizer = train(source, vocab_size=60, lowercase=lowercase, strip_accents=strip_accents)
        assert not any(map(is_jamo, "".join(tokenizer.get_vocab())))
        for other in ("NFC", "NFD"):
            ids = tokenizer(unicodedata.normalize(other, text), add_special_tokens=False).input_ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_real_korean_stays_whole_and_known():
    documents = read_documents("pretrain_ko/korquad_wiki_contexts.txt", "pretrain_ko/libreoffice_help_ko.txt")
    held_out = documents[::20]
    arguments = TokenizerArguments(vocab_size=8000, strip_accents=True)  # the way that takes Hangul apart on its road
    train_documents = (document for n, document in enumerate(documents) if n % 20)
    tokenizer = train_tokenizer(train_documents, arguments, quiet=True)
    assert len(tokenizer) == 8000
    assert not any(map(is_jamo, "".join(tokenizer.get_vocab())))
    report = tokenizer_report(tokenizer, held_out)
    assert report["unknown_share"] < 0.005
    assert report["tokens_per_word"] < 1.6
    for document in held_out[:20]:
        decomposed = [unicodedata.normalize("NFD", text) for text in document]
        assert tokenizer(decomposed).input_ids == tokenizer(document).input_ids


def test_chinese_characters_are_words_of_their_own_where_asked(mixed):
    assert words_of(mixed, "東京都に住む人々") == ["東", "京", "都", "に", "住", "む", "人", "々"]
    assert words_of(mixed, "𠀀𰀀漢字도") == ["𠀀", "𰀀", "漢", "字", "도"]
    kept = train(MIXED, vocab_size=700, handle_chinese_chars=False)
    assert words_of(kept, "東京都に") == ["東京都に"]


MARKED = ["हिन्दी", "क़िला", "विद्यालय", "ภาษาไทยที่สวยงามมาก", "שָׁלוֹם", "مُحَمَّد", "می‌خواهم", "کتاب‌ها", "ന്‍", "ക്ഷമ", "ᠠᠨ᠎ᠠ"]


@pytest.mark.parametrize("word", MARKED)
@pytest.mark.parametrize("strip_accents", [True, False])
def test_marks_and_joiners_that_spell_words_survive(word, strip_accents):
    word = unicodedata.normalize("NFC", word)
    tokenizer = train([word] * 2, vocab_size=200, strip_accents=strip_accents)
    ids = tokenizer(f"{word} {word}", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == f"{word} {word}"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("Café naïve Tiếng Việt được", "cafe naive tieng viet đuoc"),
        ("Ένα μικρό Ἀχιλλεύς", "ενα μικρο αχιλλευς"),
        ("Ёжик йогурт їжак", "ежик иогурт іжак"),
        ("İstanbul", "istanbul"),
        ("≠ が क़", "≠ が क़"),
    ],
)
def test_accents_leave_latin_greek_and_cyrillic_only_when_asked(text, stripped):
    for form in ("NFC", "NFD"):
        source = unicodedata.normalize(form, text)
        normalize = tokenization._build_normalizer(TokenizerArguments(strip_accents=True)).normalize_str
        assert normalize(source) == unicodedata.normalize("NFC", stripped)
        normalize = tokenization._build_normalizer(TokenizerArguments(lowercase=False)).normalize_str
        assert normalize(source) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("emoji", ["👨‍👩‍👧", "👍🏽", "🇰🇷", "❤️‍🔥", "👩🏽‍🚀", "👁️‍🗨️", "🏃‍➡️"])
def test_an_emoji_is_one_word_and_does_not_glue(mixed, emoji):
    plain = emoji.replace("\ufe0f", "")  # only says how to draw it
    assert words_of(mixed, f"so{emoji}{emoji}great") == ["so", plain, plain, "great"]


def test_an_unknown_symbol_leaves_the_word_beside_it_known(mixed):
    assert mixed.tokenize("great🦩→great") == ["great", "[UNK]", "[UNK]", "great"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so\u00adft \ufeffx\u200ey", ["soft", "xy"]),  # soft hyphen, byte order mark, direction mark
        ("foo\u200cbar e\u0301\u200dx", ["foobar", "éx"]),  # joiners that join nothing
        ("می\u200c و", ["می", "و"]),  # a joiner at the end of a word
        ("葛\U000e0100 ❤\ufe0f", ["葛", "❤"]),  # variation selectors
        ("\U000e0068\U000e0069hi", ["hi"]),  # tags: text nobody sees
        ("caf\ufffd", ["caf"]),
        ("a\tb\x0cc\x85d\u200be\u2028f\x00g\ue000h", list("abcdefgh")),  # space and control characters end a word
        ("5€→x≠y, don’t", ["5", "€", "→", "x", "≠", "y", ",", "don", "’", "t"]),
        ("snake_case->x", ["snake", "_", "case", "-", ">", "x"]),
        ("१२३ ٣٤ Ⅷ x²", ["१२३", "٣٤", "ⅷ", "x²"]),
    ],
)
def test_what_is_not_seen_goes_and_what_parts_words_parts_them(mixed, text, words):
    assert words_of(mixed, text) == words


def test_a_run_without_spaces_is_cut_and_not_unknown():
    sentence = "ภาษาไทยที่สวยงามมาก" * 30
    tokenizer = train([sentence], vocab_size=200)
    ids = tokenizer(sentence, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == sentence


@settings(max_examples=300, deadline=None)
@given(text=TEXT, lowercase=st.booleans(), strip_accents=st.booleans())
def test_canonically_equal_texts_become_one(text, lowercase, strip_accents):
    arguments = TokenizerArguments(lowercase=lowercase, strip_accents=strip_accents)
    normalize = tokenization._build_normalizer(arguments).normalize_str
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    "text", ["Hello there, Mr. Darcy! It's 5 o'clock (GMT+9).", "日本語 한국어, 漢字!", "Ünïcödé naïve"]
)
@pytest.mark.parametrize("strip_accents", [True, False])
def test_ordinary_text_is_cut_as_bert_cuts_it(mixed, text, strip_accents):
    arguments = TokenizerArguments(strip_accents=strip_accents)
    ours = tokenization._build_normalizer(arguments).normalize_str(text)
    bert = normalizers.BertNormalizer(lowercase=True, strip_accents=strip_accents).normalize_str(text)
    expected = [
        unicodedata.normalize("NFC", word) for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(bert)
    ]
    assert [word for word, _ in mixed.backend_tokenizer.pre_tokenizer.pre_tokenize_str(ours)] == expected


# Saved and loaded


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_trained_saved_and_bare_tokenizer_give_the_same_ids(mixed, mixed_loaded, text):
    auto, bare = mixed_loaded
    ids = mixed(text).input_ids
    assert auto(text).input_ids == ids
    assert bare.encode(text).ids == ids
    inner = ids[1:-1]
    if not set(inner) & set(auto.all_special_ids):
        assert auto(auto.decode(inner)).input_ids == ids  # what was decoded reads as it was written


@pytest.fixture(scope="module")
def mixed_loaded(mixed_folder):
    return AutoTokenizer.from_pretrained(mixed_folder), Tokenizer.from_file(str(mixed_folder / "tokenizer.json"))


def test_a_process_without_bertkit_gets_the_same_ids_also_beside_a_model_config(mixed, mixed_folder, tmp_path):
    save_tokenizer(mixed, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bertkit-bert"}')
    code = (
        "import json, sys; from transformers import AutoTokenizer\n"
        "texts = json.load(sys.stdin); found = []\n"
        "for folder in sys.argv[1:]:\n"
        "    tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "    found.append([dict(tokenizer(text, text)) for text in texts])\n"
        "assert 'bertkit' not in sys.modules\n"
        "json.dump(found, sys.stdout)"
    )
    texts = [*MIXED, " ".join(MIXED) * 50]
    command = [sys.executable, "-c", code, str(mixed_folder), str(tmp_path)]
    done = subprocess.run(command, input=json.dumps(texts), text=True, capture_output=True, check=True, cwd=tmp_path)
    expected = [dict(mixed(text, text)) for text in texts]
    assert json.loads(done.stdout) == [expected, expected]
    assert "longer than" not in done.stderr


def test_vocab_txt_lists_the_pieces_in_the_order_of_their_ids(mixed, mixed_folder):
    pieces = (mixed_folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert pieces.pop() == ""
    assert {piece: token_id for token_id, piece in enumerate(pieces)} == mixed.get_vocab()
    other = Tokenizer(models.WordPiece.from_file(str(mixed_folder / "vocab.txt"), unk_token="[UNK]"))
    assert other.get_vocab() == mixed.get_vocab()


def test_longest_sequence_is_set_only_when_asked(mixed, caplog):
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        mixed("great " * 2000)
        assert not caplog.records
        train(MIXED, vocab_size=700, model_max_length=16)("great " * 20)
        assert "longer than" in caplog.text
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)


def test_load_tokenizer_loads_a_folder_and_checks_what_is_required(mixed, mixed_folder, tmp_path):
    loaded = load_tokenizer(mixed_folder, require=("mask_token", "cls_token", "sep_token", "pad_token"))
    assert loaded("The fox").input_ids == mixed("The fox").input_ids
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    save_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"), tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    assert load_tokenizer(str(tmp_path), require=("unk_token",)).unk_token_id == 1
    with pytest.raises(ValueError, match="has no mask_token, pad_token"):
        load_tokenizer(tmp_path, require=("mask_token", "unk_token", "pad_token"))


def test_load_tokenizer_says_in_one_line_what_is_wrong(mixed_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text('{"model": ')
    CanineTokenizer().save_pretrained(tmp_path / "slow")
    for name, message in {
        "empty": "holds no tokenizer",
        "empty/tokenizer": "there is no tokenizer folder 'empty/tokenizer'",
        "./none": "there is no tokenizer folder",
        str(tmp_path / "none"): "there is no tokenizer folder",
        "broken": "could not be loaded from its folder",
        "slow": "is not a fast tokenizer",
        str(mixed_folder / "vocab.txt"): "is a file; name its folder",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_tokenizer(name)
        assert "\n" not in str(caught.value), name


def test_a_name_on_the_hub_may_carry_a_revision_and_a_folder_an_at_sign(mixed, mixed_folder, tmp_path, monkeypatch):
    folder = tmp_path / "ko@home"
    save_tokenizer(mixed, folder)
    assert load_tokenizer(folder).get_vocab() == mixed.get_vocab()
    asked = []

    def on_the_hub(name, *, revision, **settings):
        asked.append((name, revision))
        return mixed

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", on_the_hub)
    load_tokenizer("someone/ko@tokens-12M")
    load_tokenizer("someone/ko")
    assert asked == [("someone/ko", "tokens-12M"), ("someone/ko", "main")]


def test_a_name_not_on_the_hub_is_an_error_of_one_line(monkeypatch):
    def refuse(name, **settings):
        raise OSError(f"{name} is not\na repository")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ValueError, match=r"'nobody/nothing' could not be loaded from the Hub .*is not a repository"):
        load_tokenizer("nobody/nothing")


def test_importing_the_module_imports_no_heavy_library():
    code = "import bertkit.tokenization, sys; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Measured


def test_report_counts_what_it_says():
    tokenizer = train(["one two"] * 9 + ["xtxwxo"], vocab_size=30)
    report = tokenizer_report(tokenizer, iter([["one, two"], ["onetwo xyz two"]]))
    assert tokenizer.decode(tokenizer("one two", add_special_tokens=False).input_ids) == "one two"
    pieces = len(tokenizer.tokenize("onetwo"))
    assert pieces > 1
    tokens = 5 + pieces  # one [UNK] two, onetwo in pieces, [UNK] two: the comma and y are not in the vocabulary
    assert report == {
        "words": 6,
        "tokens_per_word": tokens / 6,
        "characters_per_token": (8 + 14) / tokens,
        "unknown_share": 2 / tokens,
        "whole_word_share": 3 / 6,
    }


def test_report_does_not_depend_on_batches(mixed, monkeypatch):
    documents = [MIXED[:2], MIXED[2:], ["great"]]
    expected = tokenizer_report(mixed, documents)
    small = tokenization._batches
    monkeypatch.setattr(tokenization, "_batches", lambda documents: small(documents, size=1))
    assert tokenizer_report(mixed, iter(documents)) == expected
    assert format_report(expected).startswith("words ")


def test_report_on_nothing_is_refused(mixed):
    with pytest.raises(ValueError, match="hold no word"):
        tokenizer_report(mixed, [[" "]])


def test_english_takes_no_more_tokens_than_with_the_plain_library():
    documents = read_documents("pretrain_en/state_union.txt")
    held_out = read_documents("pretrain_en/inaugural.txt")
    ours = train_tokenizer(documents, TokenizerArguments(vocab_size=8000, strip_accents=True), quiet=True)
    plain = BertWordPieceTokenizer(lowercase=True)
    plain.train_from_iterator(
        (text for document in documents for text in document), vocab_size=8000, show_progress=False
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=plain._tokenizer, unk_token="[UNK]")
    our_report, plain_report = tokenizer_report(ours, held_out), tokenizer_report(wrapped, held_out)
    assert our_report["tokens_per_word"] <= plain_report["tokens_per_word"] * 1.001  # the library's ties are luck
    assert our_report["characters_per_token"] >= plain_report["characters_per_token"] * 0.999
    assert our_report["unknown_share"] <= plain_report["unknown_share"]


# Words of pieces


def test_continuations_are_the_pieces_marked_so(mixed):
    continuation = is_continuation(mixed)
    assert continuation.shape == (len(mixed),)
    assert continuation.dtype == bool
    for piece, token_id in mixed.get_vocab().items():
        assert continuation[token_id] == piece.startswith("##"), piece


def test_continuations_of_text_are_all_but_the_first_token_of_a_word(mixed):
    encoding = mixed(MIXED, add_special_tokens=False)
    continuation = is_continuation(mixed)
    for ids, one in zip(encoding.input_ids, encoding.encodings, strict=True):
        word_ids = np.array(one.word_ids)  # (tokens,)
        expected = np.append(False, word_ids[1:] == word_ids[:-1])
        np.testing.assert_array_equal(continuation[ids], expected)


def wrapped(model, trainer, pre_tokenizer, decoder):
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    backend.train_from_iterator(["the cat sat on the mat"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", mask_token="<mask>")


def test_vocabularies_that_mark_the_beginning_are_read_by_it():
    special = ["<unk>", "<mask>"]
    unigram = trainers.UnigramTrainer(vocab_size=30, special_tokens=special, unk_token="<unk>", show_progress=False)
    byte_pairs = trainers.BpeTrainer(vocab_size=30, special_tokens=special, show_progress=False)
    for tokenizer in (
        wrapped(models.Unigram(), unigram, pre_tokenizers.Metaspace(), decoders.Metaspace()),
        wrapped(models.BPE(), byte_pairs, pre_tokenizers.ByteLevel(), decoders.ByteLevel()),
    ):
        continuation = is_continuation(tokenizer)
        ids = tokenizer("the cats sat", add_special_tokens=False).input_ids
        assert (~continuation[ids]).sum() == 3
        assert continuation[ids].any()
        assert not continuation[tokenizer.all_special_ids].any()


def test_a_vocabulary_that_marks_no_words_is_refused():
    levels = trainers.WordLevelTrainer(special_tokens=["<unk>", "<mask>"], show_progress=False)
    tokenizer = wrapped(models.WordLevel(), levels, pre_tokenizers.Whitespace(), None)
    with pytest.raises(ValueError, match="tell no word from the next"):
        is_continuation(tokenizer)


# The files to start from

CONFIGS = sorted((Path(__file__).parent.parent / "tokenizer" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_holds_known_settings_and_says_what_to_expect(path):
    text = path.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert set(config) == {"output_dir", "tokenizer"}
    assert set(config["tokenizer"]) <= {field.name for field in fields(TokenizerArguments)}
    tokenizer = train_tokenizer([MIXED], TokenizerArguments(**config["tokenizer"]), quiet=True)
    assert tokenizer("The fox").input_ids[0] == tokenizer.cls_token_id
    assert text.startswith("# ")
    assert f"--config tokenizer/configs/{path.name}" in text
    assert config["output_dir"].endswith(path.stem)


def test_there_are_configs():
    assert len(CONFIGS) >= 4
