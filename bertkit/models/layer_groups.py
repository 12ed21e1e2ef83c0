"""The parameters of a model in groups from the bottom to the top: embeddings, each layer, head.

Training knows nothing of families; it is handed these groups.
"""

import re

from transformers import PreTrainedModel

from . import FAMILIES, family_of

EMBEDDINGS, HEAD = "embeddings", "head"


def layer_groups(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return the names of a model's parameters by group, from the bottom to the top.

    The groups are "embeddings", each layer by its name in the base model ("layers.0", in an encoder-decoder first
    "encoder.layers.0" and so on, then "decoder.layers.0"), and "head": what stands on top of the layers, the pooler and the
    learned mix of layers among it. A group without parameters is left out: the head of a language model whose output weights
    are its embeddings, say. Weights used in two places belong to the lower one.

    Args:
        model: of one of the `FAMILIES`, with any head, not wrapped.

    Raises:
        ValueError: not a model of bertkit, or one with a module that its family's entry does not place.
    """
    name = family_of(model.config)
    if name is None:
        raise ValueError(f"{type(model).__name__} is not of bertkit, so its layers are not known")
    family = FAMILIES[name]
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    lists = {path: len(model.base_model.get_submodule(path)) for path in family.layer_lists}  # type: ignore[arg-type]
    in_order = [EMBEDDINGS, *(f"{path}.{number}" for path, count in lists.items() for number in range(count)), HEAD]
    beside = {module: _counted_from_the_start(layer, lists) for module, layer in family.beside_layers.items()}
    groups: dict[str, list[str]] = {group: [] for group in in_order}
    for parameter, _ in model.named_parameters():
        groups[_group_of(parameter, prefix, [*lists], beside)].append(parameter)
    return {group: names for group, names in groups.items() if names}


def _group_of(parameter: str, prefix: str, lists: list[str], beside: dict[str, str]) -> str:
    if not parameter.startswith(prefix):
        return HEAD
    place = parameter.removeprefix(prefix)
    for path in lists:
        if found := re.match(rf"{re.escape(path)}\.\d+(?=\.)", place):
            return found.group()
    for module, group in beside.items():
        if place.startswith(f"{module}."):
            return group
    if any(part.endswith(EMBEDDINGS) for part in place.split(".")):
        return EMBEDDINGS
    raise ValueError(f"the entry of FAMILIES does not say which layer {parameter} goes with; name it in beside_layers")


def _counted_from_the_start(layer: str, lists: dict[str, int]) -> str:
    """Return the name of a layer that may be counted from the end.

    >>> _counted_from_the_start("layers.-1", {"layers": 3})
    'layers.2'
    """
    path, _, number = layer.rpartition(".")
    return f"{path}.{int(number) % lists[path]}" if path in lists else layer
