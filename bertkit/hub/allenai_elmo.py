"""AllenAI's ELMo, an options file and weights in hdf5 as its bilm-tf writes them, read into bertkit's `elmo` family.

Paper: Peters et al. 2018, https://arxiv.org/abs/1802.05365. The layout of the weights: https://github.com/allenai/bilm-tf.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bertkit.models import build_config, build_model
from bertkit.models.tokenization_elmo import SPECIAL_WORDS, ElmoCharacterTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORGET_BIAS = 1.0  # TensorFlow's cell adds it; torch's has it in the bias
_GATES = (0, 2, 1, 3)  # TensorFlow's input, candidate, forget, output in torch's order
_CELL = "RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/{name}"


def load_allenai_elmo(options: str | Path, weights: str | Path) -> "tuple[PreTrainedModel, ElmoCharacterTokenizer]":
    """Load the token network and the layers of an ELMo of AllenAI; such files hold no output layer.

    Args:
        options: the JSON file of its shape.
        weights: the hdf5 file.

    Returns:
        An `ElmoModel` in evaluation mode, and the tokenizer that spells its words.

    Raises:
        ValueError: a file that is not what it should be, an option that is missing or has no counterpart, or weights that do
            not fit the options.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError("to read hdf5, h5py is needed; install bertkit with its extra: bertkit[import]") from error

    options, weights = Path(options), Path(weights)
    config = build_config("elmo", "base", **_read_options(options))
    if not weights.is_file():
        raise ValueError(f"there is no weights file {weights}")
    if not h5py.is_hdf5(weights):
        raise ValueError(f"{weights} is not an hdf5 file")
    arrays: dict[str, torch.Tensor] = {}
    with h5py.File(weights) as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: torch.from_numpy(item[()]).float()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    model: Any = build_model(config, "AutoModel")
    state = _convert(arrays, config, weights)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tuple(tensor.shape) != expected[name]:
            raise ValueError(
                f"{weights} does not fit {options}: {name} would be {tuple(tensor.shape)} and must be {expected[name]}"
            )
    model.load_state_dict(state, strict=False)  # the table of spellings is no weight of theirs
    model.read_vocabulary(list(SPECIAL_WORDS))
    return model.eval(), ElmoCharacterTokenizer(max_characters=config.max_characters)


def _read_options(path: Path) -> dict[str, Any]:
    """Read AllenAI's options as fields of `ElmoConfig`."""
    if not path.is_file():
        raise ValueError(f"there is no options file {path}")
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        lstm, characters = options["lstm"], options["char_cnn"]
        return {
            "vocab_size": len(SPECIAL_WORDS),
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_size": 2 * lstm["projection_dim"],
            "cell_size": lstm["dim"],
            "num_hidden_layers": lstm["n_layers"],
            "residual": bool(lstm.get("use_skip_connections", False)),
            "cell_clip": lstm.get("cell_clip") or 0,
            "projection_clip": lstm.get("proj_clip") or 0,
            "token_input": "characters",
            "max_characters": characters["max_characters_per_token"],
            "character_embedding_size": characters["embedding"]["dim"],
            "character_filters": characters["filters"],
            "num_highway_layers": characters.get("n_highway") or 0,
            "character_act": characters["activation"],
            "hidden_dropout_prob": options.get("dropout", 0.1),
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an options file of AllenAI's ELMo: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} has no option {error}, so it is no ELMo of AllenAI that reads characters") from error


def _convert(arrays: Mapping[str, torch.Tensor], config: Any, path: Path) -> dict[str, torch.Tensor]:
    """Rename and reshape the arrays to the weights of `ElmoModel`."""

    def array(name: str) -> torch.Tensor:
        if name not in arrays:
            raise ValueError(f"{path} has no {name}, which its options file asks for")
        return arrays[name]

    encoder = "embeddings.character_encoder"
    state = {f"{encoder}.character_embeddings.weight": array("char_embed")}
    for index in range(len(config.character_filters)):
        kernel = array(f"CNN/W_cnn_{index}")  # (1, width, embedding, filters)
        state[f"{encoder}.convolutions.{index}.weight"] = kernel.squeeze(0).permute(2, 1, 0)
        state[f"{encoder}.convolutions.{index}.bias"] = array(f"CNN/b_cnn_{index}")
    for index in range(config.num_highway_layers):
        for part, theirs in (("gate", "carry"), ("transform", "transform")):
            state[f"{encoder}.highways.{index}.{part}.weight"] = array(f"CNN_high_{index}/W_{theirs}").T
            state[f"{encoder}.highways.{index}.{part}.bias"] = array(f"CNN_high_{index}/b_{theirs}")
    state[f"{encoder}.projection.weight"] = array("CNN_proj/W_proj").T
    state[f"{encoder}.projection.bias"] = array("CNN_proj/b_proj")
    width = config.hidden_size // 2
    for layer in range(config.num_hidden_layers):

        def cell(name: str, layer: int = layer) -> torch.Tensor:
            names = (_CELL.format(direction=direction, layer=layer, name=name) for direction in (0, 1))
            return torch.stack([array(name) for name in names])

        kernel = _reorder(cell("W_0")).mT  # (directions, 4 * cell, input and projection)
        bias = _reorder(cell("B")).unflatten(-1, (4, -1))  # (directions, 4, cell)
        bias[:, 1] += _FORGET_BIAS
        state[f"layers.{layer}.lstm.weight_ih"] = kernel[..., :width]
        state[f"layers.{layer}.lstm.weight_hh"] = kernel[..., width:]
        state[f"layers.{layer}.lstm.bias"] = bias.flatten()
        state[f"layers.{layer}.lstm.weight_hr"] = cell("W_P_0").mT
    return state


def _reorder(weights: torch.Tensor) -> torch.Tensor:
    """Put the gates, which fill the last axis one after the other, into torch's order."""
    return torch.cat([weights.chunk(4, dim=-1)[gate] for gate in _GATES], dim=-1)
