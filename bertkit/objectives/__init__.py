"""How unlabelled text becomes a batch: one file an objective, and the table that names them."""

from typing import Any

from bertkit.objectives.bidirectional import BidirectionalObjective
from bertkit.objectives.causal import CausalObjective
from bertkit.objectives.masked import MaskedObjective
from bertkit.objectives.objective import Objective
from bertkit.objectives.seq2seq import Seq2SeqObjective

OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "bidirectional": BidirectionalObjective,
    "causal": CausalObjective,
    "masked": MaskedObjective,
    "seq2seq": Seq2SeqObjective,
}
