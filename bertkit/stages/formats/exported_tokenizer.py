"""An exported checkpoint's tokenizer: the checkpoint's, giving what the exported model takes, held against what is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_checkpoint_tokenizer(checkpoint: Path) -> "PreTrainedTokenizerBase | None":
    """Load a checkpoint's tokenizer, padding by the end of a text where nothing else pads; None where it has none.

    Args:
        checkpoint: a checkpoint folder.
    """
    import bertkit.models  # noqa: F401 (a tokenizer that spells words loads without a question once it is known)
    from bertkit.tokenization import load_any_tokenizer, pad_by_end

    if not any((checkpoint / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    tokenizer = load_any_tokenizer(checkpoint)
    pad_by_end(tokenizer)
    return tokenizer


def write_tokenizer(
    tokenizer: Any, folder: Path, *, with_segments: bool, max_length: int | None, padding_side: str | None = None
) -> None:
    """Write a tokenizer, and make sure that what plain AutoTokenizer loads gives the same ids.

    Args:
        tokenizer: the checkpoint's; None writes nothing. What it gives is changed as the next two say.
        folder: the export's, whose config.json is written.
        with_segments: whether the exported model takes token_type_ids.
        max_length: the longest text in tokens that the exported model takes, to which `truncation=True` cuts; None: any.
        padding_side: where the exported model can have padding; None: as the tokenizer has it.

    Raises:
        ConfigError: another one is loaded.
    """
    from transformers import AutoTokenizer

    from bertkit.tokenization import pad_on, save_tokenizer

    if tokenizer is None:
        return
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    if with_segments:
        names.insert(1, "token_type_ids")
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    if max_length is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
    if padding_side is not None:
        pad_on(tokenizer, padding_side)
    save_tokenizer(tokenizer, folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    for texts in probes(tokenizer):
        ours, theirs = (dict(candidate(*texts, verbose=False)) for candidate in (tokenizer, loaded))
        if ours != theirs:
            raise ConfigError(
                f"the checkpoint's tokenizer gives other ids when AutoTokenizer loads it beside the exported model (for "
                f"{texts[0][:60]!r}); save it as a PreTrainedTokenizerFast"
            )


def probes(tokenizer: "PreTrainedTokenizerBase") -> list[tuple[str, ...]]:
    """Make texts and pairs of a tokenizer's own vocabulary, and some that no vocabulary has.

    Args:
        tokenizer: any tokenizer.
    """
    if tokenizer.is_fast:
        ids = range(0, len(tokenizer), max(1, len(tokenizer) // 256))
        words = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    else:
        words = " ".join(str(31**number) for number in range(20))  # it spells words, whatever they are
    return [(words,), (words.upper(), words[:100]), ("Ünïcödé, 漢字 and 한국어: naïve — 'quotes' 1,234.5 🙂\n\ttabs",)]
