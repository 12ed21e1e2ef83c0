"""The text that benchmarks train on, and a tokenizer trained on it."""

import os
from pathlib import Path

from peer_examples import write_one_sentence_a_line
from token_store_memory import write_corpus

VOCAB_SIZE = 8192
GENERATED_MEGABYTES = 4


def prepare(corpus: Path | None, folder: Path, vocab_size: int = VOCAB_SIZE) -> str:
    """Lay text (`paragraphs.txt`, `sentences.txt`) and a tokenizer of it (`tokenizer`) into the folder.

    Args:
        corpus: as in `lay_text`.
        folder: where they are put.
        vocab_size: tokens of the tokenizer.

    Returns:
        What text it is.
    """
    description = lay_text(corpus, folder)
    size = train_tokenizer_of(folder / "paragraphs.txt", folder, vocab_size)
    print(f"text: {description}; tokenizer of {size} tokens trained on it", flush=True)
    return description


def train_tokenizer_of(text: Path, folder: Path, vocab_size: int = VOCAB_SIZE) -> int:
    """Lay a tokenizer of a text (`tokenizer`) into the folder, and return how many tokens it has."""
    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.tokenization import TokenizerArguments, save_tokenizer, train_tokenizer

    data = DataArguments(train=str(text))
    tokenizer = train_tokenizer(load_documents(data.train, data), TokenizerArguments(vocab_size=vocab_size), quiet=True)
    save_tokenizer(tokenizer, folder / "tokenizer")
    return len(tokenizer)


def lay_text(corpus: Path | None, folder: Path) -> str:
    """Lay text into the folder, as `paragraphs.txt` and as `sentences.txt`, a sentence a line.

    Args:
        corpus: a text file. None: a real one of $BERTKIT_DATA, or generated text where that is not set.
        folder: where they are put.

    Returns:
        What text it is.
    """
    paragraphs = folder / "paragraphs.txt"
    if corpus is None and "BERTKIT_DATA" in os.environ:
        corpus = Path(os.environ["BERTKIT_DATA"]) / "pretrain_en" / "austen.txt"
    if corpus is None:
        write_corpus(paragraphs, GENERATED_MEGABYTES)
    elif not corpus.is_file():
        raise SystemExit(f"there is no text file {corpus}; give another with --corpus")
    else:
        paragraphs.write_bytes(corpus.read_bytes())
    write_one_sentence_a_line(paragraphs, folder / "sentences.txt")
    return f"{corpus.name} ({paragraphs.stat().st_size / 1e6:.1f} MB)" if corpus else "generated text"
