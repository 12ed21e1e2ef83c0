"""A model starts from vectors that others learned: `model.pretrained_embeddings` and `model.freeze_embeddings`."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, load_yaml

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELP = (
    "`--model.pretrained_embeddings`, vectors that the token embeddings start from: a file of word2vec's or GloVe's, or a "
    "checkpoint; and `--model.freeze_embeddings true`, which keeps the embeddings as they start."
)


@dataclass(frozen=True)
class StartingEmbeddings:
    """What a recipe says of where the embeddings start; these are no settings of a configuration, so config.json has none."""

    source: str | None = None
    """A file of vectors or a checkpoint; None: they start as the family draws them."""
    frozen: bool = False
    """They stay as they start."""

    @classmethod
    def taken_from(cls, section: Mapping[str, Any]) -> tuple["StartingEmbeddings", dict[str, Any]]:
        """Part a recipe's `model` section into this and the rest.

        Args:
            section: the section.

        Raises:
            ConfigError: a value of the wrong type.
        """
        rest = dict(section)
        source, frozen = rest.pop("pretrained_embeddings", None), rest.pop("freeze_embeddings", False)
        if source is not None and not isinstance(source, str):
            raise ConfigError(f"model.pretrained_embeddings is {source!r}; it takes a file of vectors or a checkpoint")
        if not isinstance(frozen, bool):
            raise ConfigError(f"model.freeze_embeddings is {frozen!r}; it takes true or false")
        return cls(source, frozen), rest

    def put_into(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        token_counts: "np.ndarray | None" = None,
        say: bool = True,
    ) -> None:
        """Give the model's token embeddings the vectors of the source, and freeze them if so asked.

        A token is looked up as it is spelled, and if that is not found, in lower case; a piece that continues a word (##ing)
        only as it is spelled. Padding keeps its zeros, and tokens that are not found what they were drawn as.

        Args:
            model: a fresh model.
            tokenizer: names the token of each id.
            token_counts: (vocab,) how often each token occurs in the training text, for what the coverage is of it.
            say: print a line of what was found.

        Raises:
            ConfigError: a model without a table of token embeddings, or vectors of another width.
            ValueError: a source that cannot be read.
        """
        if self.source is not None:
            line = _fill(model, tokenizer, self.source, token_counts)
            if say:
                print(line, file=sys.stderr)
        self._freeze(model, say=say)

    def go_on_in(self, model: "PreTrainedModel", checkpoint: Path) -> None:
        """Freeze the embeddings of a model that was loaded to be trained further, as they were in the run so far.

        Args:
            model: the model.
            checkpoint: where it was loaded from.

        Raises:
            ConfigError: the run so far did it otherwise: its optimizer knows which weights move.
        """
        path = checkpoint / "recipe.yaml"
        if path.is_file():
            before, _ = self.taken_from(load_yaml(path).get("model") or {})
            for name, now, then in (
                ("pretrained_embeddings", self.source, before.source),
                ("freeze_embeddings", self.frozen, before.frozen),
            ):
                if now != then:
                    raise ConfigError(
                        f"model.{name} is {now}, and was {then} in the run of {checkpoint}, which goes on; leave it as it "
                        "was, or start anew with another --output_dir"
                    )
        self._freeze(model, say=False)

    def _freeze(self, model: "PreTrainedModel", *, say: bool) -> None:
        if not self.frozen:
            return
        table = _table(model, "model.freeze_embeddings")
        table.weight.requires_grad_(False)
        output = model.get_output_embeddings()
        if say and output is not None and output.weight is table.weight:
            print(
                "the output layer is the same table as the frozen embeddings, so it stays as it is, too; with "
                "model.tie_word_embeddings false it has one of its own, which is trained",
                file=sys.stderr,
            )


def _table(model: Any, setting: str) -> Any:
    """Return the module of the token embeddings."""
    from torch import nn

    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding) or getattr(model.config, "token_input", None) == "characters":
        raise ConfigError(f"{setting}: the model spells its tokens and has no table of token embeddings; leave it out")
    return table


def _fill(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", source: str, token_counts: "np.ndarray | None"
) -> str:
    """Copy what is found into the table; return a line that says how much it was."""
    import numpy as np
    import torch

    from bertkit.stages.vector_sources import load_vectors
    from bertkit.tokenization import CONTINUATION

    table = _table(model, "model.pretrained_embeddings")
    vectors = load_vectors(source)
    width = table.weight.shape[1]
    if vectors.width != width:
        raise ConfigError(
            f"model.pretrained_embeddings: the vectors of {source} have {vectors.width} numbers, and the model's embeddings "
            f"{width}; {_remedy(model, vectors.width)}"
        )
    ids, rows, in_lower_case = [], [], 0
    for token, token_id in tokenizer.get_vocab().items():
        row = vectors.index.get(token) if token.startswith(CONTINUATION) else vectors.row_of(token)
        if row is not None and token_id != tokenizer.pad_token_id:
            ids.append(token_id)
            rows.append(row)
            in_lower_case += vectors.words[row] != token
    with torch.no_grad():
        table.weight[ids] = torch.from_numpy(vectors.vectors[rows]).to(table.weight.dtype)
    lower = f", {in_lower_case:,} of them in lower case" if in_lower_case else ""
    line = (
        f"pretrained embeddings: {len(ids):,} of {len(tokenizer):,} tokens ({len(ids) / len(tokenizer):.1%}) have a vector in "
        f"{source}{lower}"
    )
    if token_counts is not None:
        line += f"; they are {np.asarray(token_counts)[ids].sum() / token_counts.sum():.1%} of the training text"
    return line


def _remedy(model: Any, width: int) -> str:
    """Say which setting makes the embeddings as wide as the vectors."""
    if "embedding_size" in type(model.config).__annotations__:
        return f"set model.embedding_size to {width}, or give vectors that fit"
    per_direction = model.config.hidden_size // model.get_input_embeddings().weight.shape[1]  # an ELMo has two
    return f"set model.hidden_size to {width * per_direction}, or give vectors that fit"
