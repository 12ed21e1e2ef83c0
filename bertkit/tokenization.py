"""WordPiece tokenizers: trained on documents, saved as plain Hugging Face folders, loaded, and measured on text.

Sources: Wu et al. 2016, https://arxiv.org/abs/1609.08144 (WordPiece); Devlin et al. 2019,
https://arxiv.org/abs/1810.04805 (`[CLS] A [SEP] B [SEP]`, `##` pieces, longest match first). The road: documents, word
counts, alphabet, pieces, tokenizer. What a word is, two regular expressions say, `_INVISIBLE` and `_word_pattern`; they
are saved with the tokenizer, so whoever loads it needs no code of ours.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
"""BERT's special tokens by their names in transformers; they take the ids 0 to 4 in this order."""

CONTINUATION = "##"
"""What a piece starts with when it continues a word."""

_ALPHABET_COVERAGE = 0.9999  # of the characters of the text: at most one word of ten characters in 1,000 is unknown
_MIN_ALPHABET = 256  # where coverage asks for fewer: digits are rare in novels, and not in what the model reads later
_MAX_WORD_LENGTH = 100  # characters; a longer run (Thai writes no spaces) is cut, not given up as [UNK]
_MAX_CHUNKS = 250_000  # different stretches between spaces held before they are cut into words
_MAX_CHARACTER_COUNT = 2**30  # the trainer of `tokenizers` counts pairs in 31 bits, and beyond overflows in silence
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model")

# Scripts that never need a zero-width joiner or non-joiner; others (Arabic, Devanagari, Malayalam) spell words with them.
_UNJOINED = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}"

# What has no width and no meaning: soft hyphens, direction marks, byte order marks, variation selectors, tags, fillers,
# and U+FFFD, which stands for a character already lost. Kept are the zero-width space (a gap between words), the
# Mongolian vowel separator, and the two joiners, unless they stand where they join nothing.
_INVISIBLE = (
    r"[\p{Default_Ignorable_Code_Point}\x{FFFD}&&[^\x{180E}\x{200B}-\x{200D}]]"
    rf"|(?<![\p{{M}}\p{{Extended_Pictographic}}\p{{Emoji_Modifier}}[\p{{L}}&&[^{_UNJOINED}]]])[\x{{200C}}\x{{200D}}]"
    r"|\x{200C}(?![\p{L}\p{M}])"
)
_ACCENTS = r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}])\p{Mn}+"


@dataclass
class TokenizerArguments:
    """What a WordPiece tokenizer is trained to be."""

    vocab_size: int = 30522
    """Number of entries of the vocabulary, special tokens included."""
    lowercase: bool = True
    """Read all text in lower case; False keeps "Turkey" and "turkey" apart."""
    strip_accents: bool = False
    """Take the accents off Latin, Greek and Cyrillic letters; the marks of all other scripts always stay."""
    handle_chinese_chars: bool = True
    """Make every Chinese character (Japanese kanji, Korean hanja) a word of its own."""
    min_frequency: int = 2
    """Join two pieces into a longer one only where they stand side by side at least this often."""
    limit_alphabet: int | None = None
    """At most this many different characters, the most frequent ones; a word with another becomes [UNK]. By default 256,
    or as many as make up 99.99 % of the text (some 2,000 for Korean, 6,000 for Chinese), in at most half the vocabulary."""
    special_tokens: list[str] | None = None
    """Special tokens to add after [PAD] [UNK] [CLS] [SEP] [MASK]; they are never cut and never lower-cased."""
    model_max_length: int | None = None
    """Longest sequence the tokenizer lets pass without a warning, in tokens; by default there is no bound."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "min_frequency", "limit_alphabet", "model_max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is out of range; give 1 or more")
        extra = self.special_tokens or []
        for token in extra:
            if token != token.strip() or not token or len(token.splitlines()) > 1:
                raise ValueError(
                    f"special token {token!r} is empty, or has space around it or a line break; remove that"
                )
            if token in SPECIAL_TOKENS.values() or extra.count(token) > 1:
                raise ValueError(
                    f"special token {token!r} is there already; list each once, and none of BERT's own five"
                )


def train_tokenizer(
    documents: Iterable[list[str]], arguments: TokenizerArguments, *, quiet: bool = False
) -> "PreTrainedTokenizerBase":
    """Train a WordPiece tokenizer on documents that are read once and not kept; equal text gives an equal vocabulary.

    Args:
        documents: lists of paragraphs; memory grows with the number of different words only.
        arguments: what the tokenizer shall be.
        quiet: show no progress.

    Returns:
        The tokenizer: `[PAD] [UNK] [CLS] [SEP] [MASK]` are 0 to 4, then come the extra special tokens, the characters,
        and the pieces, the most frequent first. Pairs come out as `[CLS] A [SEP] B [SEP]`, `token_type_ids` 0 and 1.

    Raises:
        ValueError: the documents hold no word, or the vocabulary has no room for their characters.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = _build_normalizer(arguments)
    word = Regex(_word_pattern(arguments.handle_chinese_chars))
    pre_tokenizer = pre_tokenizers.Split(word, behavior="removed", invert=True)  # what is no word is removed
    word_counts = count_words(documents, normalizer, pre_tokenizer, quiet=quiet)
    vocab = _train_vocabulary(word_counts, arguments, quiet=quiet)

    tokenizer = Tokenizer(
        models.WordPiece(
            vocab,
            unk_token=SPECIAL_TOKENS["unk_token"],
            max_input_chars_per_word=_MAX_WORD_LENGTH,
            continuing_subword_prefix=CONTINUATION,
        )
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    # No clean-up: it knows the contractions of English only, and takes spaces away that were there.
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=False)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _special_tokens(arguments)]
    )
    bound = {} if arguments.model_max_length is None else {"model_max_length": arguments.model_max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=arguments.special_tokens or [],
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
        **bound,
    )


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", path: str | Path) -> None:
    """Write a folder that `AutoTokenizer` loads without our code, with a `vocab.txt` (a piece a line) for other tools.

    Args:
        tokenizer: any tokenizer; `vocab.txt` is written where its model is WordPiece.
        path: the folder, made where it is missing.
    """
    from tokenizers import models

    folder = Path(path)
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast and isinstance(_backend(tokenizer).model, models.WordPiece):
        vocab = tokenizer.get_vocab()
        with open(folder / "vocab.txt", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{piece}\n" for piece in sorted(vocab, key=vocab.__getitem__))


def frame_texts(
    tokenizer: "PreTrainedTokenizerBase", *, begin_token_id: int, end_token_id: int | None
) -> "PreTrainedTokenizerBase":
    """Return a copy of a tokenizer that gives a text as a model without segments takes it.

    Where the model is to go on with texts it pads them on the left, so that what is generated follows the last token of each.

    Args:
        tokenizer: a fast tokenizer.
        begin_token_id: what it sets before a text.
        end_token_id: what it sets behind a text; None for a model that is to go on with it.
    """
    from copy import deepcopy

    from tokenizers.processors import TemplateProcessing

    framed = deepcopy(tokenizer)
    ids = [begin_token_id] if end_token_id is None else [begin_token_id, end_token_id]
    tokens = [str(token) for token in framed.convert_ids_to_tokens(ids)]
    _backend(framed).post_processor = TemplateProcessing(
        single=[tokens[0], "$A", *tokens[1:]],
        pair=[tokens[0], "$A", *tokens[1:], "$B", *tokens[1:]],
        special_tokens=list(dict.fromkeys(zip(tokens, ids, strict=True))),
    )
    framed.model_input_names = ["input_ids", "attention_mask"]
    pad_on(framed, "left" if end_token_id is None else "right")
    return framed


def pad_on(tokenizer: "PreTrainedTokenizerBase", side: str) -> None:
    """Let a tokenizer pad on a side, also when it is saved and loaded.

    Args:
        tokenizer: any tokenizer, which is changed.
        side: "left" or "right".
    """
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side  # of the names in there the values are saved


def spells_words(tokenizer: "PreTrainedTokenizerBase | None") -> bool:
    """Tell whether a tokenizer makes of each word a list of its characters, as that of AllenAI's ELMo does."""
    return tokenizer is not None and not tokenizer.is_fast and hasattr(tokenizer, "max_characters")


def load_tokenizer(path_or_name: str | Path, *, require: Sequence[str] = ()) -> "PreTrainedTokenizerFast":
    """Load the tokenizer of a local folder or of a repository on the Hub.

    Args:
        path_or_name: the folder, or the name on the Hub; after an @ may follow the revision, as in owner/name@tokens-12M.
        require: special tokens the caller cannot do without, by their names in transformers: `("mask_token",)`.

    Returns:
        The tokenizer, a fast one.

    Raises:
        ValueError: nothing is there, it is no fast tokenizer, or it lacks a required token.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = load_any_tokenizer(path_or_name, require=require)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(
            f"tokenizer {str(path_or_name)!r} spells words and gives no token ids: it is for `bertkit features`, `probe` and "
            "`finetune`, and to `evaluate` and `predict` what was fine-tuned; give one that was saved with a tokenizer.json"
        )
    return tokenizer


def load_any_tokenizer(path_or_name: str | Path, *, require: Sequence[str] = ()) -> "PreTrainedTokenizerBase":
    """Load a tokenizer as `load_tokenizer` does, also one that spells words and gives no token ids; see `spells_words`.

    Where a padding token is required and there is none, as in GPT-2's tokenizer, the token that ends a text serves.

    Raises:
        ValueError: nothing is there, it is neither fast nor spells words, or it lacks a required token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    name = str(path_or_name)
    folder = Path(name)
    if folder.is_file():
        raise ValueError(f"tokenizer {name!r} is a file; name its folder, {str(folder.parent)!r}")
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ValueError(f"folder {name!r} holds no tokenizer; train one into it with `bertkit tokenizer`")
    if not folder.is_dir() and _is_local(name):
        raise ValueError(f"there is no tokenizer folder {name!r}; train one with `bertkit tokenizer`")
    repository, _, revision = (name, "", "") if folder.is_dir() else name.partition("@")
    try:
        tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision or "main", trust_remote_code=False)
    except Exception as error:  # a damaged tokenizer.json surfaces as a bare Exception of the Rust library
        if "trust_remote_code" in str(error):  # what transformers asks for is not for us to give
            raise ValueError(
                f"tokenizer {name!r} has code of its own, which bertkit does not run; give one of transformers' classes"
            ) from error
        place = "its folder" if folder.is_dir() else "the Hub (there is no such folder here)"
        reason = " ".join(str(error).split())
        raise ValueError(f"tokenizer {name!r} could not be loaded from {place}: {reason}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast) and not spells_words(tokenizer):
        raise ValueError(f"tokenizer {name!r} is not a fast tokenizer; give one that was saved with a tokenizer.json")
    if "pad_token" in require:
        pad_by_end(tokenizer)
    missing = [token for token in require if getattr(tokenizer, token, None) is None]
    if missing:
        raise ValueError(
            f"tokenizer {name!r} has no {', '.join(missing)}; use one trained for this, or add what it lacks"
        )
    return tokenizer


def padding_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the id that fills rows up; where no token is for it, as in GPT-2's tokenizer, the end: nothing looks at padding.

    Args:
        tokenizer: one that has either.

    >>> from types import SimpleNamespace
    >>> padding_of_text(SimpleNamespace(pad_token_id=None, eos_token_id=50256))
    50256
    """
    padding: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return padding


def pad_by_end(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Make the token that ends a text its padding, as `padding_of_text` says; a tokenizer that has neither stays as it is."""
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token_id = padding_of_text(tokenizer)


def word_cutter(*, lowercase: bool) -> tuple[Callable[[str], str], Callable[[str], list[str]]]:
    """Return how the tokenizers that are trained here read a text before they look for pieces.

    Args:
        lowercase: read it in lower case.

    Returns:
        A function that normalises a text, and one that cuts a normalised text into words.

    >>> normalize, cut = word_cutter(lowercase=True)
    >>> cut(normalize("I don't. 안 봐!"))
    ['i', 'don', "'", 't', '.', '안', '봐', '!']
    """
    from tokenizers import Regex, pre_tokenizers

    normalizer = _build_normalizer(TokenizerArguments(lowercase=lowercase))
    splitter = pre_tokenizers.Split(Regex(_word_pattern(True)), behavior="removed", invert=True)

    def cut(text: str) -> list[str]:
        return [word for word, _ in splitter.pre_tokenize_str(text)]

    return normalizer.normalize_str, cut


def tokenizer_report(tokenizer: "PreTrainedTokenizerBase", documents: Iterable[list[str]]) -> dict[str, float]:
    """Measure a tokenizer on text, best on text it was not trained on; read once, in flat memory.

    A word is what the tokenizer itself cuts before it looks for pieces, so a punctuation mark is one, too.

    Args:
        tokenizer: any fast tokenizer.
        documents: lists of paragraphs.

    Returns:
        `words` (how many), `tokens_per_word` (fertility; an unknown word is one token), `characters_per_token` (spaces
        counted), and as shares between 0 and 1 `unknown_share` (of the tokens) and `whole_word_share` (of the words:
        those that are one token, and not the unknown one).

    Raises:
        ValueError: the documents hold no word.
    """
    words = tokens = characters = unknown = whole = 0
    for paragraphs in _batches(documents):
        characters += sum(map(len, paragraphs))
        batch = tokenizer(paragraphs, add_special_tokens=False, verbose=False)
        for encoding in batch.encodings or ():
            sizes = Counter(encoding.word_ids)  # tokens of each word of the paragraph
            words += len(sizes)
            tokens += len(encoding.ids)
            for word, token_id in zip(encoding.word_ids, encoding.ids, strict=True):
                known = token_id != tokenizer.unk_token_id
                unknown += not known
                whole += known and sizes[word] == 1
    if not words:
        raise ValueError("the documents to report on hold no word; give some text the tokenizer was not trained on")
    return {
        "words": words,
        "tokens_per_word": tokens / words,
        "characters_per_token": characters / tokens,
        "unknown_share": unknown / tokens,
        "whole_word_share": whole / words,
    }


def format_report(report: Mapping[str, float]) -> str:
    """Lay the figures of `tokenizer_report` out as a small table.

    >>> figures = {"words": 1234, "tokens_per_word": 1.25, "characters_per_token": 4.5}
    >>> print(format_report(figures | {"unknown_share": 0.001, "whole_word_share": 0.8}))
    words                    1,234
    tokens per word          1.250
    characters per token     4.500
    unknown tokens         0.100 %
    words kept whole      80.000 %
    """
    rows = {
        "words": f"{report['words']:,}",
        "tokens per word": f"{report['tokens_per_word']:.3f}",
        "characters per token": f"{report['characters_per_token']:.3f}",
        "unknown tokens": f"{100 * report['unknown_share']:.3f} %",
        "words kept whole": f"{100 * report['whole_word_share']:.3f} %",
    }
    return "\n".join(f"{name:<20} {value:>9}" for name, value in rows.items())


def is_continuation(tokenizer: "PreTrainedTokenizerBase") -> "np.ndarray":
    """Tell for every id whether its piece continues the word of the token before it; whole-word masking joins by it.

    WordPiece marks the pieces that continue (`##`). SentencePiece (`▁`) and byte-level (`Ġ`) vocabularies mark by its
    space the piece that begins a word: there all others continue, and a word is what stands between spaces.

    Args:
        tokenizer: any fast tokenizer.

    Returns:
        Booleans of shape (vocab,), as long as the largest id asks for; False for special tokens.

    Raises:
        ValueError: the vocabulary marks neither.
    """
    import numpy as np

    prefix = getattr(_backend(tokenizer).model, "continuing_subword_prefix", None)
    vocab = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    space = next((mark for mark in ("▁", "Ġ") if any(piece.startswith(mark) for piece in vocab)), None)
    if not prefix and not space:
        raise ValueError(
            "the pieces of this tokenizer tell no word from the next (no ##, ▁ or Ġ); mask tokens, not words"
        )
    continuation = np.zeros(1 + max(vocab.values()), dtype=bool)  # (vocab,)
    for piece, token_id in vocab.items():
        if prefix:
            continuation[token_id] = piece.startswith(prefix) and piece != prefix
        else:
            continuation[token_id] = not piece.startswith(str(space))
    continuation[list(special)] = False
    return continuation


def _backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer; give one saved with a tokenizer.json")
    return tokenizer.backend_tokenizer


def _is_local(name: str) -> bool:
    """Tell whether a missing folder was meant, and no `owner/name` on the Hub (whose look-up takes long offline).

    >>> [_is_local(name) for name in ("./tokenizer", "/data/ko", "runs/ko/tokenizer", "google-bert/bert-base-cased")]
    [True, True, True, False]
    """
    path = Path(name)
    in_known_folder = len(path.parts) == 2 and path.parent.is_dir()
    return path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2 or in_known_folder


def _special_tokens(arguments: TokenizerArguments) -> list[str]:
    return [*SPECIAL_TOKENS.values(), *(arguments.special_tokens or [])]


def _build_normalizer(arguments: TokenizerArguments) -> "Normalizer":
    """Compose characters first (Hangul is whole, however it was typed) and last; between, do what was asked for."""
    from tokenizers import Regex, normalizers

    steps: list[Normalizer] = [normalizers.NFC(), normalizers.Replace(Regex(_INVISIBLE), "")]
    if arguments.strip_accents:
        steps += [normalizers.NFD(), normalizers.Replace(Regex(_ACCENTS), "")]
    if arguments.lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence([*steps, normalizers.NFC()])


def _word_pattern(handle_chinese_chars: bool) -> str:
    """The regular expression of one word: a run of letters, digits and marks, an emoji, a flag, or one symbol.

    Unlike BERT's own cutter it sets every symbol apart, not those of ASCII only: else an emoji or arrow that is not in
    the vocabulary would make the word it is glued to unknown, too.
    """
    gap = r"\s\p{Cc}\p{Co}\x{200B}"
    alone = r"\p{P}\p{S}\p{Cn}" + (r"\p{Han}" if handle_chinese_chars else "")
    run = rf"[^{gap}{alone}\x{{200C}}\x{{200D}}][^{gap}{alone}]{{0,{_MAX_WORD_LENGTH - 1}}}"
    pictograph = r"\p{Extended_Pictographic}\p{Emoji_Modifier}?"
    emoji = rf"{pictograph}(?:\x{{200D}}{pictograph})*"
    flag = r"\p{Regional_Indicator}{2}"
    return rf"{run}|{emoji}|{flag}|[{alone}]\p{{M}}*"


def count_words(
    documents: Iterable[list[str]], normalizer: "Normalizer", pre_tokenizer: "PreTokenizer", *, quiet: bool
) -> Counter[str]:
    """Count the words of the documents as the finished tokenizer will cut them.

    No rule of the tokenizer looks across a space, so each different stretch between spaces is cut once, however often
    it stands in the text: several times faster than cutting all of it.

    Args:
        documents: lists of paragraphs, read once.
        normalizer: the tokenizer's.
        pre_tokenizer: the tokenizer's; it keeps the words alone.
        quiet: no progress bar.
    """
    from tqdm import tqdm

    word_counts: Counter[str] = Counter()
    chunk_counts: Counter[str] = Counter()

    def cut_chunks() -> None:
        for chunk, count in chunk_counts.items():
            for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(chunk)):
                word_counts[word] += count
        chunk_counts.clear()

    for document in tqdm(documents, desc="reading", unit=" documents", disable=quiet):
        for paragraph in document:
            chunk_counts.update(paragraph.split(" "))
            if len(chunk_counts) > _MAX_CHUNKS:
                cut_chunks()
    cut_chunks()
    return word_counts


def _choose_alphabet(character_counts: Counter[str], continuing: set[str], arguments: TokenizerArguments) -> set[str]:
    """The most frequent characters, ties by code point, as many as `limit_alphabet` says.

    Args:
        character_counts: how often each character stands in the words.
        continuing: the characters that stand inside words; each takes a second, `##` entry.
        arguments: `limit_alphabet`, and `vocab_size` where that is None.
    """
    ranked = sorted(character_counts, key=lambda character: (-character_counts[character], character))
    total = sum(character_counts.values())
    if arguments.limit_alphabet is not None:
        alphabet = set(ranked[: arguments.limit_alphabet])
    else:
        alphabet = set()
        covered, room = 0, arguments.vocab_size // 2
        for character in ranked:
            room -= 2 if character in continuing else 1
            if room < 0 or (len(alphabet) >= _MIN_ALPHABET and covered >= _ALPHABET_COVERAGE * total):
                break
            alphabet.add(character)
            covered += character_counts[character]
    coverage = sum(character_counts[character] for character in alphabet) / total
    if coverage < 0.999:
        logger.warning(
            "the %d characters of the vocabulary make up %.2f %% of the text, words with others become [UNK]; raise %s",
            len(alphabet),
            100 * coverage,
            "vocab_size" if arguments.limit_alphabet is None else "limit_alphabet",
        )
    return alphabet


def _train_vocabulary(word_counts: Counter[str], arguments: TokenizerArguments, *, quiet: bool) -> dict[str, int]:
    """Learn the pieces with the trainer of `tokenizers`, in a way that leaves it nothing to decide by chance.

    By itself it numbers the `##` characters in the order of a randomly seeded hash table, and breaks ties between
    equally frequent pairs by these numbers. Here all characters are handed in as special tokens, in a fixed order.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if not word_counts:
        raise ValueError("the documents to train a tokenizer on hold no word; give some text")
    character_counts: Counter[str] = Counter()
    for word, count in word_counts.items():
        for character in word:
            character_counts[character] += count
    inside = {character for word in word_counts for character in word[1:]}
    alphabet = _choose_alphabet(character_counts, inside, arguments)
    # The trainer would skip a character outside the alphabet and learn pieces across the hole.
    spelled = {word: count for word, count in word_counts.items() if alphabet.issuperset(word)}
    continuing = {character for word in spelled for character in word[1:]}
    first_entries = [
        *_special_tokens(arguments),
        *sorted(alphabet),
        *(CONTINUATION + character for character in sorted(continuing)),
    ]
    if len(first_entries) > arguments.vocab_size:
        raise ValueError(
            f"vocab_size={arguments.vocab_size} has no room for the special tokens and the {len(alphabet)} characters "
            f"of this text ({len(first_entries)} entries); raise it, or lower limit_alphabet"
        )

    scale = 1 + max(character_counts.values()) // _MAX_CHARACTER_COUNT  # 1 for less than some 10 GB of text
    trainer = trainers.WordPieceTrainer(
        vocab_size=arguments.vocab_size,
        min_frequency=max(1, arguments.min_frequency // scale),
        special_tokens=first_entries,
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,  # its bars write to standard output
    )
    learner = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_repeated_words(spelled, scale, quiet=quiet), trainer)
    vocab = learner.get_vocab()
    if len(vocab) < arguments.vocab_size:
        logger.warning(
            "the vocabulary has %d entries, not %d: the text has no more pieces seen %d times; add text or ask for less",
            len(vocab),
            arguments.vocab_size,
            arguments.min_frequency,
        )
    return vocab


def _repeated_words(word_counts: dict[str, int], scale: int, *, quiet: bool) -> Iterator[str]:
    """Write every word out as often as it was counted, divided by `scale`: the trainer takes text, not counts."""
    from tqdm import tqdm

    for word, count in tqdm(word_counts.items(), desc="learning pieces", unit=" words", disable=quiet):
        thousands, rest = divmod(-(-count // scale), 1000)
        for _ in range(thousands):
            yield f"{word} " * 1000
        yield f"{word} " * rest


def _batches(documents: Iterable[list[str]], size: int = 1000) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in documents:
        batch += document
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
