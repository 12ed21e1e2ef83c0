"""Perplexity: the exponential of a mean loss, or how many equally likely choices would surprise as much."""

import math


def perplexity(nats: float) -> float:
    """Return the exponential of a mean loss, infinite where it is too large for a number.

    A language that sets no spaces has words of a whole sentence, and a training that diverged any loss.

    >>> perplexity(0.0), perplexity(1e4)
    (1.0, inf)
    """
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
