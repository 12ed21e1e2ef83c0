"""Smaller and smaller parts of labelled examples, each inside the next larger one."""

from collections.abc import Sequence

from bertkit.data.errors import DataError
from bertkit.data.keyed_random import keyed_permutation
from bertkit.tasks.sources import AnyExample, by_group


def nested_order(examples: Sequence[AnyExample], seed: int) -> list[int]:
    """Order examples so that every beginning of the order has its share of each group, as of each label.

    Args:
        examples: the examples.
        seed: key of the order.

    Returns:
        Their numbers; the first n are the subset of n examples.
    """
    ranked: list[tuple[float, int]] = []
    for group, numbers in by_group(examples).items():
        order = keyed_permutation(len(numbers), seed, "label subset", group)
        # The k-th of m stands where k/m of the order is over, so that groups advance side by side.
        ranked += [((turn + 0.5) / len(numbers), numbers[place]) for turn, place in enumerate(order)]
    return [number for _, number in sorted(ranked)]


def subset(examples: Sequence[AnyExample], size: int, seed: int) -> list[AnyExample]:
    """Return some of the examples, in their order; a smaller subset with the same seed lies within it.

    Args:
        examples: the examples.
        size: how many.
        seed: key of the choice.
    """
    chosen = sorted(nested_order(examples, seed)[:size])
    return [examples[number] for number in chosen]


def sizes_of(fractions: Sequence[float], total: int) -> list[int]:
    """Return numbers of examples.

    Args:
        fractions: each a share of all, up to 1, or a number, above 1.
        total: examples there are.

    Raises:
        DataError: one that is not above 0 or more than there are.

    >>> sizes_of([50, 0.5, 1.0], 300)
    [50, 150, 300]
    """
    sizes = []
    for value in fractions:
        size = round(value * total) if value <= 1 else int(value)
        if not 1 <= size <= total or (value > 1 and value != size):
            raise DataError(
                f"--label_fractions has {value:g}, and there are {total:,} training examples; give numbers of examples, or "
                "shares of them from 0 to 1"
            )
        sizes.append(size)
    return sorted(set(sizes))
