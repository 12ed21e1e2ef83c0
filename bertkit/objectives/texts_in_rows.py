"""What the objectives share that predict texts, each between the tokens that begin and end it, in rows."""

from collections.abc import Mapping
from typing import Any

from bertkit.data.health import Finding
from bertkit.data.token_store import TokenStore


class TextsInRows:
    """The part of an objective that does not depend on what is predicted from what."""

    bos_token_id: int
    eos_token_id: int

    @property
    def config_settings(self) -> dict[str, Any]:
        """Which tokens begin and end a text."""
        return {"bos_token_id": self.bos_token_id, "eos_token_id": self.eos_token_id}

    def num_tokens(self, batch: Mapping[str, Any]) -> int:
        """Return the real tokens of a batch, special ones included."""
        return int(batch["attention_mask"].sum())

    def checks(self, store: TokenStore) -> list[Finding]:
        """Return nothing: any text will do."""
        return []
