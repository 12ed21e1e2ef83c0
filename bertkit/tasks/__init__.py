"""How labelled text becomes a batch: one file a task, and the table that names them."""

from typing import Any

from bertkit.tasks.multi_label_classification import MultiLabelClassificationTask
from bertkit.tasks.multiple_choice import MultipleChoiceTask
from bertkit.tasks.question_answering import QuestionAnsweringTask
from bertkit.tasks.regression import RegressionTask
from bertkit.tasks.sequence_classification import SequenceClassificationTask
from bertkit.tasks.task import Task
from bertkit.tasks.token_classification import TokenClassificationTask

TASKS: dict[str, type[Task[Any]]] = {
    "sequence_classification": SequenceClassificationTask,
    "multi_label_classification": MultiLabelClassificationTask,
    "regression": RegressionTask,
    "token_classification": TokenClassificationTask,
    "question_answering": QuestionAnsweringTask,
    "multiple_choice": MultipleChoiceTask,
}
