"""Whose embedding is not trained: padding's, if the token is nothing else."""

from transformers import PreTrainedConfig


def untrained_token(config: PreTrainedConfig) -> int | None:
    """Return the padding token, or None where it also begins or ends a text and so has something to learn.

    Args:
        config: has pad_token_id, bos_token_id and eos_token_id, the last of which may be several.

    >>> untrained_token(PreTrainedConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2))
    0
    >>> untrained_token(PreTrainedConfig(pad_token_id=2, bos_token_id=1, eos_token_id=[2, 3]))
    """
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    padding: int | None = config.pad_token_id
    return None if padding in (config.bos_token_id, *ends) else padding
