"""What one of transformers' own architectures is to a family of bertkit: tables that are read in both directions."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from bertkit.models import FAMILIES, TASK_FIELDS, build_config

NATIVE_SETTINGS = "native_settings"
"""Field of a config of bertkit that keeps what it has no word for of the native config that it was read from."""
BERTKIT_SETTINGS = "bertkit_settings"
"""Field of a native config that keeps what it has no word for of the config of bertkit that it was written from."""

BASE = "AutoModel"
_ABOUT_THE_FILE = ("model_type", "architectures", "auto_map", "transformers_version", "dtype", "_name_or_path")
_LABELS = ("id2label", "label2id", "problem_type")


class Layout(Enum):
    """How the numbers of a native tensor lie beside those of bertkit's."""

    SAME = "same"
    TRANSPOSED = "transposed"
    """A weight is (in, out), as in the Conv1D layers of transformers' GPTs."""
    READS_CHANNELS = "reads"
    """The last axis of a weight is the residual stream's channels, which have another order."""
    WRITES_CHANNELS = "writes"
    """The first axis is, of a weight and of a bias."""


class Row(NamedTuple):
    """A line of a table of modules: {} stands for the number of a layer."""

    ours: str
    native: Sequence[str]
    """One module, or several whose weights lie one below the other in ours."""
    layout: Layout = Layout.SAME


class Head(NamedTuple):
    """A native class, and the modules it has beside the base model."""

    native_class: type[PreTrainedModel]
    rows: Sequence[Row] = ()


class NativeArchitecture:
    """An architecture of transformers, and the family of bertkit that computes the same.

    A subclass fills in the tables, and overrides a method where a table cannot say it.
    """

    family: ClassVar[str]
    config_class: ClassVar[type[PreTrainedConfig]]
    prefix: ClassVar[str]
    """What the names of the base model's weights start with in a class that has a head."""
    heads: ClassVar[Mapping[str, Head]]
    """Auto class -> what serves it."""
    base_rows: ClassVar[Sequence[Row]]
    may_be_missing: ClassVar[Sequence[str]] = ()
    """Modules of ours that a base model may lack."""
    not_weights: ClassVar[str] = r"(?!)"
    """Pattern of tensors in native files that can be computed."""
    fields: ClassVar[Mapping[str, Sequence[str]]]
    """Field of our config -> that of the native config; of several the first is read, and all are written."""
    fixed: ClassVar[Mapping[str, Any]] = {}
    """What a native config may ask for and the family does not do: setting -> the only value it may have."""

    @property
    def model_type(self) -> str:
        """transformers' name of the architecture."""
        return self.config_class.model_type

    def computes(self, config: PreTrainedConfig) -> bool:
        """Tell whether the architecture is the one that computes what a config of the family says."""
        return True

    def refuse_inexpressible(self, config: PreTrainedConfig, auto_class: str) -> None:
        """Make sure that the architecture computes the same as a config of the family.

        Args:
            config: of the family.
            auto_class: which head.

        Raises:
            ValueError: naming the setting, and what would do.
        """
        if auto_class not in self.heads:
            raise ValueError(
                f"transformers has no {auto_class} of its {self.model_type}; it has {', '.join(self.heads)}; give "
                "--auto_class AutoModel, which leaves the head out, or use the checkpoint itself, whose code travels with it"
            )

    def padding_side(self, auto_class: str) -> str | None:
        """Return where the tokenizer must pad, since native positions count from a row's beginning; None: where it does.

        Args:
            auto_class: which head is written.
        """
        return "right"

    def notes(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> list[str]:
        """Say what is not as in the checkpoint, beside its names.

        Args:
            weights: of the family's class.
            auto_class: which head is written.
        """
        left_out = [module for module in self.may_be_missing if not any(f"{module}." in name for name in weights)]
        if auto_class == BASE and left_out:
            return [f"the checkpoint has no {', '.join(left_out)}, so transformers draws one when it is loaded"]
        return []

    # --- configurations ---

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say in native words what our fields say.

        Args:
            ours: fields of our config.

        Returns:
            Fields of the native config.
        """
        return {name: ours[field] for field, names in self.fields.items() for name in names}

    def our_values(self, native: dict[str, Any]) -> dict[str, Any]:
        """Say in our words what native fields say; the inverse of `native_values` for what both can say."""
        return {field: native[names[0]] for field, names in self.fields.items()}

    def native_config(self, config: PreTrainedConfig, auto_class: str) -> PreTrainedConfig:
        """Translate a config of the family.

        Args:
            config: of the family; `refuse_inexpressible` has let it through.
            auto_class: which head.

        Returns:
            The native config; what it has no word for is in its field `bertkit_settings`.
        """
        ours = {name: getattr(config, name) for name in FAMILIES[self.family].config_class.__annotations__}
        ours |= {name: getattr(config, name, None) for name in TASK_FIELDS if name != "num_labels"}
        values = self.native_values(ours)
        if (
            auto_class != "AutoModelForQuestionAnswering"
        ):  # two numbers a token, which some native classes take for labels
            values |= {name: ours[name] for name in _LABELS}
        values |= self._still_true(getattr(config, NATIVE_SETTINGS, {}), values)
        native = self.config_class(**values)
        understood = self._understood(native.to_dict())
        rest = {name: value for name, value in ours.items() if understood.get(name) != value}
        if rest:
            setattr(native, BERTKIT_SETTINGS, rest)
        return native

    def our_config(self, native: PreTrainedConfig, weights: Mapping[str, torch.Tensor]) -> PreTrainedConfig:
        """Translate a native config.

        Args:
            native: the config.
            weights: the native weights, of which some say what the config does not.

        Returns:
            A config of the family; what it has no word for is in its field `native_settings`.

        Raises:
            ValueError: a setting that the family does not have.
        """
        values = {name: value for name, value in native.to_dict().items() if name not in _ABOUT_THE_FILE}
        for name, only in self.fixed.items():
            if (given := values.get(name, only)) != only:
                raise ValueError(f"{name} {given!r}; bertkit's {self.family} only takes {only!r}")
        for names in self.fields.values():
            for name in names[1:]:
                if values[name] != values[names[0]] and "drop" not in name:
                    raise ValueError(
                        f"{names[0]} {values[names[0]]} and {name} {values[name]}; bertkit's {self.family} "
                        "only takes one for both"
                    )
        kept = values.pop(BERTKIT_SETTINGS, None) or {}
        ours = self._understood(values) | self.values_of_weights(weights) | kept
        told = {name: value for name, value in ours.items() if value is not None or name not in TASK_FIELDS}
        config = build_config(self.family, **told)
        written = self.native_config(config, BASE).to_dict()
        missing = object()
        rest = {
            name: value for name, value in values.items() if written.get(name, missing) != value and name not in kept
        }
        for (
            first,
            *others,
        ) in self.fields.values():  # by the first, which is read, it shows whether the field was changed
            if any(name in rest for name in others):
                rest[first] = values[first]
        if rest:
            setattr(config, NATIVE_SETTINGS, rest)
        return config

    def values_of_weights(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Read fields of our config from native weights."""
        return {}

    def _still_true(self, kept: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """Leave out of what was kept of a native config the settings whose fields of ours were changed since.

        Args:
            kept: as `our_config` keeps it.
            values: what our fields come to in native words.
        """
        written = self.config_class(**values).to_dict()
        understood = self._understood(written)
        outdated = {name for name in kept if self._understood(written | {name: kept[name]}) != understood}
        for first, *others in self.fields.values():
            if first in outdated:
                outdated.update(others)
        return {name: value for name, value in kept.items() if name not in outdated}

    def _understood(self, native: dict[str, Any]) -> dict[str, Any]:
        """Read a native config's fields, with our defaults for what it cannot say."""
        chosen = FAMILIES[self.family]
        default = chosen.config_class(**chosen.presets[chosen.default_preset])
        ours = {name: getattr(default, name) for name in chosen.config_class.__annotations__}
        read = self.our_values(native)
        for name, value in read.items():  # transformers' own defaults are of the published vocabulary
            if name.endswith("_token_id") and isinstance(value, int) and value >= native["vocab_size"]:
                read[name] = None
        return ours | read | {name: native[name] for name in _LABELS}

    # --- weights ---

    def to_ours(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Give native weights the names and layouts of bertkit's.

        Args:
            weights: of any native class of the architecture; gradients will do.
            auto_class: whose head they are for; those of other heads are left out.

        Returns:
            Weights of the family's class.

        Raises:
            ValueError: a weight that no head of the family has a place for, or a part of a joint one that is missing.
        """
        parts: dict[str, dict[str, torch.Tensor]] = {}
        wanted: dict[str, Row] = {}
        for native_name, tensor in weights.items():
            name = native_name.removeprefix(self.prefix)
            if re.fullmatch(self.not_weights, name):
                continue
            module, _, kind = name.rpartition(".")
            found = [place for place in self._native_places if place.pattern.fullmatch(module)]
            if not found:
                raise ValueError(f"weight {native_name!r} has no place in bertkit's {self.family}")
            for place in found:
                if place.auto_class not in (None, auto_class):
                    continue
                match = place.pattern.fullmatch(module)
                assert match is not None
                ours = f"{self._our_prefix(place, auto_class)}{_numbered(place.row.ours, match)}.{kind}"
                parts.setdefault(ours, {})[place.module] = self._relaid(tensor, place.row.layout, kind, native=False)
                wanted[ours] = place.row
        for ours, row in wanted.items():
            if missing := [module for module in row.native if module not in parts[ours]]:
                raise ValueError(
                    f"no weight of transformers' {self.model_type} for the part {', '.join(missing)} of {ours!r}"
                )
        return {
            ours: torch.cat([parts[ours][module] for module in row.native])
            if len(row.native) > 1
            else parts[ours][row.native[0]]
            for ours, row in wanted.items()
        }

    def to_native(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Give the family's weights native names and layouts, the inverse of `to_ours`.

        Args:
            weights: of any class of the family.
            auto_class: whose head they are for; those of other heads are left out.

        Returns:
            Weights of the native class, a tied one perhaps by one of its names only.
        """
        renamed: dict[str, torch.Tensor] = {}
        for our_name, tensor in weights.items():
            module, _, kind = our_name.removeprefix("model.").rpartition(".")
            for place in self._our_places:
                match = place.pattern.fullmatch(module)
                if match is None or place.auto_class not in (None, auto_class):
                    continue
                prefix = "" if auto_class == BASE or place.auto_class is not None else self.prefix
                names = [f"{prefix}{_numbered(native, match)}.{kind}" for native in place.row.native]
                for name, part in zip(names, tensor.chunk(len(names)), strict=True):
                    renamed[name] = self._relaid(part, place.row.layout, kind, native=True)
        return renamed

    def is_required(self, our_name: str) -> bool:
        """Tell whether a weight of ours is one that every checkpoint of the architecture has."""
        module = our_name.removeprefix("model.").rpartition(".")[0]
        return any(
            place.pattern.fullmatch(module)
            for place in self._our_places
            if place.auto_class is None and place.row.ours not in self.may_be_missing
        )

    @staticmethod
    def _our_prefix(place: "_Place", auto_class: str) -> str:
        return "" if auto_class == BASE or place.auto_class is not None else "model."

    @property
    def _rows(self) -> list[tuple[str | None, Row]]:
        """All rows, with the Auto class whose head they are of, or None."""
        heads = [(auto_class, row) for auto_class, head in self.heads.items() for row in head.rows]
        return [*((None, row) for row in self.base_rows), *heads]

    @cached_property
    def _native_places(self) -> "list[_Place]":
        return [_Place.of(module, auto_class, row) for auto_class, row in self._rows for module in row.native]

    @cached_property
    def _our_places(self) -> "list[_Place]":
        return [_Place.of(row.ours, auto_class, row) for auto_class, row in self._rows]

    def _relaid(self, tensor: torch.Tensor, layout: Layout, kind: str, *, native: bool) -> torch.Tensor:
        """Lay a tensor, or the part of one, as it is natively, or as ours are."""
        if layout is Layout.TRANSPOSED:
            return tensor.T.contiguous() if kind == "weight" else tensor
        if layout is Layout.WRITES_CHANNELS:
            return tensor[self.channels(len(tensor), native=native)]
        if layout is Layout.READS_CHANNELS and kind == "weight":
            return tensor[..., self.channels(tensor.shape[-1], native=native)]
        return tensor

    def channels(self, width: int, *, native: bool) -> torch.Tensor:
        """Return for each channel of the residual stream where it lies on the other side.

        Args:
            width: how many there are.
            native: for each native channel; else for each of ours.
        """
        return torch.arange(width)


class _Place(NamedTuple):
    """Where a module's weights go."""

    pattern: re.Pattern[str]
    module: str
    auto_class: str | None
    row: Row

    @classmethod
    def of(cls, module: str, auto_class: str | None, row: Row) -> "_Place":
        return cls(re.compile(re.escape(module).replace(r"\{\}", r"(\d+)")), module, auto_class, row)


def _numbered(module: str, match: re.Match[str]) -> str:
    return module.format(*match.groups())
