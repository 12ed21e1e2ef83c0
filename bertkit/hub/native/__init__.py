"""transformers' own architectures: read into the families of bertkit that compute the same, and written from them."""

from transformers import PreTrainedConfig

from bertkit.hub.native.architecture import NativeArchitecture
from bertkit.hub.native.bert import NativeBert
from bertkit.hub.native.gpt2 import NativeGpt2
from bertkit.hub.native.marian import NativeMarian
from bertkit.hub.native.openai_gpt import NativeOpenAIGpt
from bertkit.models import family_of

ARCHITECTURES: dict[str, NativeArchitecture] = {
    architecture.model_type: architecture
    for architecture in (NativeBert(), NativeGpt2(), NativeOpenAIGpt(), NativeMarian())
}
"""transformers' model type -> what it is to bertkit."""


def counterpart(config: PreTrainedConfig) -> NativeArchitecture:
    """Return the architecture of transformers that computes what a config of bertkit says.

    Args:
        config: of one of bertkit's families.

    Raises:
        ValueError: transformers has no such architecture.
    """
    family = family_of(config)
    of_family = [architecture for architecture in ARCHITECTURES.values() if architecture.family == family]
    if not of_family:
        having = dict.fromkeys(architecture.family for architecture in ARCHITECTURES.values())
        raise ValueError(
            f"the family {family} has no counterpart in transformers (the families {', '.join(having)} have); use the "
            "checkpoint itself, whose code travels with it"
        )
    return next((architecture for architecture in of_family if architecture.computes(config)), of_family[0])
