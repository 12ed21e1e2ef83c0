"""How unlabelled text becomes a batch: one file an objective, and the table that names them."""

from bertkit.objectives.masked import MaskedObjective

OBJECTIVES = {
    "masked": MaskedObjective,
}
