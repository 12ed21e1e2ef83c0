"""`bertkit embed`: a corpus -> a vector a word, or a vector a piece of a tokenizer, by word2vec or GloVe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertkit.config import ConfigError, RecipeParser, choose, value_of
from bertkit.data.arguments import DataArguments, DocumentMode, SentenceMode
from bertkit.embeddings.glove import GloveArguments
from bertkit.embeddings.word2vec import Word2VecArguments
from bertkit.embeddings.word_vectors import VectorForm
from bertkit.embeddings.words import VocabularyArguments

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from transformers import PreTrainedTokenizerFast

    from bertkit.data.token_store import TokenStore
    from bertkit.embeddings.word_vectors import WordVectors

METHODS = {"word2vec": Word2VecArguments, "glove": GloveArguments}
"""Method -> its settings, which stand under its name."""
_FILES = {"word2vec": "vectors.txt", "glove": "vectors.txt", "word2vec_binary": "vectors.bin"}

_CARD = """---
library_name: transformers
{language}pipeline_tag: feature-extraction
tags:
- bertkit
- {method}
---

# {count:,} vectors of {width} numbers, by {method}

Trained on {tokens:,} tokens; `{file}` has the vectors for other programs. In the model every token without a vector of its own
has zeros: [UNK], and [CLS], which the tokenizer sets before a text so that one without any known word has a token.

## Loading

{loading}

The vectors, with either of the first two:

```python
vectors = model(**tokenizer("some words", return_tensors="pt")).last_hidden_state  # (1, tokens, {width})
```

## Recipe

```yaml
{recipe}
```
"""


@dataclass(kw_only=True)
class EmbedDataArguments:
    """Where the text comes from and how far a window may reach."""

    train: str | list[str]
    """Text to train on, one source or several: a file (.txt, .jsonl, .parquet; also .gz or .zst), a folder, a glob, or
    a dataset written hub:name, hub:name:config or hub:name:config@split."""
    text_column: str = "text"
    """Column that holds the text of a jsonl, parquet or datasets record."""
    documents: DocumentMode = "blank_line"
    """How a text file is cut into documents; no window reaches out of a line whatever is said here."""
    sentences: SentenceMode = "line"
    """How far a window may reach: to the ends of the line (a paragraph), or of the sentence, by rules for the language."""
    language: str = "en"
    """Language of the text as an ISO 639 code (en, ko, de, ...), for the sentences and the model card."""
    streaming: bool = False
    """Read a dataset of the Hub as it arrives, instead of downloading it first; words need two passes."""
    num_workers: int | None = None
    """Processes that tokenize; null uses every core."""
    cache_dir: str | None = None
    """Folder that keeps tokenized text between runs; null means $BERTKIT_CACHE, or else ~/.cache/bertkit."""

    def __post_init__(self) -> None:
        """Refuse what no corpus could be read by.

        Raises:
            ValueError: a value outside what its field takes.
        """
        self.for_corpus()

    def for_corpus(self) -> DataArguments:
        """Return the settings by which a corpus is read, nothing of it held out."""
        return DataArguments(**vars(self))


def build_parser(arguments: Sequence[str]) -> RecipeParser:
    """Build the parser of the verb's options; the method decides which settings there are."""
    method = value_of("method", arguments, "word2vec")
    parser = RecipeParser("embed", description="Train a vector a word, or a vector a piece of a tokenizer.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the checkpoint; it must be new.")
    parser.add_argument(
        "--method",
        type=Literal["word2vec", "glove"],
        default="word2vec",
        help="word2vec, or glove, whose settings are then those under --glove.",
    )
    parser.add_argument(
        "--tokenizer",
        type=str | None,
        default=None,
        help="Folder or Hub name of a tokenizer, for vectors of its pieces; without it words get vectors.",
    )
    parser.add_class_arguments(EmbedDataArguments, "data", help="The corpus")
    parser.add_class_arguments(VocabularyArguments, "vocabulary", help="Which words")
    parser.add_class_arguments(choose("method", method, METHODS), method, help="How the vectors are trained")
    parser.add_argument(
        "--format",
        type=VectorForm,
        default="word2vec",
        help="Form of the file of vectors beside the model: vectors.txt as word2vec or glove write it, or vectors.bin.",
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Train vectors as the command line says.

    Raises:
        ValueError: whatever is wrong with the options, the corpus or the tokenizer, as one line.
    """
    embed(*build_parser(arguments).read(arguments))


def embed(recipe: "Namespace", resolved: str) -> None:
    """Walk from the text to a checkpoint of the family `static` and a file of vectors.

    Args:
        recipe: as `build_parser` reads it.
        resolved: the same as YAML, to keep with the checkpoint.
    """
    from transformers.utils.logging import disable_progress_bar

    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.data.documents import load_documents
    from bertkit.data.token_store import TokenStore
    from bertkit.embeddings.word2vec import require_gensim
    from bertkit.embeddings.words import train_word_tokenizer
    from bertkit.tokenization import load_tokenizer

    folder = Path(recipe.output)
    if folder.exists():
        raise ConfigError(f"{folder} is there already; give a new folder as --output")
    if recipe.method == "word2vec":
        require_gensim()
    disable_progress_bar()
    settings, data = recipe[recipe.method], recipe.data.for_corpus()
    documents = load_documents(data.train, data)
    if recipe.tokenizer is None:
        tokenizer = train_word_tokenizer(documents, recipe.vocabulary, min_count=settings.min_count, quiet=recipe.quiet)
    elif recipe.vocabulary != VocabularyArguments():
        raise ConfigError("--tokenizer decides what the tokens are; leave --vocabulary.lowercase and max_words out")
    else:
        tokenizer = load_tokenizer(recipe.tokenizer, require=("unk_token", "pad_token"))
    store = TokenStore.build(documents, tokenizer, data, quiet=recipe.quiet)
    folder.parent.mkdir(parents=True, exist_ok=True)
    vectors = train_vectors(store, tokenizer, settings, beside=folder, quiet=recipe.quiet)
    _save(recipe, resolved, vectors, tokenizer, store)
    if not recipe.quiet:
        covered = sum(int(store.token_counts[tokenizer.convert_tokens_to_ids(word)]) for word in vectors.words)
        print(
            f"{len(vectors):,} vectors of {vectors.width} numbers, for {covered / store.metadata.num_tokens:.1%} of "
            f"{store.metadata.num_tokens:,} tokens, are in {folder}; AutoModel and AutoTokenizer load it"
        )


def train_vectors(
    store: "TokenStore",
    tokenizer: "PreTrainedTokenizerFast",
    settings: Word2VecArguments | GloveArguments,
    *,
    beside: Path,
    quiet: bool,
) -> "WordVectors":
    """Train vectors of the tokens of a store.

    Args:
        store: the tokenized corpus.
        tokenizer: the one it was tokenized by.
        settings: of word2vec or GloVe, which says the method, too.
        beside: a path beside which pairs may be kept while GloVe counts them.
        quiet: no progress bar.
    """
    from tempfile import TemporaryDirectory

    from bertkit.embeddings.cooccurrence import count_cooccurrences
    from bertkit.embeddings.glove import train_glove
    from bertkit.embeddings.word2vec import train_word2vec
    from bertkit.embeddings.word_vectors import WordVectors
    from bertkit.embeddings.words import frequent_tokens, texts_of

    num_tokens = store.metadata.num_tokens
    if isinstance(settings, Word2VecArguments):
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(store.token_counts))))]
        special = {str(token) for token in tokenizer.all_special_tokens}
        return train_word2vec(lambda: texts_of(store), tokens, special, settings, num_tokens=num_tokens, quiet=quiet)
    words, numbers = frequent_tokens(store, tokenizer, min_count=settings.min_count)
    with TemporaryDirectory(prefix=f".{beside.name}.", dir=beside.parent) as folder:
        cooccurrences = count_cooccurrences(
            (numbers[text] for text in texts_of(store)),
            len(words),
            Path(folder),
            window=settings.window,
            distance_weighting=settings.distance_weighting,
            seed=settings.seed,
            max_pairs=settings.max_pairs,
            num_tokens=num_tokens,
            quiet=quiet,
        )
        return WordVectors(words, train_glove(cooccurrences, settings, quiet=quiet))


def _save(
    recipe: "Namespace",
    resolved: str,
    vectors: "WordVectors",
    tokenizer: "PreTrainedTokenizerFast",
    store: "TokenStore",
) -> None:
    """Write the checkpoint, whole or not at all."""
    import torch

    from bertkit.hub.cards.model_card import loading
    from bertkit.hub.privacy import shareable_recipe
    from bertkit.models import build_config, build_model
    from bertkit.tokenization import save_tokenizer
    from bertkit.training.checkpointing import written_aside

    config = build_config(
        "static", vocab_size=len(tokenizer), hidden_size=vectors.width, pad_token_id=tokenizer.pad_token_id
    )
    model: Any = build_model(config, "AutoModel")
    table = model.get_input_embeddings().weight.data
    table.zero_()
    table[tokenizer.convert_tokens_to_ids(vectors.words)] = torch.from_numpy(vectors.vectors)
    file = _FILES[recipe.format]
    card = _CARD.format(
        language=f"language: {recipe.data.language}\n" if recipe.data.language else "",
        method=recipe.method,
        count=len(vectors),
        width=vectors.width,
        tokens=store.metadata.num_tokens,
        file=file,
        recipe=shareable_recipe(resolved).rstrip(),
        loading=loading("AutoModel", "feature-extraction"),
    )
    with written_aside(Path(recipe.output)) as aside:
        model.save_pretrained(aside)
        save_tokenizer(tokenizer, aside)
        vectors.save(aside / file, recipe.format)
        (aside / "recipe.yaml").write_text(resolved, encoding="utf-8")
        (aside / "README.md").write_text(card, encoding="utf-8")
