"""The tokens that begin and end a text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def ends_of_text(tokenizer: "PreTrainedTokenizerBase", objective: str) -> tuple[int, int]:
    """Return the ids of the tokens that begin and end a text; BERT's [CLS] and [SEP] serve where there are no others.

    Args:
        tokenizer: whose tokens.
        objective: who asks, for the message.

    Raises:
        ValueError: the tokenizer has none, or nothing to pad with.

    >>> from types import SimpleNamespace
    >>> some = {"bos_token_id": None, "cls_token_id": 2, "eos_token_id": 1, "sep_token_id": 3, "pad_token_id": 0}
    >>> ends_of_text(SimpleNamespace(**some), "causal")
    (2, 1)
    """
    found = []
    for names in (("bos_token", "cls_token"), ("eos_token", "sep_token"), ("pad_token", "eos_token")):
        ids = [token_id for name in names if (token_id := getattr(tokenizer, f"{name}_id")) is not None]
        if not ids:
            raise ValueError(
                f"the objective {objective} needs a {' or '.join(names)}, and the tokenizer of {tokenizer.name_or_path} has "
                "none; `bertkit tokenizer` trains one that has"
            )
        found.append(ids[0])
    return found[0], found[1]
