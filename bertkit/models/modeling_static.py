"""Static embeddings: one vector a token, whatever stands around it, as word2vec and GloVe make them.

Papers: Mikolov et al. 2013 (word2vec), https://arxiv.org/abs/1310.4546; Pennington et al. 2014 (GloVe),
https://nlp.stanford.edu/pubs/glove.pdf.

There is nothing but the table. Kept by all that came later: the table, as the first layer. Changed by all that came later: what
a token means here and now, which ELMo reads from the states of a language model, and BERT from attention to both sides.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import can_return_tuple

from .modeling_checks import check_pooling, check_probabilities, check_sizes, check_token_ids
from .modeling_heads import (
    ForMultipleChoice,
    ForQuestionAnswering,
    ForSequenceClassification,
    ForTokenClassification,
    kept_states,
)

STATIC_PRESETS = {
    "tiny": {"hidden_size": 100},
    "base": {"hidden_size": 300},
}


@strict
class StaticEmbeddingConfig(PreTrainedConfig):
    """Shape of a table of vectors; the default width is that of the vectors that word2vec and GloVe were published with."""

    model_type = "bertkit-static"
    num_hidden_layers = 0  # no field: there are none, and there never will be

    vocab_size: int = 30522
    """Number of token ids."""
    hidden_size: int = 300
    """Numbers in a token's vector."""
    initializer_range: float | int = 0.02
    """Standard deviation of fresh vectors."""
    pad_token_id: int | None = 0
    """Token id of padding; its vector is zero and is not trained."""
    hidden_dropout_prob: float | int = 0.0
    """Dropout before a task head, if classifier_dropout is not given."""
    classifier_dropout: float | int | None = None
    """Dropout before a task head; hidden_dropout_prob if not given."""
    pooling: str = "mean"
    """What of an example a task head reads: the "mean" or "max" of its vectors, that of the "last" token, or all joined,
    "concat"."""

    def validate_shape(self) -> None:
        """Check what no table could be built from; `strict` calls it.

        Raises:
            ValueError: naming the field and what it may be.
        """
        check_sizes(self, "vocab_size", "hidden_size")
        check_token_ids(self, "pad_token_id")
        check_probabilities(self, "hidden_dropout_prob", "classifier_dropout")
        check_pooling(self)


class StaticEmbeddingPreTrainedModel(PreTrainedModel):
    """What all classes of static embeddings share: config, fresh vectors, names of the parts."""

    config: StaticEmbeddingConfig
    config_class = StaticEmbeddingConfig
    base_model_prefix = "model"
    _can_compile_fullgraph = True
    _input_embed_layer = "word_embeddings"


class StaticEmbeddingModel(StaticEmbeddingPreTrainedModel):
    """The table."""

    def __init__(self, config: StaticEmbeddingConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Look the tokens up; rows may be packed or padded, since no token sees another.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, seq) 1 at tokens, 0 at padding, whose vectors are zero. None: nothing is padded.
            position_ids: (batch, seq); not read, like token_type_ids and whatever else a head hands on.
            inputs_embeds: (batch, seq, hidden) vectors, instead of input_ids.
            output_hidden_states: return the vectors as the one layer there is, too; None: `config.output_hidden_states`.
            **kwargs: not read.

        Returns:
            last_hidden_state (batch, seq, hidden), the vectors; hidden_states if asked for.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        vectors = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds  # (batch, seq, hidden)
        if attention_mask is not None:
            vectors = vectors * (attention_mask != 0)[..., None]
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutput(last_hidden_state=vectors, hidden_states=kept_states((vectors,), wanted))


class StaticEmbeddingForSequenceClassification(ForSequenceClassification, StaticEmbeddingPreTrainedModel):
    """A linear model on the mean of an example's vectors: the deep averaging network without its depth (Iyyer et al. 2015)."""

    base_model_class = StaticEmbeddingModel


class StaticEmbeddingForTokenClassification(ForTokenClassification, StaticEmbeddingPreTrainedModel):
    """A linear model on each vector: the most likely class of a token, whatever stands around it."""

    base_model_class = StaticEmbeddingModel


class StaticEmbeddingForMultipleChoice(ForMultipleChoice, StaticEmbeddingPreTrainedModel):
    """A score for each choice, from the mean of its vectors and those of the text."""

    base_model_class = StaticEmbeddingModel


class StaticEmbeddingForQuestionAnswering(ForQuestionAnswering, StaticEmbeddingPreTrainedModel):
    """Where an answer begins and ends, told by the words there alone: a floor for models that read the question."""

    base_model_class = StaticEmbeddingModel
