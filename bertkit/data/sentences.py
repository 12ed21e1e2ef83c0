"""Paragraphs become sentences, and paragraphs too long for a splitter become shorter ones."""

import re
import unicodedata
from collections.abc import Iterator

import sentencex

from bertkit.data.arguments import SentenceMode


def split_sentences(paragraphs: list[str], *, mode: SentenceMode, language: str) -> list[str]:
    """Cut the paragraphs of a document into sentences; none reaches over the end of its paragraph.

    Args:
        paragraphs: lines of text.
        mode: "split" goes by the rules of `sentencex` for the language; "line" takes every paragraph as one sentence.
        language: ISO 639 code; a region or script after it (pt-BR, zh-Hans) is allowed and does not matter.

    Returns:
        The sentences in order, without white space at their ends; those of white space only are dropped.

    Raises:
        ValueError: if `mode` is neither of the two.

    >>> split_sentences(["Dr. Gray sat down. He was late.", "Why?"], mode="split", language="en")
    ['Dr. Gray sat down.', 'He was late.', 'Why?']
    """
    if mode == "line":
        pieces = paragraphs
    elif mode == "split":
        # sentencex knows bare codes only: "de-AT" would silently be split by its fallback rules.
        code = re.split("[-_]", language)[0].lower()
        pieces = [piece for paragraph in paragraphs for piece in sentencex.segment(code, paragraph)]
    else:
        raise ValueError(f"unknown sentence mode {mode!r}; choose from split, line")
    return [sentence for piece in pieces if (sentence := piece.strip())]


def normalise(sentence: str) -> str:
    """Return the text whose bytes are counted: composed characters (NFC), one space between words.

    No tokenizer's own normal form: that of an uncased BERT takes Hangul apart into thrice the bytes and sets spaces around
    ideographs, and what models of two tokenizers reach could not be compared.

    Args:
        sentence: of any text.

    >>> normalise("e\N{COMBINING ACUTE ACCENT}te\N{NO-BREAK SPACE} \tagain") == "\N{LATIN SMALL LETTER E WITH ACUTE}te again"
    True
    """
    return unicodedata.normalize("NFC", " ".join(sentence.split()))


def cut_paragraph(paragraph: str, *, max_characters: int) -> Iterator[str]:
    """Cut a paragraph into pieces of at most `max_characters`, at a space where there is one.

    The time a splitter takes grows faster than the paragraph, and the memory a tokenizer takes is a hundred times the
    sentence, so a book on one line has to be cut before either sees it.

    Args:
        paragraph: one line of text.
        max_characters: length of the longest piece, in characters.

    Yields:
        Pieces that make up the paragraph when joined; one piece, the paragraph, if it is short enough.

    >>> list(cut_paragraph("one two three", max_characters=9))
    ['one two ', 'three']
    """
    start = 0
    while len(paragraph) - start > max_characters:
        end = paragraph.rfind(" ", start, start + max_characters) + 1  # 0 where there is no space
        if end == 0:
            end = start + max_characters
        yield paragraph[start:end]
        start = end
    yield paragraph[start:]
