"""What a consumer of checkpoints is to the table of consumers: what it needs, what is claimed, and the check of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from examples.consumers.workbench import Kind, Workbench, no_warnings


@dataclass(frozen=True)
class Consumer:
    """A library or a feature of one that reads checkpoints."""

    claim: str
    """What the check proves, in a sentence."""
    check: Callable[[Workbench, Kind], None]
    """Takes a kind of model through it; raises where the claim does not hold."""
    needs: tuple[str, ...] = ()
    """Auto classes, of which it needs one; none: any."""
    lacking: str = ""
    """Why a kind without these is left out."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Kind of model -> why it is left out."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Kind of model -> what is not as with the others."""
    says: tuple[str, ...] = ()
    """Beginnings of what the library warns of, whatever the model; any other warning fails the check."""

    def take(self, bench: Workbench, kind: Kind) -> None:
        """Take a kind of model through.

        Args:
            bench: where its checkpoints lie.
            kind: the kind.

        Raises:
            Exception: the claim does not hold; or AssertionError, something warned.
        """
        with no_warnings(*self.says):
            self.check(bench, kind)

    def left_out(self, name: str, kind: Kind) -> str | None:
        """Return why a kind of model is left out, None for one that is taken through.

        Args:
            name: of the kind.
            kind: the kind.
        """
        if name in self.unfit or kind.family in self.unfit:
            return self.unfit.get(name) or self.unfit[kind.family]
        if self.needs and not set(self.needs) & set(kind.heads):
            return self.lacking
        return None

    def remark(self, name: str, kind: Kind) -> str | None:
        """Return what is not as with the others, None where nothing is; as `left_out`."""
        return self.remarks.get(name) or self.remarks.get(kind.family)
