"""`bertkit quickstart`: the whole road in minutes, offline, on the Wikipedia pages that ship inside gensim's wheel.

Every step is a command that a user could type, and is shown before it is run.
"""

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertkit.config import ConfigError, RecipeParser
from bertkit.data.keyed_random import keyed_permutation

SENTENCES = {
    "train": 1000,
    "eval": 200,
    "test": 1000,
}  # to fine-tune on, to choose the epoch by, and held out to test on
WORDS = (8, 40)  # of those sentences, the fewest and the most
ARTICLES = 20  # whose held-out paragraphs become vectors: those with the most paragraphs
HELD_OUT = 0.15  # of each article, its end: never pretrained on, and what all figures are measured on
SHORTEST_PARAGRAPH = 15  # words
_PAGES = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def main(arguments: Sequence[str]) -> None:
    """Walk the road.

    Raises:
        ValueError: gensim is not installed, or the output folder is not empty.
    """
    parser = RecipeParser(
        "quickstart", description="The whole road in minutes, on Wikipedia pages that ship with gensim."
    )
    parser.add_argument("--output_dir", type=str, default="quickstart", help="Folder for everything that is made.")
    parser.add_argument(
        "--max_steps",
        type=int | None,
        default=None,
        help="Pretraining steps, for a shorter look; default: the recipe's.",
    )
    options, _ = parser.read(arguments)
    folder = Path(options.output_dir)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; remove it, or give another --output_dir")
    quickstart(folder, max_steps=options.max_steps)


def quickstart(folder: Path, *, max_steps: int | None = None) -> None:
    """Make a corpus, a tokenizer, a pretrained model, a fine-tuned one and vectors, and say what came of each.

    Args:
        folder: where everything goes.
        max_steps: pretraining steps, if not the recipe's.
    """
    started, cpu_started = time.monotonic(), _cpu_seconds()
    _headline(1, "A corpus: the Wikipedia pages in gensim's wheel")
    figures = write_corpus(folder / "data")
    print(
        f"{figures['articles']} articles; {figures['train_paragraphs']:,} paragraphs to pretrain on, "
        f"{figures['eval_paragraphs']:,} held out; {SENTENCES['train']:,} sentences to fine-tune on, every second one with its "
        f"words shuffled, and {SENTENCES['test']:,} held-out ones to test on"
    )

    _headline(2, "A WordPiece tokenizer, trained on it")
    train, held_out = folder / "data" / "pretrain.txt", folder / "data" / "held_out.txt"
    corpus = ["--data.train", train, "--data.eval", held_out]
    tokenizer = folder / "tokenizer"
    _bertkit("tokenizer", *corpus, "--tokenizer.vocab_size", 4000, "--output_dir", tokenizer)

    _headline(3, "Pretraining: masked tokens and next sentences")
    run = folder / "bert-tiny"
    steps = [] if max_steps is None else ["--training.max_steps", max_steps]
    _run(
        ["accelerate", "launch", "--num_processes", 1, "--num_machines", 1, "--mixed_precision", "no",
         "--dynamo_backend", "no", "-m", "bertkit.cli", "pretrain", "--config", "quickstart", *corpus,
         "--tokenizer", tokenizer, "--output_dir", run, *steps]
    )  # fmt: skip

    _headline(4, "Filling masks with transformers.pipeline, which knows nothing of bertkit")
    fills = fill_masks(run / "last")
    print("\n".join(f"  {sentence}\n      -> {', '.join(words)}" for sentence, words in fills.items()))

    _headline(5, "Fine-tuning: are the words in order, or shuffled? Pretrained, and from scratch with the same budget")
    labelled = [
        part
        for name in ("train", "eval", "test")
        for part in (f"--data.{name}", folder / "data" / f"word_order_{name}.tsv")
    ]
    accuracies = {}
    for name, fresh in (("pretrained", "false"), ("from-scratch", "true")):
        output_dir = folder / f"word-order-{name}"
        _bertkit("finetune", "--config", "quickstart-word-order", "--model.from", run / "last", "--from_scratch", fresh,
                 *labelled, "--output_dir", output_dir)  # fmt: skip
        results = json.loads((output_dir / "results.json").read_text())
        accuracies[name] = results["runs"][0]["test"]["accuracy"]
        majority = results["guess"]["test"]["accuracy"]

    _headline(6, f"Features: the held-out paragraphs of the {ARTICLES} longest articles as vectors")
    vectors = folder / "features.parquet"
    _bertkit("features", run / "last", folder / "data" / "articles.tsv", "--output", vectors)
    neighbours = nearest_neighbours(vectors, folder / "data" / "articles.tsv")

    _headline(7, "Everything loads back through transformers' Auto classes")
    loaded = load_everything(run / "last", folder / "word-order-pretrained" / "best")
    print("\n".join(f"  {line}" for line in loaded))

    state = json.loads((run / "last" / "state" / "trainer_state.json").read_text())
    floor, loss = state["loss_floor"], state["metrics"]["eval_mlm_loss"]
    rows = [
        (
            "held-out masked-token loss",
            f"{loss:.3f} nats, unigram floor {floor:.3f} ({loss - floor:+.3f})",
            run / "last",
        ),
        (
            "next sentence, held out",
            f"{state['metrics']['eval_next_sentence_accuracy']:.1%} right (guessing: 50 %)",
            run,
        ),
        (
            "in order or shuffled, pretrained",
            f"{accuracies['pretrained']:.1%} of held-out sentences right",
            folder / "word-order-pretrained",
        ),
        ("  from scratch, same budget", f"{accuracies['from-scratch']:.1%} right", folder / "word-order-from-scratch"),
        ("  always the same answer", f"{majority:.1%} right", ""),
        (
            "nearest neighbour by features",
            f"{neighbours:.1%} of the same article (chance: about {1 / ARTICLES:.0%})",
            vectors,
        ),
    ]
    _headline(8, "What came of it")
    widths = [max(len(str(row[column])) for row in rows) for column in range(2)]
    print("\n".join(f"{name:<{widths[0]}}  {figure:<{widths[1]}}  {place}".rstrip() for name, figure, place in rows))
    minutes, cpu_minutes = (time.monotonic() - started) / 60, (_cpu_seconds() - cpu_started) / 60
    print(f"\n{minutes:.1f} minutes, {cpu_minutes:.1f} CPU-minutes. Next: your own text, as the README shows.")


def write_corpus(folder: Path) -> dict[str, int]:
    """Write the articles as text to pretrain on, sentences in and out of order, and paragraphs labelled with their article.

    Args:
        folder: gets `pretrain.txt` and `held_out.txt` (a paragraph a line, a blank line between articles), and with the
            columns text and label `word_order_train.tsv`, `word_order_eval.tsv`, `word_order_test.tsv` and `articles.tsv`,
            the latter two from held-out text only.

    Returns:
        How much there is of each text.

    Raises:
        ValueError: gensim is not installed.
    """
    from bertkit.data.sentences import split_sentences

    articles = read_articles()
    folder.mkdir(parents=True)
    cut = {title: round(len(paragraphs) * (1 - HELD_OUT)) for title, paragraphs in articles.items()}
    parts = {
        "pretrain": {title: paragraphs[: cut[title]] for title, paragraphs in articles.items()},
        "held_out": {title: paragraphs[cut[title] :] for title, paragraphs in articles.items()},
    }
    sentences = {}
    for name, part in parts.items():
        documents = ["\n".join(paragraphs) for paragraphs in part.values() if paragraphs]
        (folder / f"{name}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
        cuts = (split_sentences(paragraphs, mode="split", language="en") for paragraphs in part.values())
        found = dict.fromkeys(sentence for pieces in cuts for sentence in pieces)  # each once
        sentences[name] = [sentence for sentence in found if WORDS[0] <= len(sentence.split()) <= WORDS[1]]

    known = set(sentences["pretrain"])
    unknown = [sentence for sentence in sentences["held_out"] if sentence not in known]
    learned_from = word_order(sentences["pretrain"], SENTENCES["train"] + SENTENCES["eval"])
    _write_table(folder / "word_order_train.tsv", learned_from[: SENTENCES["train"]])
    _write_table(folder / "word_order_eval.tsv", learned_from[SENTENCES["train"] :])
    _write_table(folder / "word_order_test.tsv", word_order(unknown, SENTENCES["test"]))
    longest = sorted(articles, key=lambda title: -len(articles[title]))[:ARTICLES]
    labelled = [(paragraph, title) for title in longest for paragraph in parts["held_out"][title]]
    _write_table(folder / "articles.tsv", labelled)
    return {
        "articles": len(articles),
        "train_paragraphs": sum(map(len, parts["pretrain"].values())),
        "eval_paragraphs": sum(map(len, parts["held_out"].values())),
    }


def word_order(sentences: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Draw sentences and shuffle the words of every second one, but for its first and last, which case and full stop give away.

    The task is a coarse form of the bigram shift of Conneau et al. 2018, https://arxiv.org/abs/1805.01070: single words tell
    nothing of the label.

    Args:
        sentences: what to draw from, of four words or more that are not all the same.
        count: how many; at most as many as there are.

    Returns:
        (sentence, "in order" or "shuffled"), the same ones each time.
    """
    examples = []
    for number, place in enumerate(keyed_permutation(len(sentences), "sentences")[:count]):
        sentence = sentences[place]
        if number % 2:
            first, *inner, last = sentence.split()
            orders = (keyed_permutation(len(inner), "words", place, attempt) for attempt in itertools.count())
            changed = ([inner[word] for word in order] for order in orders)
            sentence = " ".join([first, *next(words for words in changed if words != inner), last])
        examples.append((sentence, ("in order", "shuffled")[number % 2]))
    return examples


def _write_table(path: Path, examples: Sequence[tuple[str, str]]) -> None:
    lines = ["text\tlabel", *("\t".join(example) for example in examples)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_articles() -> dict[str, list[str]]:
    """Read the articles among the Wikipedia pages in gensim's wheel.

    Returns:
        Title -> paragraphs of plain text, those too short to be prose left out.

    Raises:
        ValueError: gensim is not installed.
    """
    import bz2

    try:
        from gensim.corpora.wikicorpus import extract_pages, filter_wiki
        from gensim.test.utils import datapath
    except ImportError as error:
        raise ConfigError(
            "the quick start reads pages that ship with gensim; pip install 'bertkit[quickstart]'"
        ) from error
    articles = {}
    with bz2.open(datapath(_PAGES)) as file:
        for title, text, _ in extract_pages(file, filter_namespaces=("0",)):
            if text.strip().lower().startswith("#redirect"):
                continue
            lines = (
                line.replace("'''", "").replace("''", "").replace("\t", " ") for line in filter_wiki(text).split("\n")
            )
            prose = [line.strip() for line in lines if not line.startswith(("=", "*", "#", "|", "!", ":", ";", "{"))]
            paragraphs = [paragraph for paragraph in prose if len(paragraph.split()) >= SHORTEST_PARAGRAPH]
            if paragraphs:
                articles[title] = paragraphs
    return articles


def fill_masks(checkpoint: Path) -> dict[str, list[str]]:
    """Return the three likeliest words for the mask in a few sentences."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
    from transformers.utils.logging import disable_progress_bar

    import bertkit.models  # noqa: F401 (its own classes are taken, and no code of the folder's)

    disable_progress_bar()
    fill = pipeline(
        "fill-mask",
        model=AutoModelForMaskedLM.from_pretrained(checkpoint),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
    )
    sentences = ["He was born in the [MASK] of the century.", "It is one of the [MASK] in the world.",
                 "The war began in [MASK]."]  # fmt: skip
    return {sentence: [guess["token_str"] for guess in fill(sentence, top_k=3)] for sentence in sentences}


def nearest_neighbours(vectors: Path, labelled: Path) -> float:
    """Return the share of texts whose nearest neighbour, by the cosine of their vectors, has the same label."""
    import numpy as np
    import pyarrow.parquet as parquet

    features = np.stack(parquet.read_table(vectors).column("features").to_numpy())
    labels = np.array([line.rsplit("\t", 1)[1] for line in labelled.read_text(encoding="utf-8").splitlines()[1:]])
    features = features - features.mean(axis=0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features @ features.T
    np.fill_diagonal(likeness, -np.inf)
    return float((labels[likeness.argmax(axis=1)] == labels).mean())


def load_everything(pretrained: Path, finetuned: Path) -> list[str]:
    """Load every head that a pretrained and a fine-tuned checkpoint offer, and say what each is."""
    import transformers

    import bertkit.models  # noqa: F401 (its own classes are taken, and no code of the folder's)

    names = ["AutoModel", "AutoModelForPreTraining", "AutoModelForMaskedLM", "AutoModelForNextSentencePrediction"]
    lines = []
    for folder, name in [*((pretrained, name) for name in names), (finetuned, "AutoModelForSequenceClassification")]:
        model: Any = getattr(transformers, name).from_pretrained(folder)
        lines.append(f"{name:<34} {type(model).__name__:<38} {model.num_parameters():>9,} parameters  {folder}")
    return lines


def _headline(number: int, text: str) -> None:
    print(f"\n--- {number}. {text}", flush=True)


def _bertkit(verb: str, *options: object) -> None:
    _run(["bertkit", verb, *options])


def _run(command: Sequence[object]) -> None:
    """Show a command and run it with this Python's programs."""
    words = [str(word) for word in command]
    print(f"$ {shlex.join(words)}", flush=True)
    module = {"bertkit": "bertkit.cli", "accelerate": "accelerate.commands.accelerate_cli"}[words[0]]
    finished = subprocess.run([sys.executable, "-m", module, *words[1:]], check=False)
    if finished.returncode:
        raise ConfigError(f"the command above ended with exit code {finished.returncode}; its message says why")


def _cpu_seconds() -> float:
    import resource

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
