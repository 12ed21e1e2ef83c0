import pytest
import sentencex
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.sentences import cut_paragraph, split_sentences

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def test_sentences_end_where_sentencex_ends_them():
    paragraphs = ["Das ist z.B. gut. Am 3. Januar kam Dr. Meier.", "Ja!"]
    assert split_sentences(paragraphs, mode="split", language="de") == [
        "Das ist z.B. gut.",
        "Am 3. Januar kam Dr. Meier.",
        "Ja!",
    ]


@pytest.mark.parametrize("language", ["de-AT", "de_DE", "DE"])
def test_region_and_case_of_a_language_do_not_change_its_rules(language):
    paragraph = "Am 3. Januar kam er."
    assert len(sentencex.segment("xx", paragraph)) == 2  # the fallback rules that an unknown code would get
    assert split_sentences([paragraph], mode="split", language=language) == [paragraph]


def test_korean_and_japanese_sentences_are_split():
    assert split_sentences(["안녕하세요. 반갑습니다!"], mode="split", language="ko") == ["안녕하세요.", "반갑습니다!"]
    assert split_sentences(["晴れです。雨です。"], mode="split", language="ja") == ["晴れです。", "雨です。"]


def test_line_mode_keeps_every_paragraph_whole_and_drops_white_space():
    assert split_sentences([" One. Two. ", " \t", "Three"], mode="line", language="en") == ["One. Two.", "Three"]


@given(st.lists(TEXT), st.sampled_from(["split", "line"]))
def test_no_character_but_white_space_is_lost(paragraphs, mode):
    sentences = split_sentences(paragraphs, mode=mode, language="en")
    assert "".join("".join(sentences).split()) == "".join("".join(paragraphs).split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_unknown_mode_is_refused_by_name():
    with pytest.raises(ValueError, match="'word'; choose from split, line"):
        split_sentences(["a"], mode="word", language="en")


@given(st.text(" ab가", max_size=200), st.integers(1, 20))
def test_pieces_of_a_paragraph_are_short_and_join_to_it(paragraph, max_characters):
    pieces = list(cut_paragraph(paragraph, max_characters=max_characters))
    assert "".join(pieces) == paragraph
    assert all(len(piece) <= max_characters for piece in pieces)
    for piece in pieces[:-1]:
        assert piece.endswith(" ") or (len(piece) == max_characters and " " not in piece)
