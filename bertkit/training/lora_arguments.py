"""Settings of low-rank adapters."""

from dataclasses import dataclass


@dataclass
class LoraArguments:
    """Low-rank adapters instead of all weights."""

    r: int | None = None
    """Rank of the change to each adapted layer; default: no adapters, all weights are trained. Needs `bertkit[lora]`."""
    alpha: float = 16.0
    """The change counts `alpha` / `r` times."""
    dropout: float = 0.0
    """Dropout of what the adapters read."""
    targets: list[str] | None = None
    """Ends of the names of the linear layers that are adapted, as [attention.qkv]; default: all of the family's layers."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: a number outside its range.
        """
        if self.r is not None and self.r < 1:
            raise ValueError(f"lora.r is {self.r}; it must be at least 1, or null for no adapters")
        if self.alpha <= 0:
            raise ValueError(f"lora.alpha is {self.alpha}; it must be greater than 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.r is None and self.targets is not None:
            raise ValueError("lora.targets is given and lora.r is not; give the rank, as --lora.r 8")
