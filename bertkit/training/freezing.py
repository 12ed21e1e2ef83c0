"""Which weights of a model are trained: some never are, others from a later step on.

A frozen weight needs no gradient. So it gets no update and no decay, counts for nothing in the norm that gradients are clipped
to, has no moments in the optimizer yet, and no backward pass is computed below the lowest one that is trained.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from bertkit.training.batch_sizes import BatchSizes

WHOLE = "model"
"""The one group of a model whose layers nobody named."""


def freeze_for_good(model: nn.Module, layer_groups: Mapping[str, Sequence[str]], freeze: str) -> None:
    """Freeze what `training.freeze` says; before the optimizer is built and the model prepared.

    Args:
        model: not wrapped.
        layer_groups: names of its parameters by group, from the bottom to the top.
        freeze: "none", "embeddings" or "backbone": all groups but "head".

    Raises:
        ValueError: nothing would be left to train, or there is nothing of what is to be frozen.
    """
    if freeze == "none":
        return
    frozen = {group for group in layer_groups if group == "embeddings" or (freeze == "backbone" and group != "head")}
    if not frozen:
        raise ValueError(f"training.freeze is {freeze}, and {_named(model)} has no such weights; leave it out")
    if len(frozen) == len(layer_groups):
        raise ValueError(
            f"training.freeze {freeze} would leave nothing of {_named(model)} to train: it has no head with weights of its "
            "own; leave it out"
        )
    parameters = dict(model.named_parameters())
    for group in frozen:
        for name in layer_groups[group]:
            parameters[name].requires_grad_(False)


class GradualUnfreezing:
    """Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146), section 3.3: the top group first, then one more at a time.

    How many groups are trained follows from the number of the step alone, so a run may go on from any.

    Args:
        model: not wrapped, though perhaps what is wrapped already; what is frozen for good stays so.
        layer_groups: names of its parameters by group, from the bottom to the top.
        every: `training.gradual_unfreezing`; False: all groups are trained from the first step on.
        sizes: the global batch size of every step.
        num_examples: examples in an epoch.
        needs_all_gradients: the model is sharded, which fixes what has a gradient when it is prepared; then the gradients are
            computed, and forgotten.
    """

    def __init__(
        self,
        model: nn.Module,
        layer_groups: Mapping[str, Sequence[str]],
        every: bool | int,
        *,
        sizes: BatchSizes,
        num_examples: int,
        needs_all_gradients: bool = False,
    ) -> None:
        parameters = dict(model.named_parameters())
        trained = {
            group: [parameters[name] for name in names if parameters[name].requires_grad]
            for group, names in layer_groups.items()
        }
        self.groups = {group: trained[group] for group in reversed([*layer_groups]) if trained[group]}
        """From the top to the bottom."""
        self.every, self.sizes, self.num_examples = every, sizes, num_examples
        self.needs_all_gradients = needs_all_gradients

    def count(self, step: int) -> int:
        """Return how many groups a step trains, from the top."""
        if self.every is False:
            return len(self.groups)
        passed = self.sizes.before(step) // self.num_examples if self.every is True else step // self.every
        return min(1 + passed, len(self.groups))

    def frozen(self, step: int) -> list[nn.Parameter]:
        """Return the parameters that are frozen at a step, and will not always be."""
        waiting = list(self.groups.values())[self.count(step) :]
        return [parameter for parameters in waiting for parameter in parameters]

    def begin(self, step: int) -> None:
        """Let the backward passes of a step compute the gradients of what it trains, and no others."""
        if self.every is False or self.needs_all_gradients:
            return
        for number, parameters in enumerate(self.groups.values()):
            for parameter in parameters:
                parameter.requires_grad_(number < self.count(step))

    def forget_gradients(self, step: int) -> None:
        """Drop the gradients of what a step does not train, where they were computed."""
        for parameter in self.frozen(step):
            parameter.grad = None

    def thaw(self) -> None:
        """Let every group have gradients: what the optimizer is, it must be of all of them."""
        for parameters in self.groups.values():
            for parameter in parameters:
                parameter.requires_grad_(True)

    def line(self, step: int) -> str | None:
        """Say which groups a step begins to train, if it begins with any."""
        if self.every is False:
            return None
        before = self.count(step - 1) if step else 0
        begun = list(self.groups)[before : self.count(step)]
        if not begun:
            return None
        rest = len(self.groups) - self.count(step)
        return f"step {step}: {', '.join(begun)} trained from here on" + (
            f", {rest} group{'s' if rest > 1 else ''} still frozen" if rest else ""
        )


def _named(model: nn.Module) -> str:
    return f"the {type(model).__name__}"
