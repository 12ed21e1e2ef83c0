"""What may be wrong with a corpus, said before a step is taken: findings, each with a verdict and what to do."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

from bertkit.data.documents import Document, Documents
from bertkit.data.keyed_random import keyed_uniform
from bertkit.data.token_store import TokenStore

Verdict = Literal["ok", "warning", "stop"]

UNKNOWN_WARNING, UNKNOWN_STOP = 0.01, 0.5
"""Shares of unknown tokens: of a tokenizer made for other text, and of one that cannot read this text at all."""
LOOKED_AT = 20_000
"""Documents that the slow checks look at, at most; a keyed choice of them where there are more."""
CHARACTERS_LOOKED_AT = 100_000_000
"""Characters of them, at most: memory has an end."""
NEAR = 0.8
"""Jaccard similarity of the word triples of two documents from which on they count as near duplicates."""
_SCRIPTS = {
    "ar": "ARABIC", "bg": "CYRILLIC", "el": "GREEK", "fa": "ARABIC", "he": "HEBREW", "hi": "DEVANAGARI", "hy": "ARMENIAN",
    "ja": "CJK HIRAGANA KATAKANA", "ka": "GEORGIAN", "ko": "HANGUL", "mr": "DEVANAGARI", "ru": "CYRILLIC", "ta": "TAMIL",
    "te": "TELUGU", "th": "THAI", "uk": "CYRILLIC", "ur": "ARABIC", "zh": "CJK",
}  # fmt: skip
_LATIN = {"cs", "da", "de", "en", "es", "fi", "fr", "hu", "id", "it", "nl", "no", "pl", "pt", "ro", "sv", "tr", "vi"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    verdict: Verdict
    subject: str
    """What was looked at, in a word or two."""
    what: str
    """What was found."""
    remedy: str = ""
    """What to do about it, where there is something to do."""

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.subject:<20}{self.what}{f'; {self.remedy}' if self.remedy else ''}"

    def in_a_sentence(self) -> str:
        """Return it as an error says it."""
        return f"{self.subject}: {self.what}; {self.remedy}"


# Cheap: by the numbers that the store keeps


def cheap_checks(store: TokenStore) -> list[Finding]:
    """Check what the store's numbers tell, whatever it is used for.

    Args:
        store: the corpus.
    """
    return [check_sizes(store), check_unknown(store), check_vocabulary(store)]


def check_sizes(store: TokenStore) -> Finding:
    """Count documents, sentences, words and tokens."""
    sizes = store.metadata
    what = (
        f"{sizes.num_documents:,} documents, {sizes.num_sentences:,} sentences, {sizes.num_words:,} words, "
        f"{sizes.num_tokens:,} tokens ({sizes.num_tokens / max(sizes.num_words, 1):.2f} a word)"
    )
    parted_by_spaces = sizes.num_bytes < 40 * sizes.num_words  # Chinese, Japanese and Thai are not
    if parted_by_spaces and sizes.num_tokens > 4 * sizes.num_words and sizes.num_words > 1000:
        return Finding("warning", "size", what, "words fall into many pieces: train a tokenizer on this text")
    return Finding("ok", "size", what)


def check_unknown(store: TokenStore) -> Finding:
    """Look at the share of tokens that the tokenizer does not know."""
    share = store.metadata.num_unknown / store.metadata.num_tokens
    what = f"{100 * share:.2f} % of the tokens"
    if share >= UNKNOWN_STOP:
        return Finding(
            "stop", "unknown", what, "the tokenizer cannot read this text: train one on it (bertkit tokenizer)"
        )
    if share >= UNKNOWN_WARNING:
        return Finding("warning", "unknown", what, "the tokenizer was made for other text: train one on this")
    return Finding("ok", "unknown", what)


def check_vocabulary(store: TokenStore) -> Finding:
    """Look at how much of the vocabulary the corpus uses."""
    used = int((store.token_counts > 0).sum())
    what = f"{used:,} of {len(store.token_counts):,} tokens occur"
    if used < 0.5 * len(store.token_counts):
        return Finding(
            "warning",
            "vocabulary",
            what,
            "the rest is never learned: a tokenizer trained on this text has smaller tables",
        )
    return Finding("ok", "vocabulary", what)


def offers_pairs(store: TokenStore) -> bool:
    """Return whether a corpus can be asked which sentences follow each other: documents, and twice as many sentences."""
    documents, sentences = len(store.document_starts) - 1, len(store.sentence_starts) - 1
    return documents >= 2 and sentences >= 2 * documents


def check_pairs(store: TokenStore) -> Finding:
    """Look at whether the boundaries can serve next sentence prediction."""
    first_tokens = np.searchsorted(store.sentence_starts, store.document_starts)
    sentences = np.diff(first_tokens)  # of each document
    alone = int((sentences == 1).sum())
    what = f"{len(sentences):,} documents, {alone:,} of them of one sentence"
    if not offers_pairs(store):
        return Finding(
            "stop",
            "next sentence",
            f"{what}; that needs several documents, and two sentences a document on average",
            "part documents by blank lines (data.documents), or set objective.next_sentence false",
        )
    if alone > 0.3 * len(sentences):
        return Finding(
            "warning", "next sentence", what, "those ask no question; is a document a line here? see data.documents"
        )
    if len(sentences) < 10:
        return Finding(
            "warning", "next sentence", what, "wrong next sentences come from few documents, easy to tell apart"
        )
    return Finding("ok", "next sentence", what)


def histogram(lengths: np.ndarray) -> list[str]:
    """Draw how many of something have which length, a line for each doubling.

    Args:
        lengths: (n,) positive integers.

    >>> histogram(np.array([1, 3, 3, 9]))[0]
    '        1       1  ##########'
    """
    powers = np.floor(np.log2(np.maximum(lengths, 1))).astype(int)
    counts = np.bincount(powers)
    lines = []
    for power, count in enumerate(counts):
        low, high = 2**power, 2 ** (power + 1) - 1
        name = str(low) if low == high else f"{low}-{high}"
        lines.append(f"{name:>9} {count:>7,}  {'#' * -(-20 * int(count) // int(counts.max()))}")
    return lines


# Slower: by looking at the text


def sample(documents: Documents, num_documents: int) -> list[Document]:
    """Return all documents, or a keyed choice of about `LOOKED_AT` of them, up to `CHARACTERS_LOOKED_AT`."""
    share = min(LOOKED_AT / num_documents, 1)
    chosen: list[Document] = []
    characters = 0
    for place, document in enumerate(documents):
        if keyed_uniform("doctor", place) < share:
            chosen.append(document)
            characters += sum(map(len, document))
            if characters > CHARACTERS_LOOKED_AT:
                break
    return chosen


def check_encoding(documents: Iterable[Document]) -> list[Finding]:
    """Look for text that was decoded wrongly, and for control characters."""
    from ftfy.badness import is_bad

    replaced = control = mojibake = paragraphs = 0
    example = ""
    for document in documents:
        for paragraph in document:
            paragraphs += 1
            replaced += "\ufffd" in paragraph
            control += any(unicodedata.category(character) == "Cc" and character != "\t" for character in paragraph)
            if is_bad(paragraph):
                mojibake += 1
                example = example or paragraph[:60]
    findings = []
    for count, what, remedy in (
        (replaced, "with U+FFFD, the trace of bytes that were no text", "read the source in its real encoding"),
        (control, "with control characters", "strip them"),
        (mojibake, f"that look decoded twice, as {example!r}", "repair them, with ftfy for one"),
    ):
        if count > max(0.001 * paragraphs, 3):
            findings.append(Finding("warning", "encoding", f"{count:,} of {paragraphs:,} paragraphs {what}", remedy))
    return findings or [Finding("ok", "encoding", f"{paragraphs:,} paragraphs looked at")]


def check_language(documents: Iterable[Document], language: str) -> list[Finding]:
    """Look for letters that are not the language's."""
    scripts: Counter[str] = Counter()
    paragraphs = (paragraph for document in documents for paragraph in document)
    for paragraph in islice(paragraphs, 0, None, 10):  # scripts show in a tenth of the text
        scripts.update(_script(character) for character in paragraph if character.isalpha())
    letters = sum(scripts.values())
    code = re.split("[-_]", language.lower())[0]
    expected = "LATIN" if code in _LATIN else _SCRIPTS.get(code)
    if letters and expected:
        share = sum(scripts[script] for script in expected.split()) / letters
        most = ", ".join(f"{name.title()} {100 * count / letters:.0f} %" for name, count in scripts.most_common(3))
        if share < 0.5:
            remedy = f"is data.language {language} right? sentences are split by its rules"
            return [Finding("warning", "language", f"letters are {most}", remedy)]
        return [Finding("ok", "language", f"{language}: letters are {most}")]
    return []


def check_duplicates(documents: Sequence[Document]) -> list[Finding]:
    """Look for documents that occur twice, to the letter or nearly (MinHash, Broder 1997, over triples of words)."""
    texts = ["\n".join(document) for document in documents]
    seen: set[bytes] = set()
    different = []
    for text in texts:
        key = hashlib.blake2b(" ".join(text.split()).casefold().encode(), digest_size=16).digest()
        if key not in seen:
            different.append(text)
        seen.add(key)
    exact = len(texts) - len(different)
    near = num_near_duplicates(different)
    remedy = "a model learns them by heart and held-out text is no longer new: deduplicate (docs/large_corpora.md)"
    findings = []
    for name, count in (("exact duplicates", exact), (f"near duplicates (similarity {NEAR} and more)", near)):
        share = count / max(len(texts), 1)
        what = f"{count:,} of {len(texts):,} documents are {name} of others"
        findings.append(
            Finding("warning", "duplicates", what, remedy) if share > 0.01 else Finding("ok", "duplicates", what)
        )
    return findings


def num_near_duplicates(texts: Iterable[str]) -> int:
    """Count the texts that are nearly another text before them."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NEAR, num_perm=64)
    near = 0
    for number, text in enumerate(texts):
        words: Sequence[str] = text.casefold().split()
        parted_by_spaces = len(text) < 20 * len(words)
        words, width = (words, 3) if parted_by_spaces else ("".join(words), 8)  # else runs of 8 characters
        joint = " " if parted_by_spaces else ""
        triples = {joint.join(words[at : at + width]).encode() for at in range(max(len(words) - width + 1, 1))}
        sketch = MinHash(num_perm=64)
        sketch.update_batch(sorted(triples))
        if index.query(sketch):
            near += 1
        else:
            index.insert(str(number), sketch)
    return near


def _script(character: str) -> str:
    """Return the first word of a letter's Unicode name: LATIN, HANGUL, CJK."""
    return unicodedata.name(character, "UNKNOWN").split()[0]
