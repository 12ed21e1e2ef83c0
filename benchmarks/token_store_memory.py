"""Memory and speed of building a TokenStore: a generated corpus is tokenized in a child process that is watched.

    python benchmarks/token_store_memory.py --megabytes 1000

Prints tokens per CPU-second and the largest resident memory, both of all processes together (so pages that they share
count several times), and fails if the memory is more than 1.5 GB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

MAX_RESIDENT_BYTES = 1.5e9
NUM_WORDS = 40_000
VOCAB_SIZE = 8_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the generated corpus")
    parser.add_argument("--num_workers", type=int, help="processes that tokenize (default: every core)")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)  # what the child does
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.build, arguments.num_workers)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus.txt", arguments.megabytes)
        train_tokenizer(folder)
        command = [sys.executable, __file__, "--build", name]
        if arguments.num_workers:
            command += ["--num_workers", str(arguments.num_workers)]
        started = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = watch(child)
        seconds = time.monotonic() - started
        assert child.stdout is not None
        output = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"the build failed with exit code {child.returncode}")
    report = json.loads(output)
    print(f"corpus: {arguments.megabytes} MB, {report['num_documents']:,} documents, {report['num_tokens']:,} tokens")
    print(f"time: {seconds:.0f} s, {report['cpu_seconds']:.0f} CPU-seconds")
    print(f"speed: {report['num_tokens'] / report['cpu_seconds']:,.0f} tokens per CPU-second")
    print(f"peak resident memory: {peak / 1e6:,.0f} MB in all processes together")
    if peak > MAX_RESIDENT_BYTES:
        raise SystemExit(f"more than the {MAX_RESIDENT_BYTES / 1e6:,.0f} MB allowed")


def write_corpus(path: Path, megabytes: int) -> None:
    """Write documents of made-up words whose frequencies follow Zipf's law."""
    rng = np.random.default_rng(0)
    words = make_words(rng)
    weights = 1 / np.arange(1, NUM_WORDS + 1)
    cumulative = np.cumsum(weights / weights.sum())
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            drawn = words[np.minimum(np.searchsorted(cumulative, rng.random(200_000)), NUM_WORDS - 1)]
            for document in documents_of(drawn.tolist(), rng):
                file.write(document)


def make_words(rng: np.random.Generator) -> np.ndarray:
    """Return distinct words of one to four syllables, the frequent ones short."""
    syllables = [onset + vowel for onset in [*"bcdfghlmnprstv", "st", "tr", "pl", "sh"] for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < NUM_WORDS:
        length = min(1 + len(words) // 50, int(rng.integers(2, 5)))
        words["".join(rng.choice(syllables, length)) + rng.choice(["", "n", "s", "r"])] = None
    return np.array(list(words))


def documents_of(words: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Cut a stream of words into sentences of 5 to 35 words, paragraphs of 4, documents of 5 paragraphs."""
    start = 0
    parts: list[str] = []
    for num_sentences, length in enumerate(rng.integers(5, 36, size=len(words) // 5).tolist(), 1):
        sentence = words[start : start + length]
        if not sentence:
            break
        start += length
        end = "\n\n" if num_sentences % 20 == 0 else "\n" if num_sentences % 4 == 0 else " "
        parts.append(f"{' '.join(sentence).capitalize()}.{end}")
        if end == "\n\n":
            yield "".join(parts)
            parts = []


def train_tokenizer(folder: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    with (folder / "corpus.txt").open(encoding="utf-8") as corpus:
        sample = corpus.read(5_000_000)
    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(sample.splitlines(), vocab_size=VOCAB_SIZE, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))


def build(folder: Path, num_workers: int | None) -> None:
    from transformers import PreTrainedTokenizerFast

    from bertkit.data.arguments import DataArguments
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), unk_token="[UNK]")
    arguments = DataArguments(
        train=str(folder / "corpus.txt"), num_workers=num_workers, cache_dir=str(folder / "cache")
    )
    before = cpu_seconds_so_far()  # to import is no part of the work
    store = TokenStore.build(load_documents(arguments.train, arguments), tokenizer, arguments)
    cpu_seconds = cpu_seconds_so_far() - before
    sizes = store.metadata
    print(
        json.dumps({"num_documents": sizes.num_documents, "num_tokens": sizes.num_tokens, "cpu_seconds": cpu_seconds})
    )


def cpu_seconds_so_far() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def watch(child: subprocess.Popen) -> int:
    """Return the largest resident memory, in bytes, of the child with its children until it ends."""
    process = psutil.Process(child.pid)
    peak = 0
    while child.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:  # one of them ended just now
            continue
        time.sleep(0.3)
    return peak


if __name__ == "__main__":
    main()
