"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) through peft: of some linear layers a low-rank change is trained.

A checkpoint of such a run stands alone: its weights are merged, under plain names. Beside them lie the adapter in peft's own
form, and in `state/` the weights as they were before merging, which cannot be undone exactly.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bertkit.training.lora_arguments import LoraArguments

ADAPTER_FOLDER = "adapter"
UNMERGED_FILE = "unmerged.safetensors"
_BASE, _A, _B = "base_layer", "lora_A.default.weight", "lora_B.default.weight"


class Lora:
    """Adapters inside a model; what else is trained is the head.

    Args:
        model: with its weights; its linear layers of the targets are wrapped, and all but these adapters and the head frozen.
        arguments: rank and all.
        targets: ends of the names of the layers to adapt.
        head: names of the parameters of the head.
        base: what the weights came from, for the adapter's configuration.

    Raises:
        ValueError: no layer bears a target's name, or one that does is not linear.
    """

    def __init__(
        self, model: nn.Module, arguments: LoraArguments, *, targets: Sequence[str], head: Sequence[str], base: str
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        assert arguments.r is not None
        for target in targets:
            named = {name: part for name, part in model.named_modules() if f".{name}".endswith(f".{target}")}
            wrong = [name for name, part in named.items() if not isinstance(part, nn.Linear)]
            if wrong or not named:
                has = f"is {type(named[wrong[0]]).__name__}" if wrong else "names no part of it"
                raise ValueError(
                    f"lora.targets: {target} {has} in the {type(model).__name__}; give ends of the names of linear layers"
                )
        settings: Any = {
            "r": arguments.r,
            "lora_alpha": arguments.alpha,
            "lora_dropout": arguments.dropout,
            "target_modules": list(targets),
        }
        inject_adapter_in_model(LoraConfig(**settings), model)
        self.head = list(head)
        self.scale = arguments.alpha / arguments.r
        modules = sorted({name.rpartition(".")[0] for name in head})
        self.config = LoraConfig(**settings, modules_to_save=modules, base_model_name_or_path=base)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.head or "lora_" in name)

    def merged(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights of the same model without adapters.

        Args:
            weights: of the model, by the names they have with the adapters inside.
        """
        merged = {}
        for name, weight in weights.items():
            layer, _, part = name.rpartition(f".{_BASE}.")
            if layer and part == "weight":
                change = weights[f"{layer}.{_B}"] @ weights[f"{layer}.{_A}"]
                merged[f"{layer}.weight"] = weight + change * self.scale
            elif layer:
                merged[f"{layer}.{part}"] = weight
            elif "lora_" not in name:
                merged[name] = weight
        return merged

    def save(self, folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Write the adapter, and what a run goes on from.

        Args:
            folder: of the checkpoint, with its folder `state`.
            weights: as in `merged`.
        """
        unmerged = {name: weight for name, weight in weights.items() if f".{_BASE}.weight" in name or "lora_" in name}
        save_file(unmerged, folder / "state" / UNMERGED_FILE)
        adapter = {name.replace(".default.", "."): weight for name, weight in unmerged.items() if "lora_" in name}
        adapter |= {name: weights[name] for name in self.head}
        (folder / ADAPTER_FOLDER).mkdir()
        named = {f"base_model.model.{name}": weight.contiguous() for name, weight in adapter.items()}
        save_file(named, folder / ADAPTER_FOLDER / "adapter_model.safetensors", metadata={"format": "pt"})
        self.config.save_pretrained(str(folder / ADAPTER_FOLDER))

    @staticmethod
    def unmerged(folder: Path, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights that the adapters and what they change had in a checkpoint, by their names in the model.

        Args:
            folder: of the checkpoint.
            weights: merged, as its `model.safetensors` has them.
        """
        unmerged = load_file(folder / "state" / UNMERGED_FILE)
        adapted = {name.partition(f".{_BASE}.")[0] for name in unmerged if f".{_BASE}." in name}
        plain = {}
        for name, weight in weights.items():
            layer, _, part = name.rpartition(".")
            if layer not in adapted:
                plain[name] = weight
            elif part != "weight":
                plain[f"{layer}.{_BASE}.{part}"] = weight
        return {**plain, **unmerged}
