"""What SIGINT and SIGTERM do to a training: they ask it to stop, and it saves a checkpoint first."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_ASKS_TO_STOP = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def caught_signals(say: Callable[[str], None]) -> Iterator[list[str]]:
    """Collect the names of signals instead of dying of them: the loop looks after every step.

    Args:
        say: told of each.
    """
    caught: list[str] = []

    def remember(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)
        say(f"{caught[-1]}: saving a checkpoint and stopping after this step")

    previous = {number: signal.signal(number, remember) for number in _ASKS_TO_STOP}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_signals_to_the_parent(worker: int) -> None:
    """Keep a process that prepares batches alive while its parent finishes the step and saves."""
    for number in _ASKS_TO_STOP:
        signal.signal(number, signal.SIG_IGN)
