"""How many tokens a model takes at once."""

from typing import Any

from bertkit.config import ConfigError


def positions_of(model: Any) -> int | None:
    """Return how many tokens a model has positions for; None for one that reads without end.

    Args:
        model: the model.
    """
    return getattr(model.config, "max_position_embeddings", None)


def refuse_too_long(length: int, model: Any) -> None:
    """Make sure that a model has positions for what it is to read.

    Args:
        length: tokens at once.
        model: the model.

    Raises:
        ConfigError: it has fewer positions.
    """
    positions = positions_of(model)
    if positions is not None and length > positions:
        raise ConfigError(
            f"{length} tokens at once are more than the model's {positions} positions; lower --max_length"
        )
