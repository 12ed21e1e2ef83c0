"""Rows that are filled from the left with examples, or with parts of them."""

import numpy as np

IGNORED_LABEL = -100
_SHORTEST_ROW = 16


def refuse_short_rows(block_size: int) -> None:
    """Make sure that rows are long enough to learn from.

    Args:
        block_size: their length in tokens, which a recipe has in its `objective` section.

    Raises:
        ValueError: they are not.
    """
    if block_size < _SHORTEST_ROW:
        raise ValueError(f"objective.block_size is {block_size}; a row needs at least {_SHORTEST_ROW} tokens")


class RowFiller:
    """A batch of packed rows with a label at every token.

    Args:
        num_rows: rows of the batch.
        width: tokens of a row.
        pad_token_id: stands where nothing is written.
        label_names: what the labels are called.
    """

    def __init__(self, num_rows: int, width: int, *, pad_token_id: int, label_names: tuple[str, ...]) -> None:
        shape = (num_rows, width)
        self.batch = {
            "input_ids": np.full(shape, pad_token_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "position_ids": np.ones(shape, dtype=np.int64),  # padding starts no example
            **{name: np.full(shape, IGNORED_LABEL, dtype=np.int64) for name in label_names},
        }
        self._filled = np.zeros(num_rows, dtype=np.int64)

    def add(self, row: int, input_ids: np.ndarray, *, first_position: int = 0, **labels: np.ndarray) -> None:
        """Write tokens behind those that stand in a row.

        Args:
            row: which row.
            input_ids: (tokens,) what to write.
            first_position: position of the first of them in its example.
            **labels: (tokens,) each, what is to be predicted at them.
        """
        begin = self._filled[row]
        end = begin + len(input_ids)
        self.batch["input_ids"][row, begin:end] = input_ids
        self.batch["attention_mask"][row, begin:end] = 1
        self.batch["position_ids"][row, begin:end] = np.arange(first_position, first_position + len(input_ids))
        for name, of_tokens in labels.items():
            self.batch[name][row, begin:end] = of_tokens
        self._filled[row] = end
