"""What every encoder-decoder does alike, whatever it is made of: shared embeddings, the way from source to target, the loss.

The mixins stand before the family's `PreTrainedModel`; the family brings the encoder and the decoder.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple

from .modeling_linear_cross_entropy import scores_and_loss
from .modeling_losses import IGNORED


class EncoderDecoder:
    """A base model of `encoder` and `decoder`, each with `embeddings.word_embeddings`.

    The config has `share_encoder_decoder_embeddings`. The decoder is called with the encoder's states and their mask.
    """

    config: Any
    encoder: Any
    decoder: Any
    _get_resized_embeddings: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        source, target = (f"{stack}.embeddings.word_embeddings.weight" for stack in ("encoder", "decoder"))
        self._tied_weights_keys = {target: source} if config.share_encoder_decoder_embeddings else {}

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Name the weights that are others': target -> source. Embeddings are shared whether the output layer is or not."""
        return dict(self._tied_weights_keys)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of the source tokens, which are those of the target tokens if they are shared."""
        return self.encoder.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the embeddings of the source tokens, and those of the target tokens if they are shared."""
        self.encoder.embeddings.word_embeddings = value
        if self.config.share_encoder_decoder_embeddings:
            self.decoder.embeddings.word_embeddings = value

    def _resize_token_embeddings(self, new_num_tokens: int, *args: Any, **kwargs: Any) -> nn.Module:
        if not self.config.share_encoder_decoder_embeddings:  # one vocabulary in two matrices
            embeddings = self.decoder.embeddings
            embeddings.word_embeddings = self._get_resized_embeddings(
                embeddings.word_embeddings, new_num_tokens, *args, **kwargs
            )
        return super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)  # type: ignore[misc]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Encode the source and read the target.

        Args:
            input_ids: (batch, source) token ids.
            attention_mask: (batch, source) 1 at tokens, 0 at padding, on either side. None: nothing is padded.
            decoder_input_ids: (batch, seq) token ids of the target, from the start token on.
            decoder_attention_mask: (batch, past + seq) 1 at tokens, 0 at padding. None: nothing is padded, which is right, too,
                where padding follows the tokens and is not read.
            encoder_outputs: what the encoder returned, or a tuple that starts with its last_hidden_state, instead of input_ids.
            past_key_values: cache (a Transformer's) or state (an RNN's) of the targets so far.
            inputs_embeds: (batch, source, embedding) token embeddings, before their scaling if the family has one, instead of
                input_ids.
            decoder_inputs_embeds: (batch, seq, embedding) likewise, instead of decoder_input_ids.
            use_cache: return what to go on from. None: `config.use_cache`, but not in training.
            **kwargs: output_hidden_states, output_attentions, return_dict; others reach encoder and decoder.

        Returns:
            last_hidden_state (batch, seq, hidden), what the output layer reads; encoder_last_hidden_state (batch, source,
            encoder); past_key_values with use_cache; decoder_hidden_states, decoder_attentions, cross_attentions,
            encoder_hidden_states and encoder_attentions if asked for, where the family has them.

        Raises:
            ValueError: not exactly one of ids and embeddings for encoder or decoder, or rows longer than the config says.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, return_dict=True, **kwargs
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        decoder_outputs = self.decoder(
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class ForConditionalGeneration:
    """The next token of the target, by `lm_head` on an `EncoderDecoder` named `model`.

    `_tied_weights_keys` says whose weights the output layer takes. The config has `tie_word_embeddings`, `label_smoothing`, and
    the token ids that begin and pad.
    """

    _tied_weights_keys: dict[str, str]
    config: Any
    model: Any
    lm_head: nn.Module
    training: bool

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Name the weights that are others': target -> source."""
        inside = self.model.get_expanded_tied_weights_keys()
        ties = {f"model.{target}": f"model.{source}" for target, source in inside.items()}
        if self.config.tie_word_embeddings:
            for output_layer, embeddings in self._tied_weights_keys.items():
                ties[output_layer] = ties.get(embeddings, embeddings)  # where those are others' themselves, the others
        return ties

    def _resize_token_embeddings(self, new_num_tokens: int, *args: Any, **kwargs: Any) -> nn.Module:
        self.model._resize_token_embeddings(new_num_tokens, *args, **kwargs)
        return super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)  # type: ignore[misc]  # and the output layer

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Shift target tokens to where they are read: one to the right, behind the start token.

        Args:
            labels: (batch, seq) target tokens, -100 at padding.

        Returns:
            (batch, seq) decoder_input_ids.

        Raises:
            ValueError: the config names no start token.
        """
        start = self.config.decoder_start_token_id
        start = self.config.bos_token_id if start is None else start
        if start is None:
            raise ValueError(
                "the config has neither decoder_start_token_id nor bos_token_id; set one, or give decoder_input_ids"
            )
        decoder_input_ids = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
        return decoder_input_ids.masked_fill(decoder_input_ids == IGNORED, self.config.pad_token_id or 0)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predict the target.

        Args:
            input_ids: (batch, source); this and the next seven as in `EncoderDecoder.forward`.
            attention_mask: (batch, source).
            decoder_input_ids: (batch, seq). None: the labels, shifted to the right.
            decoder_attention_mask: (batch, past + seq).
            encoder_outputs: what the encoder returned.
            past_key_values: cache or state.
            inputs_embeds: (batch, source, embedding).
            decoder_inputs_embeds: (batch, seq, embedding).
            labels: (batch, seq) what is predicted at each position of decoder_input_ids: the target tokens, -100 at padding.
            use_cache: return what to go on from. None: `config.use_cache`, but not in training nor with labels.
            logits_to_keep: how many of the last positions' scores are wanted, or which positions'. 0: all, as labels need.
            num_items_in_batch: labels of the whole step, over micro-batches and processes, by which the summed loss is divided.
                None: the labels given here.
            skip_logits: leave the scores out, in training most of what the memory is taken for; the loss is the same.
            **kwargs: further arguments of `EncoderDecoder.forward`.

        Returns:
            loss (with labels; smoothed in training), logits (batch, seq or those kept, vocab) unless skipped, and the fields of
            `EncoderDecoder.forward` but the decoder's last state.
        """
        if labels is not None:
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            if use_cache is None:
                use_cache = False
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        logits, loss = scores_and_loss(
            self.lm_head,
            slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep),
            labels,
            num_items_in_batch,
            label_smoothing=self.config.label_smoothing if self.training else 0.0,
            skip_logits=skip_logits,
        )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )
