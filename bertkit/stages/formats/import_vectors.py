"""What `bertkit import word2vec` and `bertkit import glove` read: a file of vectors, a word each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.stages.import_checkpoint import Imported

if TYPE_CHECKING:
    from jsonargparse import Namespace

_CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags:
- bertkit
- word-embeddings
---

# Vectors of words, imported by bertkit

{count:,} vectors of {width} numbers from `{file}`. A text is cut at white space and around punctuation{lowercase}; {reached:,}
of the words are ones that such a cut gives, the others (as those of several words) are found by their exact name only.

## Loading

{loading}
"""


def read(files: Sequence[str], options: "Namespace") -> Imported:
    """Read a file of vectors, whose beginning tells its form.

    Args:
        files: the file.
        options: of `bertkit import`.
    """
    import torch

    from bertkit.embeddings.word_vectors import WordVectors
    from bertkit.embeddings.words import given_word_tokenizer
    from bertkit.hub.cards.model_card import loading
    from bertkit.models import build_config, build_model
    from bertkit.tokenization import SPECIAL_TOKENS

    (file,) = files
    vectors = WordVectors.load(file)
    lowercase = all(word == word.lower() for word in vectors.words if word not in SPECIAL_TOKENS.values())
    tokenizer = given_word_tokenizer(vectors.words, lowercase=lowercase)
    config = build_config(
        "static", vocab_size=len(tokenizer), hidden_size=vectors.width, pad_token_id=tokenizer.pad_token_id
    )
    model: Any = build_model(config, "AutoModel").eval()
    table = model.get_input_embeddings().weight.data
    table.zero_()
    table[tokenizer.convert_tokens_to_ids(vectors.words)] = torch.from_numpy(vectors.vectors)
    backend: Any = tokenizer.backend_tokenizer
    reached = sum(len(backend.pre_tokenizer.pre_tokenize_str(word)) == 1 for word in vectors.words)
    card = _CARD.format(
        count=len(vectors),
        width=vectors.width,
        file=Path(file).name,
        reached=reached,
        lowercase=" and read in lower case, as all words are" if lowercase else "",
        loading=loading("AutoModel", "feature-extraction"),
    )
    said = f"; {reached:,} of {len(vectors):,} words are ones that its tokenizer cuts a text into"
    return Imported(model, tokenizer, card, said)
