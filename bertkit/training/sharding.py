"""FSDP2: where Accelerate is to cut a model into shards."""

from dataclasses import replace

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel


def shard_by_layers(accelerator: Accelerator, model: PreTrainedModel, optimizer: str) -> None:
    """Make every layer a unit of its own, if Accelerate shards; to be called before it prepares the model.

    In mixed precision gradients are added up over the processes in float32, and nothing is rounded on leaving a unit;
    Accelerate would have both in the lower precision.

    Left alone, Accelerate takes the classes in `_no_split_modules`. They are for `device_map` and name embeddings, too, whose
    weights belong to another unit: Accelerate keeps those of the input and of the output together.

    Args:
        accelerator: says whether it shards; classes that its config names go first.
        model: not prepared yet; its layers lie in lists called `layers`.
        optimizer: `training.optimizer`.

    Raises:
        ValueError: torch's Adafactor was asked for, which cannot work on shards.
    """
    if not accelerator.is_fsdp2:
        return
    if optimizer == "adafactor":
        raise ValueError("under FSDP2 training.optimizer adafactor cannot see whole matrices; take adamw, muon or sgd")
    plugin = accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is None:
        lists = [module for name, module in model.named_modules() if name.endswith("layers")]
        plugin.transformer_cls_names_to_wrap = sorted({type(layer).__name__ for layers in lists for layer in layers})
    if plugin.mixed_precision_policy is not None:
        exact = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None)
        plugin.mixed_precision_policy = exact
    if model.config.is_encoder_decoder:
        # Where encoder and decoder share their embeddings, they must share the module, or two units would own one weight.
        model.set_input_embeddings(model.get_input_embeddings())
