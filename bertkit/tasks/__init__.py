"""How labelled text becomes a batch: one file a task, and the table that names them."""

from bertkit.tasks.sequence_classification import SequenceClassificationTask

TASKS = {
    "sequence_classification": SequenceClassificationTask,
}
