"""DeepSpeed's ZeRO 1 (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): every process updates a share of the weights.

So each keeps the optimizer's state of its share alone. The Trainer keeps what it promises: it says when an update is made, and
checkpoints are its own, with every parameter's state under its name, so that a run may go on without DeepSpeed.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from bertkit.training.arguments import TrainingArguments


def refuse_what_zero_cannot() -> None:
    """Look at how Accelerate was told to run DeepSpeed.

    Raises:
        ValueError: gradients or weights would be sharded, something kept elsewhere, or a file of DeepSpeed's decide.
    """
    told = {name.removeprefix("ACCELERATE_DEEPSPEED_"): value for name, value in os.environ.items()}
    offloads = {told.get(f"OFFLOAD_{what}_DEVICE", "none") for what in ("OPTIMIZER", "PARAM")} != {"none"}
    if told.get("ZERO_STAGE", "2") != "1" or offloads or "CONFIG_FILE" in told:
        raise ValueError(
            "under DeepSpeed bertkit runs with zero_stage 1, offload_optimizer_device none and no deepspeed_config_file "
            "(docs/accelerate/deepspeed.yaml); to shard gradients and weights, too, take FSDP2 (docs/accelerate/fsdp2.yaml)"
        )


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, arguments: TrainingArguments
) -> tuple[Any, Any]:
    """Let Accelerate wrap model and optimizer, under DeepSpeed so that the Trainer stays the master of its steps.

    Args:
        accelerator: says whether it runs under DeepSpeed.
        model: not wrapped yet.
        optimizer: the same.
        arguments: what gradients are clipped to, and that none is left out.

    Returns:
        The prepared model and optimizer.

    Raises:
        ValueError: fp16, gradual unfreezing or an optimizer of matrices was asked for under DeepSpeed.
    """
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return accelerator.prepare(model, optimizer)
    precision, config = accelerator.mixed_precision, accelerator.deepspeed_plugin.deepspeed_config
    if precision == "fp16":
        raise ValueError(
            "under DeepSpeed bertkit computes in float32 or bf16; give training.mixed_precision no or bf16"
        )
    if arguments.optimizer not in ("adamw", "sgd"):  # ZeRO hands the optimizer one flat row of weights, not matrices
        raise ValueError(
            f"under DeepSpeed training.optimizer {arguments.optimizer} cannot see the matrices; take adamw, or shard by FSDP2 "
            "(docs/accelerate/fsdp2.yaml)"
        )
    if arguments.gradual_unfreezing:
        raise ValueError(
            "under DeepSpeed every weight that is trained is so from the first step on; leave training.gradual_unfreezing out, "
            "or launch without DeepSpeed"
        )
    config |= {
        "train_micro_batch_size_per_gpu": 1,  # it only counts with it
        "gradient_accumulation_steps": 1,
        "gradient_clipping": arguments.max_grad_norm or 0.0,
        # DeepSpeed's own bf16 would turn the weights into bf16; this is autocast, which Accelerate uses everywhere else.
        "bf16": {"enabled": False},
        "torch_autocast": {
            "enabled": precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # the modules whose gradients are added up in bf16
        },
    }
    # Else gradients are added up in the order in which each process makes them.
    config["zero_optimization"]["overlap_comm"] = False
    engine, _ = accelerator.prepare(model, optimizer)
    config["bf16"] = {"enabled": precision == "bf16"}  # where Accelerate looks up its precision
    zero = ZeroOptimizer(engine)
    accelerator.deepspeed_engine_wrapped = zero
    return engine, zero


class ZeroOptimizer:
    """DeepSpeed's engine as the Trainer sees an optimizer.

    It stands in for Accelerate's wrapper of the engine too, which would make an update with every backward pass.

    Args:
        engine: what Accelerate made of the model.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.zero = engine.optimizer  # DeepSpeed's; the optimizer inside it has one flat parameter a group
        self.model = engine.module

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer inside, whose learning rates may be set."""
        return self.zero.param_groups

    def backward(self, loss: torch.Tensor, *, sync_gradients: bool) -> None:
        """Add to the gradients.

        Args:
            loss: of a micro-batch.
            sync_gradients: it is the step's last.
        """
        self.engine.set_gradient_accumulation_boundary(sync_gradients)
        self.engine.backward(loss)

    def get_global_grad_norm(self) -> torch.Tensor:
        """Return the gradient's norm over all processes, before it is clipped."""
        norm = self.zero.scaled_global_norm()
        return torch.where(norm < 0, math.inf, norm)  # it says -1 where the norm is not finite

    def step(self) -> None:
        """Clip and update, unless the gradient is not finite."""
        self.engine.step()

    def zero_grad(self) -> None:
        """Forget gradients that made no update."""
        self.zero.zero_grad(set_to_none=True)
        for group in self.zero.averaged_gradients:
            self.zero.averaged_gradients[group] = self.zero.all_grad_tensors[group] = None

    def weights_were_set(self) -> None:
        """Go on from weights that were written into the model."""
        self.zero.refresh_fp32_params()

    def full_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state by parameter and slot, in the main process's memory; nothing before the first step.

        To be called by every process.
        """
        state: dict[str, dict[str, torch.Tensor]] = {}
        for name, parameter, flat in self._parameters():
            for slot, share in self.zero.optimizer.state.get(flat, {}).items():
                full = share.clone()
                if slot != "step":
                    full = torch.zeros_like(parameter)
                    for own, part in self._overlap(full, parameter, share):
                        own.copy_(part)
                    torch.distributed.reduce(full, dst=0)
                if torch.distributed.get_rank() == 0:
                    state.setdefault(name, {})[slot] = full.cpu()
        return state

    def load_full_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take over a state as `full_state` returns it; to be called by every process."""
        self.zero.optimizer.state.clear()
        for name, parameter, flat in self._parameters() if state else ():
            shares = self.zero.optimizer.state[flat]
            for slot, full in state[name].items():
                if slot == "step":
                    shares[slot] = full.to(flat.device, copy=True)
                    continue
                share = shares.setdefault(slot, torch.zeros_like(flat))
                for own, part in self._overlap(full, parameter, share):
                    part.copy_(own)

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter, torch.Tensor]]:
        """Yield the model's parameters, and the flat one of which this process updates its share of their group."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for parameters, group in zip(self.zero.bit16_groups, self.param_groups, strict=True):
            yield from ((names[id(parameter)], parameter, group["params"][0]) for parameter in parameters)

    @staticmethod
    def _overlap(
        full: torch.Tensor, parameter: nn.Parameter, share: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield what a parameter's full state and this process's share of its group have in common, if anything."""
        mapping: Any = getattr(parameter, "_hp_mapping")  # noqa: B009 (DeepSpeed's)
        if mapping is not None:
            in_full, in_share = mapping.lp_fragment_address, mapping.hp_fragment_address
            own = full.view(-1).narrow(0, in_full.start, in_full.numel)
            yield own, share.narrow(0, in_share.start, in_share.numel)
