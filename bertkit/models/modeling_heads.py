"""Task heads on a family's base model, as mixins that every family shares.

A head of a family is one line: the mixin before the family's `PreTrainedModel`, and the base model by its name,
`class XForTokenClassification(ForTokenClassification, XPreTrainedModel): base_model_class = XModel`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .modeling_losses import classification_loss, cross_entropy, infer_problem_type, position_loss
from .modeling_packing import first_positions
from .modeling_pooling import number_examples, pool_examples, pooled_width
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


class TaskHead:
    """What all task heads share: the base model, what they read of it, and dropout.

    The states a head reads are those of the last layer, or, in a family whose layers make a word's vector together
    (`mixes_layers`), a learned mix of all. Inputs that the base model knows nothing of are not handed on, so that a batch
    with `token_type_ids` and `example_starts` is one for every family.

    The config has `num_labels`, `classifier_dropout` and `hidden_dropout_prob`; `type_vocab_size` if the base model reads
    segments; `scalar_mix_layer_norm` with `mixes_layers`. A base model with a pooler takes `add_pooling_layer`.
    """

    base_model_class: type[nn.Module]
    has_pooler = False
    mixes_layers = False
    pools = False  # reads one vector an example, by `config.pooling`
    config: Any

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        pooler = {"add_pooling_layer": self.reads_pooler} if self.has_pooler else {}
        self.model = self.base_model_class(config, **pooler)
        if self.mixes_layers:
            self.scalar_mix = ScalarMix(config.num_hidden_layers + 1, layer_norm=config.scalar_mix_layer_norm)
        self.dropout = nn.Dropout(
            config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        )

    @property
    def class_weights(self) -> Sequence[float] | None:
        """What an error costs by class, where the task that the config was made for says so."""
        return getattr(self.config, "class_weights", None)

    @property
    def reads_pooler(self) -> bool:
        """Whether the head reads the base model's `pooler_output`."""
        return self.pools and self.config.pooling == "cls"

    def read(self, **inputs: Any) -> tuple[torch.Tensor, Any]:
        """Run the base model.

        Args:
            **inputs: arguments of the head's forward that are not its own; token_type_ids and example_starts are left out
                where the base model does not read them.

        Returns:
            The states (batch, seq, hidden) that the head reads, and the base model's output, with the hidden states that
            were asked for and no others.
        """
        if not hasattr(self.config, "type_vocab_size"):
            inputs.pop("token_type_ids")
        if not self.reads_pooler:
            inputs.pop("example_starts")
        if hasattr(self.config, "use_cache"):
            inputs.setdefault("use_cache", False)  # nothing goes on from what a head has read
        wanted = inputs.pop("output_hidden_states", self.config.output_hidden_states)
        outputs = self.model(**inputs, output_hidden_states=self.mixes_layers or wanted, return_dict=True)
        if not self.mixes_layers:
            return outputs.last_hidden_state, outputs
        states = self.scalar_mix(outputs.hidden_states)
        outputs.hidden_states = kept_states(outputs.hidden_states, wanted)
        return states, outputs


class PooledTaskHead(TaskHead):
    """What the heads share that read one vector an example.

    `config.pooling` says which: "cls", the base model's `pooler_output`; the state of the example's "last" token, the "mean"
    of its states or their "max", unit by unit; or "concat", these three joined. The mean is what few steps of fine-tuning make
    more of than of the pooler.
    """

    pools = True

    def read_pooled(self, **inputs: Any) -> tuple[torch.Tensor, Any]:
        """Run the base model; return the vectors (examples, pooled width), dropout behind them, and its output."""
        layout = {name: inputs[name] for name in ("attention_mask", "position_ids", "example_starts")}
        states, outputs = self.read(**inputs)
        pooled = outputs.pooler_output if self.reads_pooler else pool_examples(self.config.pooling, states, **layout)
        return self.dropout(pooled), outputs


class ForSequenceClassification(PooledTaskHead):
    """A class, several labels or numbers for every example, from one vector of each."""

    score_has_bias = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = pooled_width(config.pooling, config.hidden_size)
        self.score = nn.Linear(width, self.config.num_labels, bias=self.score_has_bias)
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
        example_starts: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Classify every example.

        Args:
            input_ids: (batch, seq); this and the next four as in the base model.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq); not read by a family without segments.
            position_ids: (batch, seq) or (1, seq).
            inputs_embeds: (batch, seq, embedding).
            labels: see `classification_loss`; in the order of the examples where rows are packed.
            num_items_in_batch: number of label values of the whole step, over micro-batches and processes.
            example_starts: (examples,) flat indices into (batch * seq) of the first tokens of packed rows, which spare a GPU
                the wait for counting them; may be padded at the end with 0.
            **kwargs: further arguments of the base model (output_hidden_states, ...).

        Returns:
            loss (with labels), logits (examples, num_labels), and hidden_states and attentions where asked for.
        """
        pooled, outputs = self.read_pooled(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            example_starts=example_starts,
            **kwargs,
        )
        logits = self.score(pooled)  # (examples, num_labels)
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = infer_problem_type(self.config.num_labels, labels)
            loss = classification_loss(
                logits, labels, self.config.problem_type, num_items_in_batch, class_weights=self.class_weights
            )
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.get("attentions")
        )


class ForMultipleChoice(PooledTaskHead):
    """Which of several texts is right, from one vector of each: a number for every choice, and a softmax over a question's."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.score = nn.Linear(pooled_width(config.pooling, config.hidden_size), 1)
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
        example_starts: torch.Tensor | None = None,
        choice_examples: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Choose, in one of two forms: a row for every choice of every question, or, with choice_examples, any rows.

        Args:
            input_ids: (questions, choices, seq), a row each; or with choice_examples (batch, seq), padded or packed rows whose
                examples are the choices. The next four have the same form; they are as in the base model.
            attention_mask: (questions, choices, seq) or (batch, seq).
            token_type_ids: likewise; not read by a family without segments.
            position_ids: likewise.
            inputs_embeds: (questions, choices, seq, embedding) or (batch, seq, embedding).
            labels: (questions,) the right choice, -100 at padding.
            num_items_in_batch: questions of the whole step, by which the summed loss is divided. None: those given here.
            example_starts: (examples,) as in `ForSequenceClassification.forward`.
            choice_examples: (questions, choices) int64, the place of every choice in the order of the examples; may be padded
                with 0 where labels are -100.
            **kwargs: further arguments of the base model.

        Returns:
            loss (with labels), logits (questions, choices), and hidden_states and attentions where asked for, of the rows.

        Raises:
            ValueError: rows without the dimension of the choices, and no choice_examples.
        """
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
        }
        if choice_examples is None:
            rows, dimensions = (input_ids, 3) if input_ids is not None else (inputs_embeds, 4)
            if rows is None or rows.dim() < dimensions:
                shape = None if rows is None else tuple(rows.shape)
                raise ValueError(
                    f"multiple choice reads rows of (questions, choices, seq) and was given {shape}; add the dimension of the "
                    "choices, or give choice_examples, which say whose the examples are"
                )
            questions, choices = rows.shape[:2]
            inputs = {name: None if value is None else value.flatten(0, 1) for name, value in inputs.items()}
        pooled, outputs = self.read_pooled(**inputs, example_starts=example_starts, **kwargs)
        scores = self.score(pooled).squeeze(-1)  # (examples,)
        logits = scores.view(questions, choices) if choice_examples is None else scores[choice_examples]
        loss = None if labels is None else cross_entropy(logits, labels, num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.get("attentions")
        )


class ForTokenClassification(TaskHead):
    """A class for every token."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
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
        example_starts: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Classify every token.

        Args:
            input_ids: (batch, seq); this and the next four as in the base model.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq); not read by a family without segments.
            position_ids: (batch, seq) or (1, seq).
            inputs_embeds: (batch, seq, embedding).
            labels: (batch, seq) classes, -100 where a token has none: padding, or all but the first piece of a word.
            num_items_in_batch: labels of the whole step, by which the summed loss is divided. None: those given here.
            example_starts: (examples,); not needed here, every token is read for itself.
            **kwargs: further arguments of the base model.

        Returns:
            loss (with labels), logits (batch, seq, num_labels), and hidden_states and attentions where asked for.
        """
        states, outputs = self.read(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            example_starts=example_starts,
            **kwargs,
        )
        logits = self.score(self.dropout(states))  # (batch, seq, num_labels)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits, labels, num_items_in_batch, class_weights=self.class_weights)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.get("attentions")
        )


class ForQuestionAnswering(TaskHead):
    """Where in an example the answer begins and ends: two numbers for every token, and two softmaxes over an example's."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()  # type: ignore[attr-defined]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        example_starts: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Score every token as the first and as the last of the answer.

        Args:
            input_ids: (batch, seq); this and the next four as in the base model.
            attention_mask: (batch, seq).
            token_type_ids: (batch, seq); not read by a family without segments.
            position_ids: (batch, seq) or (1, seq).
            inputs_embeds: (batch, seq, embedding).
            start_positions: (examples,) the answer's first token, counted from the first real token of its own example; one
                that is not in the example, as -100, is not counted.
            end_positions: (examples,) its last token, likewise.
            num_items_in_batch: examples of the whole step that have an answer, by which the summed losses are divided. None:
                those given here.
            example_starts: (examples,) as in `ForSequenceClassification.forward`.
            **kwargs: further arguments of the base model.

        Returns:
            loss (with both positions): the mean of both cross entropies over an example's own tokens; start_logits and
            end_logits (batch, seq), of no meaning at padding; and hidden_states and attentions where asked for.
        """
        states, outputs = self.read(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            example_starts=example_starts,
            **kwargs,
        )
        start_logits, end_logits = self.qa_outputs(self.dropout(states)).unbind(dim=-1)  # (batch, seq) each
        loss = None
        if start_positions is not None and end_positions is not None:
            layout = (attention_mask, position_ids, example_starts)
            first, (number, _) = first_positions(states, *layout), number_examples(states, *layout)
            start_loss, end_loss = (
                position_loss(logits, positions, first, number, num_items_in_batch)
                for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
            )
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )
