"""Task heads on a family's base model, as mixins that every family shares."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .modeling_losses import classification_loss, infer_problem_type
from .modeling_pooling import example_means
from .modeling_scalar_mix import ScalarMix


def kept_states(
    hidden_states: tuple[torch.Tensor, ...], wanted: bool | int | Sequence[int] | None
) -> tuple[Any, ...] | None:
    """Keep of all layers' states those that `output_hidden_states` asks for, as transformers does: None where one is not.

    >>> kept_states(("embeddings", "first", "second"), [0, -1])
    ('embeddings', None, 'second')
    """
    if not wanted or wanted is True:
        return hidden_states if wanted else None
    indices = [wanted] if isinstance(wanted, int) else wanted  # from the start, or below 0 from the end
    kept = [index in indices or index - len(hidden_states) in indices for index in range(len(hidden_states))]
    return tuple(states if keep else None for states, keep in zip(hidden_states, kept, strict=True))


class ForSequenceClassification:
    """A class, several labels or numbers for every example, from one vector of each.

    `config.pooling` says which: "cls", the base model's `pooler_output`, or "mean", the mean of the states over the example's
    tokens, which few steps of fine-tuning make more of. The states are those of the last layer, or, in a family whose layers
    make a word's vector together, a learned mix of all.

    Put it before the family's `PreTrainedModel` and name the base model:
    `class XForSequenceClassification(ForSequenceClassification, XPreTrainedModel): base_model_class = XModel`.
    The config has `num_labels`, `problem_type`, `pooling`, `classifier_dropout` and `hidden_dropout_prob`; the base model takes
    `add_pooling_layer`, unless the family has no pooler. With `mixes_layers` the config has `scalar_mix_layer_norm`.
    """

    base_model_class: type[nn.Module]
    has_pooler = True
    mixes_layers = False
    config: Any

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        pooler = {"add_pooling_layer": config.pooling == "cls"} if self.has_pooler else {}
        self.model = self.base_model_class(config, **pooler)
        if self.mixes_layers:
            self.scalar_mix = ScalarMix(config.num_hidden_layers + 1, layer_norm=config.scalar_mix_layer_norm)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(config.hidden_size, self.config.num_labels)
        self.post_init()  # type: ignore[attr-defined]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Classify every example.

        Args:
            input_ids: (batch, seq); this and the next four as in the base model.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq).
            position_ids: (batch, seq).
            inputs_embeds: (batch, seq, hidden).
            labels: see `classification_loss`; in the order of the examples where rows are packed.
            num_items_in_batch: number of label values of the whole step, over micro-batches and processes.
            **kwargs: further arguments of the base model (example_starts, output_hidden_states, ...).

        Returns:
            loss (with labels), logits (examples, num_labels), and hidden_states and attentions where asked for.
        """
        starts = kwargs.get("example_starts")
        wanted = kwargs.pop("output_hidden_states", self.config.output_hidden_states)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=self.mixes_layers or wanted,
            return_dict=True,
            **kwargs,
        )
        if self.config.pooling == "cls":
            pooled = outputs.pooler_output  # (examples, hidden)
        else:
            states = self.scalar_mix(outputs.hidden_states) if self.mixes_layers else outputs.last_hidden_state
            pooled = example_means(states, attention_mask, position_ids, starts)
        logits = self.score(self.dropout(pooled))  # (examples, num_labels)
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = infer_problem_type(self.config.num_labels, labels)
            loss = classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=kept_states(outputs.hidden_states, wanted) if self.mixes_layers else outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )
