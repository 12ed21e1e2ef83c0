"""Vectors of words wherever they lie: a file of word2vec's or GloVe's, or the input embeddings of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from bertkit.embeddings.word_vectors import WordVectors


def load_vectors(name: str) -> "WordVectors":
    """Read the vectors of a file, or those of the tokens of a checkpoint as its first layer has them.

    Args:
        name: a file of vectors, a checkpoint's folder, or its name on the Hub.

    Returns:
        The vectors; of a checkpoint those of all tokens but padding and others whose vector is zero.

    Raises:
        ValueError: there is neither, it is damaged, or the checkpoint has no vector a token.
    """
    from transformers.utils.logging import disable_progress_bar

    from bertkit.embeddings.word_vectors import WordVectors
    from bertkit.hub.checkpoints import checkpoint_folder, load_checkpoint, saved_auto_class
    from bertkit.tokenization import load_tokenizer

    if Path(name).expanduser().is_file():
        return WordVectors.load(Path(name).expanduser())
    folder = checkpoint_folder(name)
    disable_progress_bar()
    model: Any = load_checkpoint(folder, saved_auto_class(folder) or "AutoModel")
    if getattr(model.config, "token_input", None) == "characters":
        raise ConfigError(f"{name} spells its tokens and has no table of vectors; give another checkpoint, or a file")
    tokenizer = load_tokenizer(folder)
    table = model.get_input_embeddings().weight.detach().float().numpy()  # (vocab, width)
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(table)))))
    rows = [row for row, token in enumerate(tokens) if token is not None and table[row].any()]
    return WordVectors([str(tokens[row]) for row in rows], table[rows])
